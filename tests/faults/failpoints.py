"""
Failpoints instead of sleeps: every call that the core makes of a port passes a gate, which may crash it there.

A point is a call's number and a side of it: before (nothing happened yet) or after (it happened, and nobody was told).
"""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from mlops_core.world import World

PORTS = ("runs", "models", "projects", "dead_letters", "queue", "bus", "jobs", "registry", "deployer")


class Crash(BaseException):
    """The process ends here."""


class Point(NamedTuple):
    """Where to crash."""

    call: int
    side: Literal["before", "after"]


def raise_crash() -> None:
    """End what this test calls its process."""
    raise Crash


@dataclass
class Gate:
    """Counts calls, and crashes at one of them."""

    at: Point | None = None
    crash: Callable[[], None] = field(default=raise_crash)
    calls: list[str] = field(default_factory=list)

    def pass_through(self, name: str, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self.calls.append(name)
        number = len(self.calls)
        if self.at == (number, "before"):
            self.crash()
        try:
            return call(*args, **options)
        finally:
            if self.at == (number, "after"):
                self.crash()


def kill_self() -> None:
    """End this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def stop_self() -> None:
    """Stop this process until somebody continues it, as an instance that is frozen."""
    os.kill(os.getpid(), signal.SIGSTOP)


class Gated:
    """A port whose every method passes the gate."""

    def __init__(self, inner: object, name: str, gate: Gate) -> None:
        self._inner, self._name, self._gate = inner, name, gate

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._inner, method)
        return functools.partial(self._gate.pass_through, f"{self._name}.{method}", call)


def gated(world: World, gate: Gate) -> World:
    """Put a gate in front of every port, the clock excepted."""
    ports: dict[str, Any] = {name: Gated(getattr(world, name), name, gate) for name in PORTS}
    sources: Any = {host: Gated(source, "source", gate) for host, source in world.sources.items()}
    return dataclasses.replace(world, sources=sources, **ports)
