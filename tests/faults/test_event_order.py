"""Test 3: events that come three times and in any order end as they do once and in order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from benches import quick_bench
from builders import SMOKED, Bench
from fakes import START

from mlops_core.domain import events as ev
from mlops_core.domain.ids import EffectKey, JobName, ModelName, ModelVersion, RunId
from mlops_core.domain.run import Facts
from mlops_core.manifest import read_manifest

SPEC = read_manifest(SMOKED)
Told = tuple[RunId, ev.Event]


def story(run_id: RunId, random: Random) -> Iterator[ev.Event]:
    """Make up what may happen to a run, up to a random moment, with a random trouble."""
    version, moment = ModelVersion("1"), iter(START + timedelta(seconds=second) for second in range(60))
    build, train = JobName(f"{run_id}-build"), JobName(f"{run_id}-train")
    trouble = random.choice(["none", "none", "build", "train", "cancel", "smoke", "effect", "supersede"])
    yield ev.PolicyDecided(at=next(moment), decision="deliver", reason="main delivers", spec=SPEC)
    yield ev.JobSubmitted(at=next(moment), stage="build", job_name=build)
    outcome = "failed" if trouble == "build" else "succeeded"
    yield ev.JobEnded(at=next(moment), stage="build", job_name=build, outcome=outcome)
    if trouble == "cancel":
        yield ev.RunCancelled(at=next(moment), by="ada", reason="")
    if trouble == "supersede":
        yield ev.Superseded(at=next(moment), by_run=RunId("other"), reason="newer")
    yield ev.JobSubmitted(at=next(moment), stage="train", job_name=train)
    yield ev.ModelAnnounced(at=next(moment), model=ModelName("diabetes"), version=version)
    outcome = "failed" if trouble == "train" else "succeeded"
    yield ev.JobEnded(at=next(moment), stage="train", job_name=train, outcome=outcome)
    yield ev.ModelFound(at=next(moment), model=ModelName("diabetes"), version=version)
    yield ev.GatesJudged(at=next(moment), version=version, champion=None, verdicts=())
    yield ev.ReleaseLockTaken(at=next(moment), champion=None)
    yield ev.DeploymentRequested(at=next(moment), version=version)
    if trouble == "effect":
        key = EffectKey("smoke:staging")
        yield ev.EffectFailed(at=next(moment), key=key, reason="no answer")
        yield ev.EffectReplayed(at=next(moment), key=key, attempt=1, by="ada")
        yield ev.ReleaseLockTaken(at=next(moment), champion=None, revival=1)
        yield ev.DeploymentReady(at=next(moment), version=version, revival=1)
    yield ev.DeploymentReady(at=next(moment), version=version)
    yield ev.SmokeTested(at=next(moment), stage="staging", passed=trouble != "smoke", reason="said so")
    if random.random() < 0.7:
        yield ev.TrafficShifted(at=next(moment), version=version, previous=None)
    if random.random() < 0.3:
        yield ev.Retired(at=next(moment), by_run=RunId("other"), reason="newer")


def told(bench: Bench, random: Random, *, at_least: int) -> list[Told]:
    events: list[Told] = []
    number = 0
    while len(events) < at_least:
        number += 1
        run_id = bench.push(number)
        events += [(run_id, event) for event in story(run_id, random)]
    return events


def ends(bench: Bench, events: list[Told]) -> dict[RunId, tuple[str, Facts]]:
    """Take the events in this order, and tell where the runs ended."""
    for run_id, event in events:
        bench.app.controller.take(run_id, event)
        bench.queue.messages.clear()
    runs = (bench.run(run_id) for run_id in {run_id for run_id, _ in events})
    return {run.id: (str(run.state), run.facts) for run in runs}


def disordered(folder: Path, *, seed: int, at_least: int) -> tuple[dict[RunId, object], dict[RunId, object]]:
    in_order = quick_bench(folder / "in-order")
    events = told(in_order, Random(seed), at_least=at_least)
    expected = ends(in_order, events)
    shuffled = events * 3
    Random(seed).shuffle(shuffled)
    other = quick_bench(folder / "shuffled")
    assert [run_id for run_id, _ in told(other, Random(seed), at_least=at_least)] == [run_id for run_id, _ in events]
    found = ends(other, shuffled)
    in_order.database.close()
    other.database.close()
    return dict(expected), dict(found)


@pytest.mark.parametrize("seed", range(3))
def test_three_hundred_events_tripled_and_shuffled_end_as_in_order(tmp_path: Path, seed: int) -> None:
    expected, found = disordered(tmp_path, seed=seed, at_least=300)

    assert found == expected


@pytest.mark.full
@pytest.mark.parametrize("seed", range(20))
def test_ten_thousand_events_tripled_and_shuffled_end_as_in_order(tmp_path: Path, seed: int) -> None:
    expected, found = disordered(tmp_path, seed=seed, at_least=10_000)

    assert found == expected


def test_facts_that_keep_the_last_answer_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a design that steps from event to event, the last one winning."""

    def last_wins(facts: Facts, event: ev.Event) -> Facts:
        return Facts(slots={**facts.slots, event.kind: event})

    monkeypatch.setattr(Facts, "joined", last_wins)
    expected, found = disordered(tmp_path, seed=1, at_least=200)

    assert found != expected
