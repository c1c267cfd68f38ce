"""An effect that is asked to wait for long is neither hurried nor given up; one that is asked for ever is told of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from builders import Bench, make_bench
from fakes import FakeJobRunner

from mlops_core.domain.errors import TemporaryError
from mlops_core.ports import JobRequest, JobStatus


@dataclass
class Throttled(FakeJobRunner):
    """A job runner that asks to wait."""

    seconds: float | None = 1_800.0
    asked: int = 0
    open_at: int = 10**9
    """From which submission on it takes jobs."""
    at: list[datetime] = field(default_factory=list)
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def submit(self, request: JobRequest) -> JobStatus | None:
        self.asked += 1
        self.at.append(self.now())
        if self.asked < self.open_at:
            raise TemporaryError("Azure asks to wait", retry_after_seconds=self.seconds)
        return super().submit(request)


@pytest.fixture
def runner() -> Throttled:
    return Throttled()


@pytest.fixture
def bench(tmp_path: Path, runner: Throttled) -> Bench:
    made = make_bench(tmp_path, wrap=lambda world: replace(world, jobs=runner))
    runner.now = made.clock.now
    return made


def test_a_long_wait_uses_up_no_tries_and_ends_in_the_job(bench: Bench, runner: Throttled) -> None:
    runner.open_at, runner.seconds = 12, 200.0
    run_id = bench.push()
    bench.drain()
    assert runner.asked == 1, "its message is done with"

    bench.settle(60)

    assert runner.asked == 12
    assert min(later - sooner for sooner, later in pairwise(runner.at)) >= timedelta(seconds=200)
    assert list(runner.launches.values()) == [1]
    assert bench.state(run_id) == "building"
    assert bench.app.world.dead_letters.list().items == []


def test_who_asks_to_wait_for_hours_is_given_up_with_what_it_said(bench: Bench, runner: Throttled) -> None:
    run_id = bench.push()
    bench.drain()
    bench.clock.advance(2 * 3_600 + 60)
    bench.app.reconciler.runs()
    bench.drain()

    assert bench.state(run_id) == "failed"
    (letter,) = bench.app.world.dead_letters.list().items
    assert "Azure asks to wait" in letter.reason


def test_a_trouble_that_says_nothing_of_its_end_is_tried_five_times(bench: Bench, runner: Throttled) -> None:
    runner.seconds = None
    run_id = bench.push()
    bench.drain()

    assert runner.asked == 5
    assert bench.state(run_id) == "failed"


def test_a_short_wait_is_tried_five_times_and_again_each_minute(bench: Bench, runner: Throttled) -> None:
    runner.open_at, runner.seconds = 11, 5.0
    run_id = bench.push()
    bench.drain()
    assert (runner.asked, bench.state(run_id)) == (5, "building")

    bench.settle(3)

    assert list(runner.launches.values()) == [1]
    assert bench.app.world.dead_letters.list().items == []
