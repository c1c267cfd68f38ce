"""Test 16: of many quick pushes to a branch the newest commit ends live, and never an older one over a newer."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from benches import quick_bench
from builders import MANIFEST, PROJECT, Bench, commit_id, push
from fakes import START
from histories import ledger_conflicts, unexplained, unsettled

from mlops_core.domain.ids import JobName, ModelName
from mlops_core.domain.model import LockAnswer, Model, ReleaseLock
from mlops_core.domain.run import State

PACES = [1, 7, 1000, None]
PACE_NAMES = ["a second apart", "seven a second", "all in one second", "without times"]
WITHOUT_GATES = MANIFEST.partition(b"release:")[0]


def push_all(bench: Bench, count: int, random: Random, *, per_second: int | None) -> None:
    """
    Tell of the pushes in any order, some twice, while messages are delivered and jobs end in any order.

    Args:
        per_second: None for a host that tells no times: a push is of the time at which it was heard of.
    """
    pushes = [
        push(number, at=_moment(number, per_second or 1), before=number - 1 or None) for number in range(1, count + 1)
    ]
    waiting = pushes + random.sample(pushes, count // 5)
    random.shuffle(waiting)
    if per_second is None:
        bench.app.world.projects.put(replace(PROJECT, host="gitea"))
        bench.source.branches["main"] = commit_id(count)
        waiting = [
            each.model_copy(update={"host": "gitea", "pushed_at": _moment(len(waiting) - place, 1)})
            for place, each in enumerate(waiting)
        ]
    while waiting:
        for _ in range(random.randint(1, 4)):
            if waiting:
                bench.app.intake.push(waiting.pop())
        if random.random() < 0.5:
            bench.drain()
        end_some_jobs(bench, random)
    for _ in range(12):
        bench.settle(rounds=1)
        end_some_jobs(bench, random, share=1.0)
    bench.settle()


def _moment(number: int, per_second: int) -> datetime:
    return START - timedelta(hours=1) + timedelta(seconds=number // per_second)


def end_some_jobs(bench: Bench, random: Random, *, share: float = 0.2) -> None:
    running = [name for name, status in bench.jobs.statuses.items() if status.outcome is None]
    for name in random.sample(running, int(len(running) * share)):
        if name.endswith("-train"):
            bench.registry.register("diabetes", name, rmse=50.0)
        bench.jobs.end(name, "succeeded")
        bench.app.intake.job_told(JobName(name), "succeeded")


def violations(folder: Path, *, count: int, seed: int, per_second: int | None) -> list[str]:
    bench = quick_bench(folder / str(seed), manifest=WITHOUT_GATES, seed=seed)
    push_all(bench, count, Random(seed), per_second=per_second)
    champion = bench.app.world.models.load(ModelName("diabetes")).value.champion
    newest = f"diabetes-{commit_id(count)[:12]}"
    wrong = [] if champion and champion.run_id == newest else [f"the champion is {champion}, not run '{newest}'"]
    if bench.state(newest) != State.LIVE:  # type: ignore[arg-type] - a run id made here
        wrong.append(f"the newest push is '{bench.state(newest)}'")  # type: ignore[arg-type] - the same
    world = bench.app.world
    wrong += [*unexplained(world), *unsettled(bench), *ledger_conflicts(world)]
    bench.database.close()
    return [f"seed {seed}: {each}" for each in wrong]


@pytest.mark.parametrize("per_second", PACES, ids=PACE_NAMES)
def test_the_newest_of_fifteen_quick_pushes_ends_live(tmp_path: Path, per_second: int | None) -> None:
    assert violations(tmp_path, count=15, seed=per_second or 0, per_second=per_second) == []


@pytest.mark.full
@pytest.mark.parametrize("per_second", PACES, ids=PACE_NAMES)
@pytest.mark.parametrize("seed", range(5))
def test_the_newest_of_a_hundred_quick_pushes_ends_live(tmp_path: Path, per_second: int | None, seed: int) -> None:
    assert violations(tmp_path, count=100, seed=seed, per_second=per_second) == []


def test_a_release_that_does_not_look_for_newer_pushes_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: whoever comes to the release gets it."""

    def take(model: Model, wanted: ReleaseLock, *, outdated: bool = False) -> tuple[Model, LockAnswer]:
        return model.model_copy(update={"lock": wanted}), LockAnswer.TAKEN

    monkeypatch.setattr(Model, "with_lock", take)
    monkeypatch.setattr("mlops_core.services.policy.is_newer", lambda *_: False)

    assert violations(tmp_path, count=15, seed=3, per_second=1) != []


def test_a_push_is_not_superseded_by_a_newer_one_that_is_skipped(tmp_path: Path) -> None:
    """The newer push touches nothing that counts, so the older one is what has to be delivered."""
    manifest = WITHOUT_GATES + b"triggers: {paths: [src/*]}\n"
    bench = quick_bench(tmp_path, manifest=manifest)
    (older,) = bench.app.intake.push(push(1).model_copy(update={"changed": ("src/train.py",)}))
    (newer,) = bench.app.intake.push(push(2).model_copy(update={"changed": ("README.md",)}))
    bench.queue.messages.sort(key=lambda message: older not in message)
    bench.drain()

    assert (bench.state(older), bench.state(newer)) == ("building", "skipped")
