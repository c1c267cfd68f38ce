"""
Runs in Table storage: one partition per run, with its snapshot and its history, both written in one transaction.

Rows of a run's partition: `run` is the snapshot with its pending effects, `event:<sequence>` the history, `id:<event id>`
says that an event was taken. How runs are listed: `run_index.py`. See docs/decisions/0010-tables.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from mlops_core.adapters.azure.rows import Operation, Row, body_of, key, token, with_body
from mlops_core.adapters.azure.run_index import RunIndex, is_active, listed_as
from mlops_core.adapters.azure.tables import ConflictError, Tables, unchanged
from mlops_core.domain.errors import DuplicateEventError, HeadraceError, NotFoundError, StaleRunError
from mlops_core.domain.events import EVENT, Event
from mlops_core.domain.ids import EventId, JobName, ModelName, ModelVersion, ProjectName, RunId
from mlops_core.domain.run import Run, State
from mlops_core.ports import HistoryEntry, Page, Stored

_RUNS = "Runs"
_SNAPSHOT = "run"
# Some 10 KB each.
_REMEMBERED = 1_000
_REMEMBERED_IDS = 50_000
_REBUILT_AT_ONCE = 100

Read = tuple[Stored[Run], str]
"""A snapshot and the etag that it was read with."""


class TableRunStore:
    """The `RunStore` of the Azure backend."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._index = RunIndex(tables)
        # The newest snapshots that this process read or wrote. An old one only leads to a conflict.
        self._known: dict[RunId, Read] = {}
        # Runs are never deleted, so one that was seen need not be looked for again.
        self._seen: set[RunId] = set()
        self._listed_active: set[RunId] = set()

    def create(self, run: Run) -> bool:
        """Store a new run; False when its id is there already."""
        if run.id in self._seen:
            return False
        self._index.before_create(run)
        mark = token()
        row = {"PartitionKey": key(run.id), "RowKey": _SNAPSHOT, "version": 1, "token": mark}
        snapshot = with_body(row, run.id, run.model_dump_json())
        try:
            (written,) = self._tables.write(_RUNS, [("create", snapshot)])
        except ConflictError:
            return self._is_own(run, mark)
        self._remember(Stored(run, 1), str(written["etag"]))
        return True

    def _is_own(self, run: Run, mark: str) -> bool:
        """Tell whether the run that is there is what we wrote, the answer being lost, or somebody else's."""
        found = self._tables.get(_RUNS, key(run.id), _SNAPSHOT)
        if found is not None and found.get("token") == mark:
            return True
        if self.load(run.id).value.created_at != run.created_at:
            self._index.forget_start(run)
        return False

    def load(self, run_id: RunId) -> Stored[Run]:
        """Read a run and its version. Raises NotFoundError, TemporaryError."""
        found = self._read(run_id)
        if found is None:
            raise NotFoundError("run", run_id, advice="List the runs: headrace runs.")
        return found[0]

    def last_seen(self, run_id: RunId) -> Stored[Run]:
        """Give a run as this process saw it last, perhaps not the newest. Raises NotFoundError."""
        known = self._known.get(run_id)
        return known[0] if known is not None else self.load(run_id)

    def _read(self, run_id: RunId) -> Read | None:
        row = self._tables.get(_RUNS, key(run_id), _SNAPSHOT)
        if row is None:
            return None
        known = self._known.get(run_id)
        if known is None or known[1] != row["etag"]:
            known = self._remember(Stored(Run.model_validate_json(body_of(row)), int(row["version"])), str(row["etag"]))
        stored = known[0]
        if run_id in self._listed_active and not is_active(stored.value):
            # Whoever ended it died before it was taken off the list.
            self._listed_active.discard(run_id)
            self._index.unmark(run_id, stored.version)
        return known

    def _remember(self, stored: Stored[Run], etag: str) -> Read:
        if len(self._known) >= _REMEMBERED:
            self._known = {}
        if len(self._seen) >= _REMEMBERED_IDS:
            self._seen = set()
        self._known[stored.value.id] = (stored, etag)
        self._seen.add(stored.value.id)
        return stored, etag

    def commit(self, run: Run, *, read_version: int, event: Event, entry_reason: str, recorded_at: datetime) -> int:
        """Save a run and its event, both or neither. Raises StaleRunError, DuplicateEventError."""
        before, etag = self._as_read(run, read_version, event)
        version, mark, partition = read_version + 1, token(), key(run.id)
        row = {"PartitionKey": partition, "RowKey": _SNAPSHOT, "version": version, "token": mark}
        snapshot = with_body(row, run.id, run.model_dump_json())
        entry = {
            "PartitionKey": partition,
            "RowKey": f"event:{version:010d}",
            "sequence": version,
            "event_id": event.event_id,
            "recorded_at": recorded_at.isoformat(),
            "from_state": before.state,
            "to_state": run.state,
            "reason": entry_reason,
        }
        taken = {
            "PartitionKey": partition,
            "RowKey": _taken(event.event_id),
            "sequence": version,
            "token": mark,
        }
        operations: list[Operation] = [
            ("update", snapshot, {"mode": "replace", **unchanged(etag)}),
            ("create", with_body(entry, event.event_id, event.model_dump_json())),
            ("create", taken),
        ]
        self._list_changes(before, run, version)
        try:
            written = self._tables.write(_RUNS, operations)
        except ConflictError:
            self._own_or_raise(run, read_version, event, mark)
        else:
            self._remember(Stored(run, version), str(written[0]["etag"]))
        if is_active(before) and not is_active(run):
            self._index.unmark(run.id, version)
        return version

    def _as_read(self, run: Run, read_version: int, event: Event) -> tuple[Run, str]:
        """Find the snapshot and etag that a version stands for. Raises StaleRunError, DuplicateEventError."""
        known = self._known.get(run.id)
        if known is None or known[0].version != read_version:
            known = self._read(run.id)
        if known is None or known[0].version != read_version:
            raise self._refusal(run, read_version, event)
        return known[0].value, known[1]

    def _list_changes(self, before: Run, after: Run, version: int) -> None:
        """Write the list rows that a change needs before it is made, so that a crash leaves too many and never too few."""
        if is_active(after) and not is_active(before):
            self._index.mark_active(after, version)
        if after.version is not None and (after.version != before.version or after.model != before.model):
            self._index.list_version(after)

    def _own_or_raise(self, run: Run, read_version: int, event: Event, mark: str) -> None:
        """Tell a refused repeat of our own write, whose answer was lost, from somebody else's."""
        self._known.pop(run.id, None)
        taken = self._tables.get(_RUNS, key(run.id), _taken(event.event_id))
        # Others may have saved the run since; the row of an event stays as it was written.
        if taken is None:
            raise self._stale(run, read_version)
        if taken.get("token") != mark:
            raise DuplicateEventError(run.id, event.event_id)

    def _refusal(self, run: Run, read_version: int, event: Event) -> HeadraceError:
        if self._tables.get(_RUNS, key(run.id), _taken(event.event_id)) is not None:
            return DuplicateEventError(run.id, event.event_id)
        return self._stale(run, read_version)

    def _stale(self, run: Run, read_version: int) -> StaleRunError:
        found = self._tables.get(_RUNS, key(run.id), _SNAPSHOT, only=["version"])
        return StaleRunError(run.id, read_version=read_version, found_version=int(found["version"]) if found else None)

    def history(self, run_id: RunId, *, after: int = 0, limit: int = 200) -> Page[HistoryEntry]:
        """Read a run's story in the order in which it was taken."""
        rows = self._tables.query(
            _RUNS,
            "PartitionKey eq @run and RowKey gt @after and RowKey lt 'event;'",
            {"run": key(run_id), "after": f"event:{after:010d}"},
            limit=limit + 1,
        )
        entries = [
            HistoryEntry(
                sequence=int(row["sequence"]),
                event_id=EventId(row["event_id"]),
                recorded_at=datetime.fromisoformat(row["recorded_at"]),
                event=EVENT.validate_json(body_of(row)),
                from_state=row["from_state"],
                to_state=row["to_state"],
                reason=row["reason"],
            )
            for row in rows[:limit]
        ]
        return Page(entries, str(entries[-1].sequence) if len(rows) > limit else None)

    def of_project(self, project: ProjectName | None, *, cursor: str | None = None, limit: int = 50) -> Page[Run]:
        """Read runs, newest first; of all projects when None."""
        rows, more = self._index.newest(project, cursor, limit)
        found = self._tables.each(lambda row: (row, self._read(RunId(row["run"]))), rows)
        return Page([read[0].value for row, read in found if read and listed_as(row, read[0].value)], more)

    def active(self, *, cursor: str | None = None, limit: int = 100) -> Page[RunId]:
        """Read the ids of runs that are not at an end, or that still have effects to perform."""
        rows, more = self._index.active(cursor, limit)
        if cursor is None:
            self._listed_active = set()
        ids = self._existing(rows)
        self._listed_active.update(ids)
        return Page(ids, more)

    def _existing(self, rows: Sequence[Row]) -> list[RunId]:
        """Leave out the rows of runs whose creator died before it created them."""
        unseen = [row for row in rows if row["run"] not in self._seen]
        found = self._tables.each(self._exists, unseen)
        absent = {row["run"] for row, there in zip(unseen, found, strict=True) if not there}
        return [RunId(row["run"]) for row in rows if row["run"] not in absent]

    def _exists(self, row: Row) -> bool:
        if self._tables.get(_RUNS, key(row["run"]), _SNAPSHOT, only=["version"]) is not None:
            self._seen.add(RunId(row["run"]))
            return True
        self._index.drop_orphan(row, datetime.now(UTC))
        return False

    def active_on_branch(self, project: ProjectName, branch: str) -> Sequence[Run]:
        """Read the active runs that pushes to a branch started, without the live ones."""
        rows = self._index.on_branch(project, branch)
        runs = [read[0].value for read in self._tables.each(lambda row: self._read(RunId(row["run"])), rows) if read]
        return [run for run in runs if not run.ended and run.state is not State.LIVE]

    def of_job(self, job_name: JobName) -> RunId | None:
        """Find the run that submitted a job: a job is named after its run and stage."""
        run_id = RunId(job_name.rpartition("-")[0])
        if not run_id or run_id in self._seen:
            return run_id or None
        return run_id if self._tables.get(_RUNS, key(run_id), _SNAPSHOT, only=["version"]) is not None else None

    def of_version(self, model: ModelName, version: ModelVersion) -> RunId | None:
        """Find the newest run that released or tried to release a model version."""
        for run_id in self._index.of_version(model, version):
            read = self._read(run_id)
            if read is not None and (read[0].value.model, read[0].value.version) == (model, version):
                return run_id
        return None

    def rebuild_index(self) -> int:
        """
        Write every list row anew out of the runs, for a table of lists that was lost. It may be repeated at any time.

        Returns: How many runs there are. It reads all of them.
        """
        count, after = 0, ""
        while True:
            condition = "RowKey eq 'run' and PartitionKey gt @after"
            rows = self._tables.query(_RUNS, condition, {"after": after}, limit=_REBUILT_AT_ONCE)
            for row in rows:
                self._index.rebuild(Run.model_validate_json(body_of(row)), int(row["version"]))
            count += len(rows)
            if len(rows) < _REBUILT_AT_ONCE:
                return count
            after = rows[-1]["PartitionKey"]


def _taken(event_id: EventId) -> str:
    return f"id:{key(event_id)}"
