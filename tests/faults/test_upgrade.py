"""While an upgrade lasts, instances of the old and the new version work on one store, whose schema the new one raises."""

from __future__ import annotations

import logging
import uuid
from dataclasses import replace
from pathlib import Path

import builders
import pytest
from azurite import Azurite, on_tables
from benches import quick_bench
from builders import PROJECT, Bench, commit_id
from repeats import Cutting

from mlops_core.adapters.azure import rows
from mlops_core.domain.errors import TemporaryError
from mlops_core.domain.ids import JobName, run_of_push
from mlops_core.world import World


class Upgrade:
    """One store, and an instance of each version on it. Whoever is called knows its own schema only."""

    def __init__(self, folder: Path, storage: Azurite, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        prefix = f"t{uuid.uuid4().hex[:20]}"
        builders.STORES.append(lambda world: on_tables(world, Cutting().tables(storage, prefix)))
        (folder / "old").mkdir()
        (folder / "new").mkdir()
        self._old = quick_bench(folder / "old")
        self._new = quick_bench(folder / "new", wrap=self._outside)
        builders.STORES.clear()

    def _outside(self, world: World) -> World:
        """Take the old instance's queue, jobs and so on: there is one of each."""
        old = self._old.app.world
        shared = ("queue", "bus", "jobs", "registry", "deployer", "sources", "clock")
        return replace(world, **{name: getattr(old, name) for name in shared})

    @property
    def old(self) -> Bench:
        self._patch.setattr(rows, "SCHEMA", 1)
        return self._old

    @property
    def new(self) -> Bench:
        self._patch.setattr(rows, "SCHEMA", 2)
        outside = ("clock", "queue", "bus", "jobs", "registry", "deployer", "source")
        return replace(self._new, **{name: getattr(self._old, name) for name in outside})


@pytest.fixture
def upgrade(tmp_path: Path, storage: Azurite, monkeypatch: pytest.MonkeyPatch) -> Upgrade:
    return Upgrade(tmp_path, storage, monkeypatch)


def test_what_the_old_version_began_the_new_one_brings_to_its_end(upgrade: Upgrade) -> None:
    run_id = upgrade.old.push(1)
    upgrade.old.drain()
    upgrade.new.deliver(run_id)
    assert upgrade.new.state(run_id) == "live"
    assert set(upgrade.new.jobs.launches.values()) == {1}


def test_an_old_instance_has_deliveries_about_newer_records_repeated_and_writes_nothing(upgrade: Upgrade) -> None:
    run_id = upgrade.old.push(1)
    upgrade.new.drain()
    job = JobName(f"{run_id}-build")
    upgrade.new.jobs.end(job, "succeeded")
    with pytest.raises(TemporaryError, match="An upgrade is under way") as told:
        upgrade.old.app.intake.job_told(job, "succeeded")
    assert told.value.retry_after_seconds == 30
    assert upgrade.new.state(run_id) == "building"
    upgrade.new.app.intake.job_told(job, "succeeded")
    assert upgrade.new.state(run_id) == "training"


def test_an_old_instance_that_looks_after_runs_leaves_newer_ones_alone_and_goes_on_with_its_own(
    upgrade: Upgrade, caplog: pytest.LogCaptureFixture
) -> None:
    own, newer = upgrade.old.push(1), upgrade.old.push(2, branch="feature")
    upgrade.old.drain()
    upgrade.new.end_job(newer, "build")
    assert upgrade.new.state(newer) == "built"
    later = upgrade.new.push(3, branch="feature")
    upgrade.new.drain()
    upgrade.old.jobs.end(JobName(f"{own}-build"), "succeeded")
    with caplog.at_level(logging.WARNING):
        assert upgrade.old.app.reconciler.runs() == 2
    (left,) = [record for record in caplog.records if record.message == "could not be reconciled"]
    assert vars(left)["subject"] == later
    assert upgrade.old.state(own) == "training", "it was asked for, since nobody had told of it"
    assert upgrade.new.app.world.dead_letters.list().items == []


def test_a_push_that_an_old_instance_cannot_take_any_more_is_found_at_its_branch(upgrade: Upgrade) -> None:
    """A host such as GitHub does not deliver again what was answered 503."""
    projects = upgrade.new.app.world.projects
    projects.put(replace(projects.get(PROJECT.name), known_heads={"main": commit_id(1)}))
    with pytest.raises(TemporaryError, match="An upgrade is under way"):
        upgrade.old.push(2)
    commit = commit_id(2)
    upgrade.new.source.branches["main"] = commit
    upgrade.new.app.reconciler.heads()
    assert upgrade.new.state(run_of_push(PROJECT.name, commit)) == "received"
