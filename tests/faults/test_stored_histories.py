"""Test 14: what a released version stored is read by this one, means the same, and is brought to its end."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from benches import many_projects
from builders import Bench
from histories import all_runs, unexplained
from stored_histories import ENDED, STORED, UNDER_WAY, Story, version

from mlops_core.domain import events as ev
from mlops_core.domain.ids import DeploymentName, ModelName, RunId
from mlops_core.domain.machine import advance, settle
from mlops_core.domain.run import Facts, Run, State
from mlops_core.ports import JobStatus
from mlops_core.world import World

CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"
RELEASED = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", CHANGELOG.read_text(), re.MULTILINE)
VERSIONS = sorted(path.stem for path in STORED.glob("*.sql"))


@pytest.fixture(params=VERSIONS)
def left_behind(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """The database of a version, opened by this one."""
    connection = sqlite3.connect(tmp_path / "headrace.db")
    connection.executescript((STORED / f"{request.param}.sql").read_text())
    connection.close()
    bench = many_projects(tmp_path, 0)
    _give_the_world_what_it_had(bench)
    return bench


def _give_the_world_what_it_had(bench: Bench) -> None:
    """The registry's versions and the jobs that run; deployments are made again where they are needed."""
    found = [fact for run in all_runs(bench.app.world) for fact in run.facts.all(ev.ModelFound)]
    for fact in sorted(found, key=lambda each: (each.model, int(each.version))):
        bench.registry.register(fact.model, rmse=50.0)
    for run in all_runs(bench.app.world):
        for job in run.open_jobs():
            bench.jobs.statuses[job.job_name] = JobStatus(job.job_name, None)


def told_differently(world: World, run: Run) -> Iterator[str]:
    """Take a stored history again, and find where this version comes to another state or wants other effects."""
    cleared = {"facts": Facts(), "entries": (), "pending": (), "updated_at": run.created_at, "reason": ""}
    again = settle(run.model_copy(update=cleared))
    for entry in world.runs.history(run.id, limit=10_000).items:
        again = advance(again, entry.event)
        if again.state != entry.to_state:
            yield f"after '{entry.event_id}' run '{run.id}' is '{again.state}', it was '{entry.to_state}'"
    wanted, stored = ({pending.effect.key for pending in each.pending} for each in (again, run))
    if wanted != stored:
        yield f"run '{run.id}' wants {sorted(wanted)}, it wanted {sorted(stored)}"


def test_every_stored_history_leads_to_the_same_states_and_effects(left_behind: Bench) -> None:
    world = left_behind.app.world
    runs = all_runs(world)

    assert len(runs) > len(ENDED) + len(UNDER_WAY)
    assert [problem for run in runs for problem in told_differently(world, run)] == []
    assert list(unexplained(world)) == []


def test_records_beside_the_runs_are_read_as_well(left_behind: Bench) -> None:
    world = left_behind.app.world

    assert len(world.projects.all()) >= len(ENDED) + len(UNDER_WAY)
    assert [letter.kind for letter in world.dead_letters.list().items] == ["effect", "effect"]
    serving = {name: world.models.load(name).value.champion for name in world.models.names()}
    assert [name for name, champion in serving.items() if champion and not world.models.ledger(name).items] == []
    assert sum(champion is not None for champion in serving.values()) >= 9


def test_what_was_under_way_is_brought_to_its_end(left_behind: Bench) -> None:
    bench = left_behind
    before = {run.id for run in all_runs(bench.app.world) if not run.ended and run.state is not State.LIVE}
    bench.settle()
    for run_id in before:
        _go_on(bench, run_id)

    assert len(before) == len(UNDER_WAY)
    assert {run_id: bench.state(run_id) for run_id in before} == dict.fromkeys(before, "live")
    assert list(unexplained(bench.app.world)) == []


def _go_on(bench: Bench, run_id: RunId) -> None:
    run = bench.run(run_id)
    story = Story(bench, int(run.project.removeprefix("p")))
    if run.state is State.AWAITING_APPROVAL:
        story.decide(run_id, "approve")
    elif run.state in (State.BUILDING, State.TRAINING):
        story.train(run_id, rmse=40.0)


def test_a_model_that_a_released_version_served_can_be_rolled_back(left_behind: Bench) -> None:
    bench = left_behind
    bench.settle()
    run_id = bench.app.intake.rollback(ModelName("p0"), request_id="later", by="ada")
    bench.drain()
    bench.settle()

    assert (bench.state(run_id), bench.run(run_id).version) == ("live", "1")
    assert bench.deployer.status(DeploymentName("p0-v1")).state == "ready"


def test_a_machine_that_forgot_a_kind_of_event_is_caught(left_behind: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: an approval that means nothing any more."""
    monkeypatch.setattr("mlops_core.domain.guards.approved.__code__", (lambda run: None).__code__)
    world = left_behind.app.world

    assert [problem for run in all_runs(world) for problem in told_differently(world, run)] != []


@pytest.mark.parametrize("number", sorted({*RELEASED, version()}))
def test_every_released_version_and_this_one_left_its_histories(number: str) -> None:
    """Where this fails: `python tests/faults/stored_histories.py` writes those of the version that is to be released."""
    assert number in VERSIONS


def test_there_is_an_event_of_every_kind_in_the_newest_histories() -> None:
    text = (STORED / f"{version()}.sql").read_text()
    kinds = {kind.model_fields["kind"].default for kind in get_args(get_args(ev.Event)[0])}

    assert {kind for kind in kinds if f'"kind":"{kind}"' not in text} == set()
