"""Models in SQLite: a record per registered name, and the ledger of who served what from when."""

from __future__ import annotations

from collections.abc import Sequence

from mlops_core.adapters.local.database import Database
from mlops_core.domain.errors import StaleRunError
from mlops_core.domain.ids import ModelName
from mlops_core.domain.model import LedgerEntry, Model
from mlops_core.ports import Page, Stored


class SqliteModelStore:
    """The `ModelStore` of the local backend."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, name: ModelName) -> Stored[Model]:
        """Read the record; a model never heard of is an empty one with version 0."""
        rows = self._database.read("SELECT body, version FROM models WHERE name = ?", (name,))
        if not rows:
            return Stored(Model(name=name), 0)
        return Stored(Model.model_validate_json(rows[0]["body"]), rows[0]["version"])

    def commit(self, model: Model, *, read_version: int, ledger: Sequence[LedgerEntry] = ()) -> int:
        """Save the record and append to its ledger, both or neither. Raises StaleRunError."""
        version = read_version + 1
        with self._database.transaction() as connection:
            row = connection.execute("SELECT version FROM models WHERE name = ?", (model.name,)).fetchone()
            found = row["version"] if row else 0
            if found != read_version:
                raise StaleRunError(f"model {model.name}", read_version=read_version, found_version=found)
            connection.execute(
                "INSERT INTO models (name, version, body) VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET version = excluded.version, body = excluded.body",
                (model.name, version, model.model_dump_json()),
            )
            connection.executemany(
                "INSERT INTO ledger (model, body) VALUES (?, ?)",
                [(model.name, entry.model_dump_json()) for entry in ledger],
            )
        return version

    def ledger(self, name: ModelName, *, cursor: str | None = None, limit: int = 50) -> Page[LedgerEntry]:
        """Read who served what from when, newest first."""
        before = int(cursor) if cursor else 2**62
        rows = self._database.read(
            "SELECT sequence, body FROM ledger WHERE model = ? AND sequence < ? ORDER BY sequence DESC LIMIT ?",
            (name, before, limit + 1),
        )
        entries = [LedgerEntry.model_validate_json(row["body"]) for row in rows[:limit]]
        return Page(entries, str(rows[limit - 1]["sequence"]) if len(rows) > limit else None)

    def names(self) -> Sequence[ModelName]:
        """List the models that were ever released."""
        return [ModelName(row["name"]) for row in self._database.read("SELECT name FROM models ORDER BY name")]
