"""The allowed repositories in Table storage. They are few, so all are in one partition."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from pydantic import TypeAdapter

from mlops_core.adapters.azure.rows import Row, body_of, key, with_body
from mlops_core.adapters.azure.tables import ConflictError, Tables
from mlops_core.domain.errors import NotFoundError, TemporaryError
from mlops_core.domain.ids import ModelName, ProjectName
from mlops_core.ports import ProjectRecord

_PROJECTS = "Projects"
_PARTITION = "projects"
_RECORD = TypeAdapter(ProjectRecord)
_MAX_CONFLICTS = 20
# Each webhook asks for its repository. One that is allowed or forbidden counts for every instance after this.
_FRESH_SECONDS = 10.0


class TableProjectStore:
    """The `ProjectStore` of the Azure backend."""

    def __init__(self, tables: Tables, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._tables = tables
        self._monotonic = monotonic
        self._seen: dict[tuple[str, str], tuple[float, Sequence[ProjectRecord]]] = {}

    def put(self, record: ProjectRecord) -> None:
        """Add a project or replace it."""
        row: Row = {"PartitionKey": _PARTITION, "RowKey": key(record.name), "host": record.host}
        row["repository"] = record.repository
        self._seen = {}
        full = with_body(row, f"project {record.name}", _RECORD.dump_json(record).decode())
        for _ in range(_MAX_CONFLICTS):
            if self._wrote(full):
                return
        raise TemporaryError(f"Project '{record.name}' was saved by others {_MAX_CONFLICTS} times in a row.")

    def _wrote(self, row: Row) -> bool:
        found = self._tables.get(_PROJECTS, _PARTITION, row["RowKey"])
        try:
            if found is None:
                self._tables.write(_PROJECTS, [("create", row)])
            else:
                self._tables.update(_PROJECTS, row, found["etag"])
        except ConflictError:
            return False
        return True

    def get(self, name: ProjectName) -> ProjectRecord:
        """Read a project. Raises NotFoundError."""
        row = self._tables.get(_PROJECTS, _PARTITION, key(name))
        if row is None:
            raise NotFoundError("project", name, advice="List the projects: headrace projects. Add one: headrace add.")
        return _RECORD.validate_json(body_of(row))

    def of_repository(self, host: str, repository: str) -> Sequence[ProjectRecord]:
        """Find the projects of a repository; what was found is used again for some seconds."""
        known = self._seen.get((host, repository))
        if known is not None and known[0] > self._monotonic():
            return known[1]
        found = self._found(
            "PartitionKey eq @partition and host eq @host and repository eq @repository",
            {"partition": _PARTITION, "host": host, "repository": repository},
        )
        if found:
            self._seen[(host, repository)] = (self._monotonic() + _FRESH_SECONDS, found)
        return found

    def of_model(self, model: ModelName) -> ProjectRecord | None:
        """Find the project that produces a model."""
        return next((record for record in self.all() if record.model == model), None)

    def all(self) -> Sequence[ProjectRecord]:
        """List all projects by name."""
        return self._found("PartitionKey eq @partition", {"partition": _PARTITION})

    def _found(self, condition: str, parameters: Mapping[str, str]) -> Sequence[ProjectRecord]:
        rows = self._tables.query(_PROJECTS, condition, parameters)
        return sorted((_RECORD.validate_json(body_of(row)) for row in rows), key=lambda record: record.name)
