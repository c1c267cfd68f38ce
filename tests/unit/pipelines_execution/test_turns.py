"""Jobs take turns: some at once, the others in the order in which they came; the dead are nobody's obstacle."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_core.jobs.turns import NoTurnError, turn

NEVER = threading.Event()


class Waiting:
    """A job in a thread that has its turn until it is told to end."""

    def __init__(self, folder: Path, name: str, began: list[str], at_once: int = 1) -> None:
        self.told: list[str] = []
        self.end = threading.Event()
        self._came = threading.Event()

        def tell(_kind: str, text: str) -> None:
            self.told.append(text)
            self._came.set()

        def work() -> None:
            with turn(folder, name, at_once=at_once, tell=tell, halted=NEVER):
                began.append(name)
                self._came.set()
                self.end.wait(30)

        self.thread = threading.Thread(target=work)
        self.thread.start()
        assert self._came.wait(30)

    def finish(self) -> None:
        self.end.set()
        self.thread.join(30)


def once(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_jobs_have_their_turn_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    began: list[str] = []
    jobs = [Waiting(tmp_path, name, began) for name in ("c", "a", "b")]
    for number, job in enumerate(jobs, 1):
        once(lambda number=number: len(began) == number)  # type: ignore[misc]
        # Somebody who looks only now and then may find that two ended since.
        once(lambda number=number: len(jobs[2].told) == min(number, 2))  # type: ignore[misc]
        job.finish()

    assert began == ["c", "a", "b"]
    assert [job.told for job in jobs] == [
        [],
        ["waits for 1 other job (1 at once)"],
        ["waits for 2 other jobs (1 at once)", "waits for 1 other job (1 at once)"],
    ]


def test_as_many_as_may_work_at_once_do(tmp_path: Path) -> None:
    began: list[str] = []
    jobs = [Waiting(tmp_path, name, began, at_once=2) for name in ("a", "b", "c")]
    seen = list(began)
    for job in jobs:
        job.finish()

    assert seen == ["a", "b"]
    assert jobs[2].told == ["waits for 1 other job (2 at once)"]


def test_a_job_that_was_killed_is_not_waited_for(tmp_path: Path) -> None:
    # Its process is gone, and the lock with it; the file stays.
    (tmp_path / "000000000001-killed").touch()
    told: list[str] = []
    with turn(tmp_path, "next", at_once=1, tell=lambda _kind, text: told.append(text), halted=NEVER):
        left = sorted(path.name for path in tmp_path.iterdir())

    assert told == []
    assert left == ["000000000002-next", "lock"]


def test_a_job_that_is_cancelled_while_it_waits_leaves_the_line(tmp_path: Path) -> None:
    halted = threading.Event()
    with turn(tmp_path, "first", at_once=1, tell=lambda *_: None, halted=NEVER):
        with (
            pytest.raises(NoTurnError, match="'second' was stopped while it waited"),
            turn(tmp_path, "second", at_once=1, tell=lambda *_: halted.set(), halted=halted),
        ):
            raise AssertionError("it must not have its turn")
        left = sorted(path.name for path in tmp_path.iterdir())

    assert left == ["000000000001-first", "lock"]
