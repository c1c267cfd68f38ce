"""Tests 19 and 20, where the core is concerned: replayed pushes launch nothing more, unlisted branches never train."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from benches import quick_bench
from builders import Bench, commit_id, push

from mlops_core.domain.errors import NotFoundError
from mlops_core.domain.ids import JobName, RunId
from mlops_core.services.intake import Intake
from mlops_core.services.policy import Policy

LISTED = b"""
project: diabetes
triggers: {branches: [main, "release/*"]}
train: {pipeline: azureml/pipeline.yml, model: diabetes}
"""


def end_all_jobs(bench: Bench) -> None:
    for _ in range(3):
        running = [name for name, status in bench.jobs.statuses.items() if status.outcome is None]
        for name in running:
            if name.endswith("-train"):
                bench.registry.register("diabetes", name)
            bench.jobs.end(name, "succeeded")
            bench.app.intake.job_told(JobName(name), "succeeded")
        bench.settle(rounds=1)


def replay(folder: Path, deliveries: int) -> tuple[dict[JobName, int], dict[JobName, int]]:
    """Deliver pushes, then the same ones again under new ids, at other times, after everything has happened."""
    bench, random = quick_bench(folder), Random(19)
    pushes = [push(number) for number in range(1, 6)]
    for told in pushes:
        bench.app.intake.push(told)
        end_all_jobs(bench)
    before = dict(bench.jobs.launches)
    for number in range(deliveries):
        told = random.choice(pushes)
        late = {"delivery_id": f"new-{number}", "pushed_at": told.pushed_at + timedelta(days=number)}
        bench.app.intake.push(told.model_copy(update=late))
        if number % 100 == 0:
            end_all_jobs(bench)
    end_all_jobs(bench)
    return before, bench.jobs.launches


def test_fifty_deliveries_replayed_under_new_ids_launch_nothing(tmp_path: Path) -> None:
    before, after = replay(tmp_path, 50)

    assert after == before


@pytest.mark.full
def test_a_thousand_deliveries_replayed_under_new_ids_launch_nothing(tmp_path: Path) -> None:
    before, after = replay(tmp_path, 1_000)

    assert after == before


def test_runs_named_after_their_delivery_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a run that is named after what the host calls its delivery."""
    counter = iter(range(10_000))
    monkeypatch.setattr(Intake, "run_of", lambda _, record, push: RunId(f"{record.name}-{next(counter)}"))
    monkeypatch.setattr(Policy, "_known_commit", lambda *_: None)
    before, after = replay(tmp_path, 50)

    assert after != before


def unlisted(folder: Path, events: int) -> Bench:
    """Push to branches that nobody listed, and move refs to commits that are known."""
    bench, random = quick_bench(folder, manifest=LISTED), Random(20)
    known = push(1)
    bench.app.intake.push(known)
    end_all_jobs(bench)
    for number in range(2, events + 2):
        branch = random.choice(["feature", "Main", "main2", "releases/1", "x/main", "release", "dependabot/main"])
        moved = random.random() < 0.3
        bench.app.intake.push(push(1 if moved else number, branch="main" if moved else f"{branch}-{number}"))
        if number % 50 == 0:
            end_all_jobs(bench)
    end_all_jobs(bench)
    return bench


def trained(bench: Bench) -> list[str]:
    return [name for name in bench.jobs.launches if name.endswith("-train")]


def test_thirty_pushes_to_unlisted_branches_and_moved_refs_train_nothing(tmp_path: Path) -> None:
    bench = unlisted(tmp_path, 30)

    assert trained(bench) == [f"diabetes-{commit_id(1)[:12]}-train"]


@pytest.mark.full
def test_five_hundred_pushes_to_unlisted_branches_and_moved_refs_train_nothing(tmp_path: Path) -> None:
    bench = unlisted(tmp_path, 500)

    assert trained(bench) == [f"diabetes-{commit_id(1)[:12]}-train"]


def test_a_listed_branch_trains(tmp_path: Path) -> None:
    """The other side: the tests above would pass with a controller that never trains."""
    bench = quick_bench(tmp_path, manifest=LISTED)
    bench.push(1, branch="release/1")
    end_all_jobs(bench)

    assert len(trained(bench)) == 1


def test_a_repository_that_nobody_allowed_starts_nothing(tmp_path: Path) -> None:
    bench = quick_bench(tmp_path)
    fork = push().model_copy(update={"repository": "somebody/fork"})

    with pytest.raises(NotFoundError, match="no registered repository"):
        bench.app.intake.push(fork)
    assert list(bench.app.world.runs.of_project(None).items) == []
