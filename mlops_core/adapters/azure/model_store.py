"""Models in Table storage: one partition per registered name, with the record and the ledger of who served what."""

from __future__ import annotations

from collections.abc import Sequence

from mlops_core.adapters.azure.tables import ConflictError, Operation, Tables, body_of, key, token, with_body
from mlops_core.domain.errors import StaleRunError
from mlops_core.domain.ids import ModelName
from mlops_core.domain.model import LedgerEntry, Model
from mlops_core.ports import Page, Stored

_MODELS = "Models"
_RECORD = "model"
_LAST = 10**15
# A commit writes two ledger rows at the most; the room is for more stages with shares of the traffic.
_ROOM = 50


class TableModelStore:
    """The `ModelStore` of the Azure backend."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._etags: dict[tuple[ModelName, int], str] = {}

    def load(self, name: ModelName) -> Stored[Model]:
        """Read the record; a model never heard of is an empty one with version 0."""
        row = self._tables.get(_MODELS, key(name), _RECORD)
        if row is None:
            return Stored(Model(name=name), 0)
        if len(self._etags) > _ROOM:
            self._etags = {}
        self._etags[(name, int(row["version"]))] = row["etag"]
        return Stored(Model.model_validate_json(body_of(row)), int(row["version"]))

    def commit(self, model: Model, *, read_version: int, ledger: Sequence[LedgerEntry] = ()) -> int:
        """Save the record and append to its ledger, both or neither. Raises StaleRunError."""
        version, mark, partition = read_version + 1, token(), key(model.name)
        row = {"PartitionKey": partition, "RowKey": _RECORD, "name": model.name, "version": version, "token": mark}
        record = with_body(row, f"model {model.name}", model.model_dump_json())
        operations: list[Operation] = [self._save(model, read_version, record)]
        for number, entry in enumerate(ledger):
            place = f"ledger:{_LAST - version * _ROOM - number:015d}"
            line = {"PartitionKey": partition, "RowKey": place}
            operations.append(("create", with_body(line, f"ledger of {model.name}", entry.model_dump_json())))
        try:
            self._tables.write(_MODELS, operations)
        except ConflictError:
            found = self._tables.get(_MODELS, partition, _RECORD)
            if found is None or found["token"] != mark:
                raise StaleRunError(
                    f"model {model.name}",
                    read_version=read_version,
                    found_version=int(found["version"]) if found else 0,
                ) from None
        return version

    def _save(self, model: Model, read_version: int, record: dict[str, object]) -> Operation:
        if read_version == 0:
            return "create", record
        from azure.core import MatchConditions

        etag = self._etags.get((model.name, read_version))
        if etag is None:
            stored = self.load(model.name)
            if stored.version != read_version:
                raise StaleRunError(f"model {model.name}", read_version=read_version, found_version=stored.version)
            etag = self._etags[(model.name, read_version)]
        return "update", record, {"mode": "replace", "etag": etag, "match_condition": MatchConditions.IfNotModified}

    def ledger(self, name: ModelName, *, cursor: str | None = None, limit: int = 50) -> Page[LedgerEntry]:
        """Read who served what from when, newest first."""
        rows = self._tables.query(
            _MODELS,
            "PartitionKey eq @model and RowKey gt @after and RowKey lt 'ledger;'",
            {"model": key(name), "after": cursor or "ledger:"},
            limit=limit + 1,
        )
        entries = [LedgerEntry.model_validate_json(body_of(row)) for row in rows[:limit]]
        return Page(entries, rows[limit - 1]["RowKey"] if len(rows) > limit else None)

    def names(self) -> Sequence[ModelName]:
        """List the models that were ever released: a look at every partition, and there are as many as models."""
        rows = self._tables.query(_MODELS, "RowKey eq 'model'", {})
        return sorted(ModelName(row["name"]) for row in rows)
