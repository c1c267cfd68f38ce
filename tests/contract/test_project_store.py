"""What every `ProjectStore` must do. An adapter joins with a class that gives a fixture `store`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from azurite import Azurite, fresh_tables
from builders import PROJECT, commit_id

from mlops_core.adapters.azure.project_store import TableProjectStore
from mlops_core.adapters.local.database import Database
from mlops_core.adapters.local.project_store import SqliteProjectStore
from mlops_core.domain.errors import NotFoundError
from mlops_core.domain.ids import ModelName, ProjectName
from mlops_core.ports import ProjectRecord, ProjectStore

FULL = ProjectRecord(
    name=ProjectName("taxi"),
    host="azure-devops",
    # Letters, blanks and slashes as hosts allow them, some of which are not allowed in a key of Table storage.
    repository="Fahrten & Preise/_git/taxi fare",
    clone_url="https://dev.azure.com/acme/Fahrten%20&%20Preise/_git/taxi%20fare",
    manifest="models/taxi/mlops.yaml",
    default_branch="release/2026",
    model=ModelName("taxi-fare"),
    known_heads={"release/2026": commit_id(7), "grün": commit_id(8)},
)


class ProjectStoreContract:
    """The suite."""

    @pytest.mark.parametrize("record", [PROJECT, FULL], ids=["local", "hosted"])
    def test_a_project_is_read_back_as_it_was_put(self, store: ProjectStore, record: ProjectRecord) -> None:
        store.put(record)

        assert store.get(record.name) == record

    def test_a_project_that_is_not_there_is_not_found(self, store: ProjectStore) -> None:
        with pytest.raises(NotFoundError, match="no project 'nobody'"):
            store.get(ProjectName("nobody"))

    def test_putting_a_project_again_replaces_it(self, store: ProjectStore) -> None:
        store.put(FULL)
        changed = replace(FULL, model=None, known_heads={}, manifest="mlops.yaml")
        store.put(changed)

        assert store.get(FULL.name) == changed
        assert store.all() == [changed]

    def test_all_projects_of_a_monorepo_are_found(self, store: ProjectStore) -> None:
        first, second = (replace(FULL, name=ProjectName(name)) for name in ("a", "b"))
        store.put(second)
        store.put(first)
        store.put(PROJECT)

        assert list(store.of_repository(FULL.host, FULL.repository)) == [first, second]

    def test_a_repository_of_the_same_name_on_another_host_is_another(self, store: ProjectStore) -> None:
        store.put(FULL)

        assert list(store.of_repository("github", FULL.repository)) == []
        assert list(store.of_repository(FULL.host, "Fahrten & Preise/_git/taxi")) == []

    @pytest.mark.parametrize("name", ["x' or '1' eq '1", "", "a/../b", "%", "#?\\"])
    def test_a_hostile_repository_name_finds_nothing(self, store: ProjectStore, name: str) -> None:
        store.put(FULL)

        assert list(store.of_repository(FULL.host, name)) == []

    def test_a_project_that_moved_is_not_found_at_its_old_repository(self, store: ProjectStore) -> None:
        store.put(FULL)
        store.put(replace(FULL, repository="elsewhere"))

        assert list(store.of_repository(FULL.host, FULL.repository)) == []
        assert len(store.of_repository(FULL.host, "elsewhere")) == 1

    def test_a_project_is_found_by_the_model_that_it_produces(self, store: ProjectStore) -> None:
        store.put(FULL)
        store.put(PROJECT)

        assert store.of_model(ModelName("taxi-fare")) == FULL
        assert store.of_model(ModelName("taxi")) is None

    def test_projects_are_listed_by_name(self, store: ProjectStore) -> None:
        for name in ("beta", "alpha", "gamma"):
            store.put(replace(PROJECT, name=ProjectName(name)))

        assert [record.name for record in store.all()] == ["alpha", "beta", "gamma"]


class TestSqliteProjectStore(ProjectStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ProjectStore]:
        database = Database(tmp_path / "headrace.db")
        yield SqliteProjectStore(database)
        database.close()


class TestTableProjectStore(ProjectStoreContract):
    @pytest.fixture
    def store(self, storage: Azurite) -> ProjectStore:
        return TableProjectStore(fresh_tables(storage))

    def test_a_repository_that_another_instance_changed_is_seen_after_some_seconds(self, storage: Azurite) -> None:
        now, tables = 100.0, fresh_tables(storage)
        store, other = TableProjectStore(tables, monotonic=lambda: now), TableProjectStore(tables)
        store.put(PROJECT)
        assert list(store.of_repository("local", "diabetes")) == [PROJECT]
        other.put(replace(PROJECT, repository="elsewhere"))
        now += 11

        assert list(store.of_repository("local", "diabetes")) == []
