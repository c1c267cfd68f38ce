"""
The one SQLite file of the local backend: connections, transactions, schema version and migration.

WAL with `synchronous=FULL`: what was answered is on the disk. Every thread has a connection of its own, and every write
is one `BEGIN IMMEDIATE` transaction, so that two writers wait for each other instead of failing half-way. A file that a
newer Headrace wrote is refused; an older one is migrated in one transaction when it is opened.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_core.domain.errors import PermanentError, TemporaryError

# Longer than any transaction here takes, by three orders of magnitude; past it something is wrong with the disk.
_BUSY_SECONDS = 30.0

# One script per schema version, applied in order. A released one is never edited.
_LEAST_FREE_BYTES = 1_000_000
_MIGRATIONS = (
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, version INTEGER NOT NULL, project TEXT NOT NULL, branch TEXT NOT NULL,
        trigger_kind TEXT NOT NULL, state TEXT NOT NULL, active INTEGER NOT NULL, created_at TEXT NOT NULL,
        model TEXT, model_version TEXT, body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX runs_newest ON runs (created_at DESC, id DESC);
    CREATE INDEX runs_of_project ON runs (project, created_at DESC, id DESC);
    CREATE INDEX runs_active ON runs (id) WHERE active = 1;
    CREATE INDEX runs_active_on_branch ON runs (project, branch) WHERE active = 1;
    CREATE INDEX runs_of_version ON runs (model, model_version, created_at DESC) WHERE model_version IS NOT NULL;
    CREATE TABLE events (
        run_id TEXT NOT NULL, sequence INTEGER NOT NULL, event_id TEXT NOT NULL, recorded_at TEXT NOT NULL,
        from_state TEXT NOT NULL, to_state TEXT NOT NULL, reason TEXT NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (run_id, sequence)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX events_once ON events (run_id, event_id);
    CREATE TABLE models (name TEXT PRIMARY KEY, version INTEGER NOT NULL, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE ledger (sequence INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, body TEXT NOT NULL) STRICT;
    CREATE INDEX ledger_of_model ON ledger (model, sequence DESC);
    CREATE TABLE projects (
        name TEXT PRIMARY KEY, host TEXT NOT NULL, repository TEXT NOT NULL, body TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX projects_of_repository ON projects (host, repository);
    CREATE TABLE dead_letters (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL
    ) STRICT;
    """,
)


class Database:
    """
    A SQLite file with Headrace's schema.

    Args:
        path: The file; it and its folder are made when absent.
    Raises:
        PermanentError: The file is no database, or was written by a newer Headrace.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        # SQLite lets writers sleep and try again; threads that queue here instead take turns at once.
        self._turn = threading.Lock()
        # Whoever drops a database without closing it leaves no connection behind.
        weakref.finalize(self, _close_all, self._all)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._migrate()

    @property
    def connection(self) -> sqlite3.Connection:
        """The calling thread's own connection."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            self._local.connection = connection
        return connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """
        Run a write transaction: all of it, or nothing.

        Raises: TemporaryError: The disk is full or fails, or another writer does not finish.
        """
        connection = self.connection
        try:
            with self._turn:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    # On a full or failing disk SQLite has rolled back already, and would complain of a second time.
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise self._unusable(error) from error

    def read(self, sql: str, parameters: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        """Run one query. Raises TemporaryError where the disk fails."""
        try:
            return self.connection.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        """Close every thread's connection."""
        with self._guard:
            for connection in self._all:
                connection.close()
            self._all.clear()
        self._local = threading.local()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
        except sqlite3.DatabaseError as error:
            connection.close()
            if isinstance(error, sqlite3.OperationalError):
                raise self._unusable(error) from error
            raise PermanentError(
                f"'{self.path}' is no SQLite database ({error}). Move it away, or give another data folder."
            ) from error
        with self._guard:
            self._all.append(connection)
        return connection

    def _migrate(self) -> None:
        found = self._schema_version()
        if found > len(_MIGRATIONS):
            raise PermanentError(
                f"'{self.path}' has schema version {found}; this Headrace knows up to {len(_MIGRATIONS)}. "
                "Upgrade Headrace, or give another data folder."
            )
        if found == len(_MIGRATIONS):
            return
        with self.transaction() as connection:
            # Read again inside the transaction: another process may have migrated meanwhile.
            found = self._schema_version()
            for script in _MIGRATIONS[found:]:
                for statement in script.split(";"):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version={len(_MIGRATIONS)}")

    def _schema_version(self) -> int:
        return int(self.read("PRAGMA user_version")[0][0])

    def _unusable(self, error: sqlite3.Error) -> TemporaryError:
        # On a disk that is nearly full, SQLite cannot make its index of the log, and calls that an I/O error.
        full = "full" in str(error) or shutil.disk_usage(self.path.parent).free < _LEAST_FREE_BYTES
        advice = "Free some space" if full else "See that the disk works and no other program holds it"
        return TemporaryError(f"The database '{self.path}' could not be used: {error}. {advice}; it is tried again.")


def _close_all(connections: list[sqlite3.Connection]) -> None:
    for connection in connections:
        connection.close()
