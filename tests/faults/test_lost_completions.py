"""Test 10: when no completion event ever comes, two reconciling rounds find out all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from benches import many_projects, push_to
from builders import Bench

from mlops_core.domain.ids import JobName, RunId
from mlops_core.services.reconcile import Reconciler

ROUNDS = 2


def states(bench: Bench, runs: list[RunId]) -> set[str]:
    return {bench.state(run_id) for run_id in runs}


def complete_unheard(bench: Bench, runs: list[RunId], stage: str, *, outcome: str = "succeeded") -> None:
    """The jobs end, and nobody tells."""
    for run_id in runs:
        if stage == "train":
            bench.registry.register(bench.run(run_id).project, f"{run_id}-train", rmse=50.0)
        bench.jobs.end(JobName(f"{run_id}-{stage}"), outcome)  # type: ignore[arg-type] - a literal of this module
    bench.settle(rounds=ROUNDS)


def deliveries(folder: Path, count: int) -> None:
    bench = many_projects(folder, count)
    runs = [push_to(bench, number) for number in range(count)]
    bench.drain()
    complete_unheard(bench, runs, "build")
    assert states(bench, runs) == {"training"}
    complete_unheard(bench, runs, "train")
    assert states(bench, runs) == {"live"}
    assert set(bench.jobs.launches.values()) == {1}
    bench.database.close()


def test_ten_deliveries_without_a_completion_event_go_live(tmp_path: Path) -> None:
    deliveries(tmp_path, 10)


@pytest.mark.full
def test_two_hundred_deliveries_without_a_completion_event_go_live(tmp_path: Path) -> None:
    deliveries(tmp_path, 200)


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_a_job_that_ends_badly_and_unheard_ends_its_run(tmp_path: Path, outcome: str) -> None:
    """Azure ML tells of no failed or cancelled job."""
    bench = many_projects(tmp_path, 1)
    runs = [push_to(bench, 0)]
    bench.drain()
    complete_unheard(bench, runs, "build", outcome=outcome)

    assert states(bench, runs) == {outcome}


def test_a_controller_that_only_listens_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: reconciling that sends hints again but asks nobody."""
    monkeypatch.setattr(Reconciler, "_ask_for_jobs", lambda *_: None)

    with pytest.raises(AssertionError):
        deliveries(tmp_path, 2)
