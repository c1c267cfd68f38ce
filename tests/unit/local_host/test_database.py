"""The SQLite file: durable for every thread, migrated whole or not at all, and refused with what to do."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlops_core.adapters.local import database as module
from mlops_core.adapters.local.database import Database
from mlops_core.domain.errors import TemporaryError

ADDED = "ALTER TABLE runs ADD COLUMN note TEXT; CREATE INDEX runs_by_note ON runs (note)"


def columns(database: Database) -> set[str]:
    return {row["name"] for row in database.read("PRAGMA table_info(runs)")}


def version_of(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return int(version)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of the first schema, with a dead letter in it."""
    made = Database(tmp_path / "headrace.db")
    with made.transaction() as connection:
        connection.execute("INSERT INTO dead_letters (id, body) VALUES ('1', '{}')")
    made.close()
    return made.path


def with_newer_schema(monkeypatch: pytest.MonkeyPatch, script: str = ADDED) -> None:
    monkeypatch.setattr(module, "_MIGRATIONS", (*module._MIGRATIONS, script))


def test_every_threads_connection_waits_for_the_disk(tmp_path: Path) -> None:
    database = Database(tmp_path / "headrace.db")

    def modes(_: int = 0) -> tuple[object, ...]:
        journal, synchronous = (database.read(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous"))
        return journal, synchronous, threading.get_ident()

    with ThreadPoolExecutor(1) as thread:
        found = [modes(), thread.submit(modes).result()]
    full = 2  # https://sqlite.org/pragma.html#pragma_synchronous

    assert [each[:2] for each in found] == [("wal", full)] * 2
    assert found[0][2] != found[1][2]
    database.close()


def test_a_file_of_an_older_schema_is_migrated_and_keeps_what_is_in_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_newer_schema(monkeypatch)
    database = Database(path)

    assert "note" in columns(database)
    assert len(database.read("SELECT * FROM dead_letters")) == 1
    assert version_of(path) == len(module._MIGRATIONS)
    database.close()


def test_a_migration_that_fails_half_way_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = version_of(path)
    with monkeypatch.context() as broken:
        with_newer_schema(broken, f"{ADDED}; CREATE TABLE runs (id TEXT)")
        with pytest.raises(TemporaryError, match="table runs already exists"):
            Database(path)
    database = Database(path)

    assert "note" not in columns(database)
    assert version_of(path) == before
    database.close()


def test_of_many_that_open_an_older_file_at_once_one_migrates_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_newer_schema(monkeypatch)
    with ThreadPoolExecutor(6) as threads:
        opened = list(threads.map(lambda _: Database(path), range(6)))

    assert all("note" in columns(database) for database in opened)
    for database in opened:
        database.close()


def test_what_fails_inside_a_transaction_is_undone_and_the_next_is_not_disturbed(tmp_path: Path) -> None:
    database = Database(tmp_path / "headrace.db")

    def half_a_change() -> None:
        with database.transaction() as connection:
            connection.execute("INSERT INTO dead_letters (id, body) VALUES ('1', '{}')")
            raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        half_a_change()
    with database.transaction() as connection:
        connection.execute("INSERT INTO dead_letters (id, body) VALUES ('2', '{}')")

    assert [row["id"] for row in database.read("SELECT id FROM dead_letters")] == ["2"]
    database.close()


def test_another_program_that_holds_the_file_is_told_of_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.05)
    database = Database(tmp_path / "headrace.db")
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused = pytest.raises(TemporaryError, match=r"database is locked\. See that .* no other program holds it")
    with refused, database.transaction():
        pass
    other.execute("ROLLBACK")
    other.close()
    with database.transaction() as connection:
        connection.execute("INSERT INTO dead_letters (id, body) VALUES ('1', '{}')")

    assert len(database.read("SELECT id FROM dead_letters")) == 1
    database.close()
