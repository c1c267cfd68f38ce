"""
RELIABILITY 6: repository hosts that answer 30% of all calls with 429, 500 or 503.

Everything completes, what the host asks to wait is waited, and it costs at most three times the calls. A real server, a
clock that tests move. What the layer of retries gives up is delivered again after what it says, as the queue does.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hosts_double import HOSTS, HostsDouble, Trouble, make_repository, project_at, running
from hosts_forms import Call, Reply

from mlops_core.adapters.hosts.http_source import HttpSourceHost
from mlops_core.adapters.http_retry import Timing
from mlops_core.domain.errors import TemporaryError
from mlops_core.domain.ids import CommitId, RunId

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SEED = 6
# As the effect queue: the longer of what is asked and a pause of its own.
QUEUE_SECONDS = 5.0


class RefusingHost:
    """Refuses some of the calls, and looks whether its wish to be left alone is kept."""

    def __init__(self, share: float, clock: Clock) -> None:
        self._random = random.Random(SEED)
        self._share = share
        self._clock = clock
        self._not_before = BEGIN
        self.refused = 0
        self.too_early = 0

    def __call__(self, call: Call) -> Trouble:
        now = self._clock.now()
        if now < self._not_before:
            self.too_early += 1
        if self._random.random() >= self._share:
            return None
        self.refused += 1
        kind = self._random.choice(
            ["429 seconds", "429 date", "403 limit", "500", "503 seconds", "cut before", "cut after"]
        )
        if kind.startswith("cut"):
            return "cut before" if kind == "cut before" else "cut after"
        status = int(kind[:3])
        return Reply(status, {"message": "not now"}, self._asked(kind, now))

    def _asked(self, kind: str, now: datetime) -> dict[str, str]:
        if kind == "500":
            return {}
        seconds = self._random.choice([0, 1, 3, 8, 40])
        self._not_before = now + timedelta(seconds=seconds)
        if kind.endswith("seconds"):
            return {"retry-after": str(seconds)}
        if kind.endswith("limit"):
            return {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(self._not_before.timestamp()))}
        return {"retry-after": format_datetime(self._not_before, usegmt=True)}


@dataclass
class Clock:
    seconds: float = 0.0

    def now(self) -> datetime:
        # Whole seconds: a date in a header has no parts of one.
        return BEGIN + timedelta(seconds=int(self.seconds))

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    @property
    def timing(self) -> Timing:
        return Timing(sleep=self.sleep, monotonic=lambda: self.seconds, now=self.now)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CommitId]:
    bare, commit = make_repository(tmp_path_factory.mktemp("repository"), branches=2)
    return bare, CommitId(commit)


@pytest.fixture
def double(repository: tuple[Path, CommitId]) -> Iterator[HostsDouble]:
    with running() as started:
        for host in HOSTS:
            started.add(host, repository[0])
        yield started


def perform(source: HttpSourceHost, host: str, commit: CommitId, number: int) -> None:
    """Do one of the calls that one request does."""
    project = project_at(host)
    if number % 3 == 0:
        assert source.read_file(project, commit, "mlops.yaml") == b"project: x\n"
    elif number % 3 == 1:
        assert source.heads(project)["main"] == commit
    else:
        state = "pending" if number % 2 else "success"
        source.set_status(project, commit, state=state, description=f"number {number}", run_id=RunId("x-1"))


def until_done(source: HttpSourceHost, host: str, commit: CommitId, number: int, clock: Clock) -> int:
    """Deliver again as the queue does. Returns: How often it was delivered."""
    for delivery in range(1, 20):
        try:
            perform(source, host, commit, number)
        except TemporaryError as error:
            clock.seconds += max(error.retry_after_seconds or 0.0, QUEUE_SECONDS)
        else:
            return delivery
    raise AssertionError(f"call {number} never completed (seed {SEED})")


@pytest.mark.parametrize("wishes", [100, pytest.param(1_000, marks=[pytest.mark.full, pytest.mark.slow])])
def test_hosts_that_refuse_a_third_of_all_calls_are_asked_until_all_is_done(
    wishes: int, double: HostsDouble, repository: tuple[Path, CommitId]
) -> None:
    clock = Clock()
    refusing = RefusingHost(0.3, clock)
    double.trouble = refusing
    sources = {host: double.source(host, timing=clock.timing) for host in HOSTS}
    deliveries = 0
    for number in range(wishes):
        host = HOSTS[number // 3 % len(HOSTS)]
        deliveries += until_done(sources[host], host, repository[1], number, clock)

    assert refusing.refused > wishes // 5
    assert refusing.too_early == 0, "Retry-After was not kept"
    assert len(double.calls) <= 3 * wishes
    assert deliveries <= wishes * 1.5


def test_a_client_without_patience_is_caught(double: HostsDouble, repository: tuple[Path, CommitId]) -> None:
    """Negative control: who repeats at once, whatever the host asks, comes too early."""
    clock = Clock()
    refusing = RefusingHost(0.3, clock)
    double.trouble = refusing
    hasty = Timing(sleep=lambda _: None, monotonic=lambda: 0.0, now=clock.now)
    source = double.source("gitea", timing=hasty)
    for number in range(60):
        until_done(source, "gitea", repository[1], number, Clock())

    assert refusing.too_early > 0
