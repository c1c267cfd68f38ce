"""
The lists by which runs are found: small rows beside the runs themselves, in another table, so never in one transaction.

Each is written before what it leads to. A crash in between leaves a row too many, never one too few, and who reads looks
at the run before believing a row.

A row of `active` says since which version of the run it is needed. Whoever saw the run ended at a version takes the row
off only if it is not needed since a later one, and only as it was read. So a run that is brought back while somebody else
takes it off stays listed, wherever one of the two dies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from mlops_core.adapters.azure.rows import Row, key, newest_first
from mlops_core.adapters.azure.tables import ConflictError, Tables
from mlops_core.domain.errors import TemporaryError
from mlops_core.domain.ids import ModelName, ModelVersion, ProjectName, RunId
from mlops_core.domain.run import Run

_INDEX = "Index"
_ACTIVE, _ALL = "active", "all"
_MAX_CONFLICTS = 20
# No function goes on for so long after it wrote a row of a run that it has still to create.
_ORPHANED_AFTER = timedelta(days=1)


class RunIndex:
    """The rows of table `Index`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def before_create(self, run: Run) -> None:
        """List a run that is about to be created."""
        self._tables.together(*self._calls(run, version=1))

    def rebuild(self, run: Run, version: int) -> None:
        """List a run that is there; rows that are there already stay."""
        self._tables.together(*self._calls(run, version))

    def _calls(self, run: Run, version: int) -> Iterator[Callable[[], None]]:
        for row in _list_rows(run):
            yield partial(self._tables.create_if_absent, _INDEX, row)
        if is_active(run):
            yield partial(self.mark_active, run, version)
        if run.version is not None:
            yield partial(self.list_version, run)

    def forget_start(self, run: Run) -> None:
        """Take off the list rows of a run that somebody else created at another time, with rows of its own."""
        for row in _list_rows(run):
            found = self._tables.get(_INDEX, row["PartitionKey"], row["RowKey"])
            if found is not None:
                self._tables.delete(_INDEX, found)

    def mark_active(self, run: Run, version: int) -> None:
        """List a run among the active ones, before it is saved as active with this version."""
        row = {
            "PartitionKey": _ACTIVE,
            "RowKey": key(run.id),
            "run": run.id,
            "since": version,
            "project": run.project,
            "branch": run.trigger.branch,
            "kind": run.trigger.kind,
        }
        for _ in range(_MAX_CONFLICTS):
            if self._marked(row):
                return
        raise TemporaryError(f"Run '{run.id}' was listed by others {_MAX_CONFLICTS} times in a row. It is tried again.")

    def _marked(self, row: Row) -> bool:
        try:
            self._tables.write(_INDEX, [("create", row)])
        except ConflictError:
            found = self._tables.get(_INDEX, _ACTIVE, row["RowKey"])
            if found is None:
                return False
            if int(found["since"]) >= row["since"]:
                return True
        else:
            return True
        try:
            self._tables.update(_INDEX, row, found["etag"])
        except ConflictError:
            return False
        return True

    def unmark(self, run_id: RunId, version: int) -> None:
        """Take a run that ended with this version off the active ones, unless somebody brings it back."""
        found = self._tables.get(_INDEX, _ACTIVE, key(run_id))
        if found is not None and int(found["since"]) <= version:
            self._tables.delete(_INDEX, found)

    def active(self, cursor: str | None, limit: int) -> tuple[list[Row], str | None]:
        """Read a page of the active runs, and the cursor of the next."""
        return self._page(_ACTIVE, cursor, limit)

    def drop_orphan(self, row: Row, now: datetime) -> None:
        """Take off an active row without a run, when whoever wrote it cannot be about to create it any more."""
        changed_at = row["changed_at"] or now
        if now.astimezone(UTC) - changed_at >= _ORPHANED_AFTER:
            self._tables.delete(_INDEX, row)

    def on_branch(self, project: ProjectName, branch: str) -> Sequence[Row]:
        """Read the rows of active runs that pushes to a branch started."""
        return self._tables.query(
            _INDEX,
            "PartitionKey eq 'active' and project eq @project and branch eq @branch and kind eq 'push'",
            {"project": project, "branch": branch},
        )

    def newest(self, project: ProjectName | None, cursor: str | None, limit: int) -> tuple[list[Row], str | None]:
        """Read a page of runs, newest first, and the cursor of the next; of all projects when None."""
        return self._page(_ALL if project is None else f"project:{key(project)}", cursor, limit)

    def list_version(self, run: Run) -> None:
        """List a run under the model version that it releases."""
        partition = _version_partition(ModelName(run.model or ""), ModelVersion(run.version or ""))
        self._tables.create_if_absent(_INDEX, {"PartitionKey": partition, "RowKey": _place(run), "run": run.id})

    def of_version(self, model: ModelName, version: ModelVersion) -> Iterator[RunId]:
        """Read which runs may release a model version, newest first."""
        partition = _version_partition(model, version)
        rows = self._tables.query(_INDEX, "PartitionKey eq @partition", {"partition": partition})
        return (RunId(row["run"]) for row in rows)

    def _page(self, partition: str, cursor: str | None, limit: int) -> tuple[list[Row], str | None]:
        rows = self._tables.query(
            _INDEX,
            "PartitionKey eq @partition and RowKey gt @after",
            {"partition": partition, "after": cursor or ""},
            limit=limit + 1,
        )
        return rows[:limit], rows[limit - 1]["RowKey"] if len(rows) > limit else None


def is_active(run: Run) -> bool:
    """Tell whether a run is not at an end, or still has effects to perform."""
    return not run.ended or bool(run.pending)


def listed_as(row: Row, run: Run) -> bool:
    """Tell whether a list row is of this run's creation, and not of one that somebody else was quicker with."""
    return bool(row["RowKey"] == _place(run))


def _list_rows(run: Run) -> Iterator[Row]:
    for partition in (_ALL, f"project:{key(run.project)}"):
        yield {"PartitionKey": partition, "RowKey": _place(run), "run": run.id}


def _place(run: Run) -> str:
    return f"{newest_first(run.created_at)}-{key(run.id)}"


def _version_partition(model: ModelName, version: ModelVersion) -> str:
    return f"version:{key(model)}:{key(version)}"
