"""What every `ModelStore` must do. An adapter joins by a class with a `store`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from azurite import Azurite, fresh_tables
from fakes import START
from repeats import Cutting

from mlops_core.adapters.azure.model_store import TableModelStore
from mlops_core.adapters.local.database import Database
from mlops_core.adapters.local.model_store import SqliteModelStore
from mlops_core.domain.errors import PermanentError, StaleRunError
from mlops_core.domain.ids import ModelName, ModelVersion, ProjectName, RunId
from mlops_core.domain.model import LedgerEntry, LockAnswer, Model, Release, ReleaseLock
from mlops_core.ports import ModelStore

NAME = ModelName("diabetes")


def release(version: int) -> Release:
    moment = START + timedelta(seconds=version)
    return Release(
        version=ModelVersion(str(version)),
        run_id=RunId(f"diabetes-{version}"),
        project=ProjectName("diabetes"),
        ordinal=moment,
        since=moment,
    )


def lock(version: int) -> ReleaseLock:
    made = release(version)
    return ReleaseLock(run_id=made.run_id, version=made.version, ordinal=made.ordinal)


def entry(version: int) -> LedgerEntry:
    made = release(version)
    return LedgerEntry(at=made.since, version=made.version, traffic_weight=1.0, run_id=made.run_id, reason="push")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "headrace.db")
    yield made
    made.close()


class ModelStoreContract:
    """The suite."""

    def test_a_model_never_heard_of_is_empty_with_version_zero(self, store: ModelStore) -> None:
        stored = store.load(NAME)

        assert (stored.value, stored.version) == (Model(name=NAME), 0)

    def test_a_model_is_read_back_as_it_was_saved(self, store: ModelStore) -> None:
        model = Model(name=NAME).with_champion(release(1))
        version = store.commit(model, read_version=0)

        assert (store.load(NAME).value, store.load(NAME).version) == (model, version)
        assert list(store.names()) == [NAME]

    def test_a_save_over_somebody_elses_is_refused_whole(self, store: ModelStore) -> None:
        store.commit(Model(name=NAME), read_version=0)

        with pytest.raises(StaleRunError):
            store.commit(Model(name=NAME).with_champion(release(1)), read_version=0, ledger=[entry(1)])
        assert store.load(NAME).value.champion is None
        assert list(store.ledger(NAME).items) == []

    def test_the_ledger_is_read_newest_first_by_page(self, store: ModelStore) -> None:
        for version in range(3):
            store.commit(Model(name=NAME), read_version=version, ledger=[entry(version)])
        first = store.ledger(NAME, limit=2)
        second = store.ledger(NAME, limit=2, cursor=first.cursor)

        assert [line.version for line in [*first.items, *second.items]] == ["2", "1", "0"]


class TestSqliteModelStore(ModelStoreContract):
    @pytest.fixture
    def store(self, database: Database) -> ModelStore:
        return SqliteModelStore(database)


class TestTableModelStore(ModelStoreContract):
    @pytest.fixture
    def store(self, storage: Azurite) -> ModelStore:
        return TableModelStore(fresh_tables(storage))

    def test_a_lost_answer_is_not_taken_for_somebody_elses_save(self, storage: Azurite) -> None:
        """Neither when another instance saved the model before the write was repeated."""
        prefix, wire = f"t{uuid.uuid4().hex[:20]}", Cutting()
        store, other = TableModelStore(wire.tables(storage, prefix)), TableModelStore(Cutting().tables(storage, prefix))
        store.commit(Model(name=NAME), read_version=0)
        store.load(NAME)

        def save_another() -> None:
            wire.before_call = lambda: None
            other.commit(Model(name=NAME), read_version=other.load(NAME).version, ledger=[entry(2)])

        wire.answers = ["cut"]
        wire.before_call = lambda: setattr(wire, "before_call", save_another)

        assert store.commit(Model(name=NAME), read_version=1, ledger=[entry(1)]) == 2
        assert [line.version for line in store.ledger(NAME).items] == ["2", "1"]

    def test_names_are_listed_again_after_the_list_was_lost(self, storage: Azurite) -> None:
        tables = fresh_tables(storage)
        store = TableModelStore(tables)
        store.commit(Model(name=NAME), read_version=0, ledger=[entry(1)])
        tables.table("Index").delete_entity("models", NAME)
        assert list(store.names()) == []

        assert store.rebuild_index() == 1
        assert list(store.names()) == [NAME]


def test_a_database_of_a_newer_headrace_is_refused(tmp_path: Path) -> None:
    made = Database(tmp_path / "headrace.db")
    made.connection.execute("PRAGMA user_version=99")
    made.close()

    with pytest.raises(PermanentError, match=r"schema version 99.*Upgrade Headrace"):
        Database(tmp_path / "headrace.db")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "headrace.db").write_bytes(b"no database at all, but long enough to be looked at" * 20)

    with pytest.raises(PermanentError, match="is no SQLite database"):
        Database(tmp_path / "headrace.db")


def test_the_lock_is_given_to_one_run_and_the_others_wait() -> None:
    held, first = Model(name=NAME).with_lock(lock(1))
    waiting, second = held.with_lock(lock(2))

    assert (first, second) == (LockAnswer.TAKEN, LockAnswer.BUSY)
    assert waiting.waiting == ("diabetes-2",)
    assert waiting.without_lock(RunId("diabetes-1")).with_lock(lock(2))[1] is LockAnswer.TAKEN


def test_an_older_push_never_gets_the_lock_over_a_newer_champion() -> None:
    model = Model(name=NAME).with_champion(release(2))

    assert model.with_lock(lock(1))[1] is LockAnswer.OUTDATED


def test_a_version_in_service_or_about_to_be_is_needed() -> None:
    model, _ = Model(name=NAME).with_champion(release(1)).with_lock(lock(2))

    assert [model.needs(ModelVersion(version)) for version in "123"] == [True, True, False]
