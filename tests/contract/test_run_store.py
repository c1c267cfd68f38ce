"""What every `RunStore` must do. An adapter joins with a class that overrides `make`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from azurite import Azurite, fresh_tables
from fakes import START

from mlops_core.adapters.azure.run_store import TableRunStore
from mlops_core.adapters.local.database import Database
from mlops_core.adapters.local.run_store import SqliteRunStore
from mlops_core.domain import events as ev
from mlops_core.domain.errors import DuplicateEventError, NotFoundError, StaleRunError
from mlops_core.domain.ids import JobName, ModelName, ModelVersion, ProjectName, RunId
from mlops_core.domain.machine import advance, settle
from mlops_core.domain.run import Run, Trigger
from mlops_core.ports import RunStore


def make_run(number: int = 1, *, project: str = "diabetes", branch: str = "main") -> Run:
    created = START + timedelta(seconds=number)
    return settle(
        Run(
            id=RunId(f"{project}-{number:04}"),
            project=ProjectName(project),
            trigger=Trigger(kind="push", ordinal=created, branch=branch),
            created_at=created,
            updated_at=created,
        )
    )


def job_submitted(seconds: int = 1) -> ev.JobSubmitted:
    return ev.JobSubmitted(
        at=START + timedelta(seconds=seconds), stage="build", job_name=JobName("diabetes-0001-build")
    )


def save(store: RunStore, run: Run, event: ev.Event, read_version: int = 1) -> Run:
    after = advance(run, event)
    store.commit(after, read_version=read_version, event=event, entry_reason="because", recorded_at=START)
    return after


class RunStoreContract:
    """The suite."""

    def test_a_run_is_read_back_as_it_was_created(self, store: RunStore) -> None:
        assert store.create(make_run())

        assert store.load(RunId("diabetes-0001")).value == make_run()

    def test_creating_a_run_again_changes_nothing(self, store: RunStore) -> None:
        store.create(make_run())
        saved = save(store, make_run(), job_submitted())

        assert not store.create(make_run())
        assert store.load(saved.id).value == saved

    def test_a_run_that_is_not_there_is_not_found(self, store: RunStore) -> None:
        with pytest.raises(NotFoundError, match="no run 'nobody'"):
            store.load(RunId("nobody"))

    def test_a_commit_saves_the_run_and_its_event_together(self, store: RunStore) -> None:
        store.create(make_run())
        saved = save(store, make_run(), job_submitted())

        assert store.load(saved.id).value == saved
        assert [entry.event for entry in store.history(saved.id).items] == [job_submitted()]

    def test_a_commit_over_somebody_elses_is_refused_whole(self, store: RunStore) -> None:
        store.create(make_run())
        saved = save(store, make_run(), job_submitted())
        cancelled = ev.RunCancelled(at=START, by="ada", reason="")

        with pytest.raises(StaleRunError, match="read version 1, found 2"):
            save(store, make_run(), cancelled, read_version=1)
        assert store.load(saved.id).value == saved
        assert len(store.history(saved.id).items) == 1

    def test_an_event_taken_before_is_refused_whole(self, store: RunStore) -> None:
        store.create(make_run())
        saved = save(store, make_run(), job_submitted())

        with pytest.raises(DuplicateEventError):
            save(store, saved, job_submitted(seconds=9), read_version=2)
        assert store.load(saved.id).version == 2

    def test_a_history_is_read_by_page_in_the_order_it_was_taken(self, store: RunStore) -> None:
        store.create(make_run())
        run = save(store, make_run(), job_submitted())
        run = save(store, run, ev.RunCancelled(at=START, by="ada", reason=""), read_version=2)
        first = store.history(run.id, limit=1)
        second = store.history(run.id, after=int(first.cursor or 0), limit=1)

        assert [entry.event.kind for entry in [*first.items, *second.items]] == ["job_submitted", "run_cancelled"]
        assert second.cursor is None

    def test_runs_are_listed_newest_first_by_page(self, store: RunStore) -> None:
        for number in range(1, 6):
            store.create(make_run(number))
        first = store.of_project(ProjectName("diabetes"), limit=3)
        second = store.of_project(ProjectName("diabetes"), limit=3, cursor=first.cursor)

        listed = [run.id for run in [*first.items, *second.items]]
        assert listed == [f"diabetes-{number:04}" for number in (5, 4, 3, 2, 1)]

    def test_a_list_of_one_project_leaves_out_the_others(self, store: RunStore) -> None:
        store.create(make_run(1))
        store.create(make_run(2, project="taxi"))

        assert [run.project for run in store.of_project(ProjectName("taxi")).items] == ["taxi"]
        assert len(store.of_project(None).items) == 2

    def test_active_runs_are_listed_by_page_until_nothing_is_left_to_do(self, store: RunStore) -> None:
        for number in range(1, 4):
            store.create(make_run(number))
        first = store.active(limit=2)
        second = store.active(limit=2, cursor=first.cursor)

        assert [*first.items, *second.items] == ["diabetes-0001", "diabetes-0002", "diabetes-0003"]

    def test_a_run_with_nothing_left_to_do_is_not_active(self, store: RunStore) -> None:
        store.create(make_run())
        run = save(store, make_run(), ev.RunCancelled(at=START, by="ada", reason=""))
        for version, pending in enumerate(run.pending, start=2):
            run = save(store, run, ev.EffectDone(at=START, key=pending.effect.key), read_version=version)

        assert list(store.active().items) == []

    def test_active_runs_of_a_branch_leave_out_other_branches_and_ended_runs(self, store: RunStore) -> None:
        store.create(make_run(1))
        store.create(make_run(2, branch="feature"))
        store.create(make_run(3))
        save(store, make_run(3), ev.RunCancelled(at=START, by="ada", reason=""))

        assert [run.id for run in store.active_on_branch(ProjectName("diabetes"), "main")] == ["diabetes-0001"]

    def test_a_run_is_found_by_its_job(self, store: RunStore) -> None:
        store.create(make_run())
        save(store, make_run(), job_submitted())

        assert store.of_job(JobName("diabetes-0001-build")) == "diabetes-0001"
        assert store.of_job(JobName("somebody-else-build")) is None

    def test_a_run_is_found_by_the_version_that_it_releases(self, store: RunStore) -> None:
        from builders import MANIFEST

        from mlops_core.manifest import read_manifest

        store.create(make_run())
        policy = ev.PolicyDecided(at=START, decision="deliver", reason="", spec=read_manifest(MANIFEST))
        run = save(store, make_run(), policy)
        found = ev.ModelFound(at=START, model=ModelName("diabetes"), version=ModelVersion("4"))
        save(store, run, found, read_version=2)

        assert store.of_version(ModelName("diabetes"), ModelVersion("4")) == "diabetes-0001"
        assert store.of_version(ModelName("diabetes"), ModelVersion("5")) is None


class TestSqliteRunStore(RunStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[RunStore]:
        database = Database(tmp_path / "headrace.db")
        yield SqliteRunStore(database)
        database.close()

    def test_what_was_committed_is_there_after_the_file_is_opened_again(self, tmp_path: Path) -> None:
        first = Database(tmp_path / "again.db")
        SqliteRunStore(first).create(make_run())
        first.close()
        second = Database(tmp_path / "again.db")

        assert SqliteRunStore(second).load(RunId("diabetes-0001")).version == 1
        second.close()


class TestTableRunStore(RunStoreContract):
    @pytest.fixture
    def store(self, storage: Azurite) -> RunStore:
        return TableRunStore(fresh_tables(storage))

    def test_what_was_committed_is_there_for_another_process(self, storage: Azurite) -> None:
        tables = fresh_tables(storage)
        TableRunStore(tables).create(make_run())
        second = TableRunStore(tables)

        saved = save(second, make_run(), job_submitted())
        assert TableRunStore(tables).load(saved.id).value == saved
