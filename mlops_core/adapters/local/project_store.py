"""The allowed repositories in SQLite."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from mlops_core.adapters.local.database import Database
from mlops_core.domain.errors import NotFoundError
from mlops_core.domain.ids import ModelName, ProjectName
from mlops_core.ports import ProjectRecord

_RECORD = TypeAdapter(ProjectRecord)


class SqliteProjectStore:
    """The `ProjectStore` of the local backend."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, record: ProjectRecord) -> None:
        """Add a project or replace it."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO projects (name, host, repository, body) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE"
                " SET host = excluded.host, repository = excluded.repository, body = excluded.body",
                (record.name, record.host, record.repository, _RECORD.dump_json(record).decode()),
            )

    def get(self, name: ProjectName) -> ProjectRecord:
        """Read a project. Raises NotFoundError."""
        rows = self._database.read("SELECT body FROM projects WHERE name = ?", (name,))
        if not rows:
            raise NotFoundError("project", name, advice="List the projects: headrace projects. Add one: headrace add.")
        return _RECORD.validate_json(rows[0]["body"])

    def of_repository(self, host: str, repository: str) -> Sequence[ProjectRecord]:
        """Find the projects of a repository."""
        rows = self._database.read(
            "SELECT body FROM projects WHERE host = ? AND repository = ? ORDER BY name", (host, repository)
        )
        return [_RECORD.validate_json(row["body"]) for row in rows]

    def of_model(self, model: ModelName) -> ProjectRecord | None:
        """Find the project that produces a model; there are few projects, so all are looked at."""
        return next((record for record in self.all() if record.model == model), None)

    def all(self) -> Sequence[ProjectRecord]:
        """List all projects by name."""
        rows = self._database.read("SELECT body FROM projects ORDER BY name")
        return [_RECORD.validate_json(row["body"]) for row in rows]
