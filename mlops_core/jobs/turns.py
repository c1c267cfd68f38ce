"""
Let jobs take turns: as many at once as the machine bears, the others in the order in which they came.

Every waiting or working job holds a numbered ticket, a file with a lock. The lock goes with its process, so that a job
that was killed is nobody's obstacle, and no server is needed to keep the order.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mlops_core.domain.errors import PermanentError
from mlops_core.pipelines.results import Kind

_POLL_SECONDS = 0.25
_TICKET = re.compile(r"(\d{12})-")


class NoTurnError(PermanentError):
    """The job was told to end while it waited for its turn."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Job '{name}' was stopped while it waited for its turn.")
        self.name = name


@contextmanager
def turn(
    folder: Path, name: str, *, at_once: int, tell: Callable[[Kind, str], None], halted: threading.Event
) -> Iterator[None]:
    """
    Wait for a turn and keep it for the length of the block.

    Args:
        folder: Of the tickets; jobs of one folder take turns with each other.
        at_once: Jobs that have their turn at the same time.
        tell: Is told how many jobs are waited for, whenever that changes.
        halted: Ends the waiting.
    Raises: NoTurnError: It was halted first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _ticket(folder, name) as ticket:
        told = 0
        while (ahead := _count_ahead(folder, ticket) - at_once + 1) > 0:
            if ahead != told:
                tell("stage", f"waits for {ahead} other {'job' if ahead == 1 else 'jobs'} ({at_once} at once)")
                told = ahead
            if halted.wait(_POLL_SECONDS):
                raise NoTurnError(name)
        yield


@contextmanager
def _ticket(folder: Path, name: str) -> Iterator[Path]:
    with _alone(folder):
        last = max((number for number, _ in _tickets(folder)), default=0)
        path = folder / f"{last + 1:012d}-{name}"
        held = path.open("x")
        fcntl.flock(held, fcntl.LOCK_EX)
    try:
        yield path
    finally:
        # First away, then free: nobody finds a ticket that is free but still counts.
        path.unlink(missing_ok=True)
        held.close()


def _count_ahead(folder: Path, ticket: Path) -> int:
    """Count the living tickets before this one, and remove those of the dead."""
    with _alone(folder):
        living = 0
        for _, path in sorted(_tickets(folder)):
            if path == ticket:
                break
            with contextlib.suppress(FileNotFoundError), path.open("r+") as other:
                if _is_held(other):
                    living += 1
                else:
                    path.unlink(missing_ok=True)
        return living


def _tickets(folder: Path) -> list[tuple[int, Path]]:
    found = ((_TICKET.match(path.name), path) for path in folder.iterdir())
    return [(int(match[1]), path) for match, path in found if match]


def _is_held(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Look at the tickets alone: whoever tries another's lock holds it for a moment."""
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
