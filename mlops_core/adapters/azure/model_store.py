"""Models in Table storage: one partition per registered name, with the record and the ledger of who served what."""

from __future__ import annotations

from collections.abc import Sequence

from mlops_core.adapters.azure.rows import Operation, Row, body_of, key, token, with_body
from mlops_core.adapters.azure.tables import ConflictError, Tables, unchanged
from mlops_core.domain.errors import StaleRunError
from mlops_core.domain.ids import ModelName
from mlops_core.domain.model import LedgerEntry, Model
from mlops_core.ports import Page, Stored

_MODELS, _INDEX = "Models", "Index"
_RECORD = "model"
_NAMES = "models"
_LAST = 10**15
# A commit writes two ledger rows at the most; the room is for more stages with shares of the traffic.
_ROOM = 50
_REMEMBERED = 100


class TableModelStore:
    """The `ModelStore` of the Azure backend."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._etags: dict[tuple[ModelName, int], str] = {}

    def load(self, name: ModelName) -> Stored[Model]:
        """Read the record; a model never heard of is an empty one with version 0."""
        return self._read(name)[0]

    def _read(self, name: ModelName) -> tuple[Stored[Model], str]:
        row = self._tables.get(_MODELS, key(name), _RECORD)
        if row is None:
            return Stored(Model(name=name), 0), ""
        version, etag = int(row["version"]), str(row["etag"])
        if len(self._etags) >= _REMEMBERED:
            self._etags = {}
        self._etags[(name, version)] = etag
        return Stored(Model.model_validate_json(body_of(row)), version), etag

    def commit(self, model: Model, *, read_version: int, ledger: Sequence[LedgerEntry] = ()) -> int:
        """Save the record and append to its ledger, both or neither. Raises StaleRunError."""
        version, mark, partition = read_version + 1, token(), key(model.name)
        row = {"PartitionKey": partition, "RowKey": _RECORD, "name": model.name, "version": version, "token": mark}
        record = with_body(row, f"model {model.name}", model.model_dump_json())
        operations: list[Operation] = [self._save(model, read_version, record)]
        for number, entry in enumerate(ledger):
            place = f"ledger:{_LAST - version * _ROOM - number:015d}"
            line = {"PartitionKey": partition, "RowKey": place, "token": mark}
            operations.append(("create", with_body(line, f"ledger of {model.name}", entry.model_dump_json())))
        try:
            self._tables.write(_MODELS, operations)
        except ConflictError:
            # Others may have saved the record since; a line of the ledger stays as it was written.
            if not self._is_own(partition, str(operations[-1][1]["RowKey"]), mark):
                raise self._stale(model.name, read_version) from None
        return version

    def _is_own(self, partition: str, row: str, mark: str) -> bool:
        """Tell whether what is there was written by our first try, whose answer was lost."""
        found = self._tables.get(_MODELS, partition, row, only=["token"])
        return found is not None and found.get("token") == mark

    def _stale(self, name: ModelName, read_version: int) -> StaleRunError:
        return StaleRunError(f"model {name}", read_version=read_version, found_version=self._read(name)[0].version)

    def _save(self, model: Model, read_version: int, record: Row) -> Operation:
        if read_version == 0:
            # Before the record, so that a crash leaves a name without a record and never the reverse.
            name = {"PartitionKey": _NAMES, "RowKey": key(model.name), "name": model.name}
            self._tables.create_if_absent(_INDEX, name)
            return "create", record
        etag = self._etags.get((model.name, read_version))
        if etag is None:
            stored, etag = self._read(model.name)
            if stored.version != read_version:
                raise self._stale(model.name, read_version)
        return "update", record, {"mode": "replace", **unchanged(etag)}

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
        """List the models that were ever released."""
        rows = self._tables.query(_INDEX, "PartitionKey eq @names", {"names": _NAMES})
        # One without a record is of somebody who died before it was written, and would be an empty model.
        known = self._tables.each(lambda row: self._tables.get(_MODELS, row["RowKey"], _RECORD, only=["version"]), rows)
        return sorted(ModelName(row["name"]) for row, found in zip(rows, known, strict=True) if found is not None)

    def rebuild_index(self) -> int:
        """
        Write the list of names anew out of the records, where it was lost.

        Returns: How many there are. It reads all rows, the ledgers' too.
        """
        rows = self._tables.query(_MODELS, "RowKey eq 'model'", {})
        for row in rows:
            name = {"PartitionKey": _NAMES, "RowKey": row["PartitionKey"], "name": row["name"]}
            self._tables.create_if_absent(_INDEX, name)
        return len(rows)
