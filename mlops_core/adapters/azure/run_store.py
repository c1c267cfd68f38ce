"""
Runs in Table storage: one partition per run, with its snapshot and its history, both written in one transaction.

Rows of a run's partition: `run` is the snapshot with its pending effects, `event:<sequence>` the history, `id:<event id>`
says that an event was taken. Lists are small rows of another table, written before what they lead to and looked at with
doubt: what they say too much is found out by reading the run, and what they say too little cannot be. See
docs/decisions/0010-tables.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mlops_core.adapters.azure.tables import (
    ConflictError,
    Row,
    Tables,
    body_of,
    key,
    newest_first,
    token,
    with_body,
)
from mlops_core.domain.errors import DuplicateEventError, HeadraceError, NotFoundError, StaleRunError
from mlops_core.domain.events import EVENT, Event
from mlops_core.domain.ids import EventId, JobName, ModelName, ModelVersion, ProjectName, RunId
from mlops_core.domain.run import Run, State
from mlops_core.ports import HistoryEntry, Page, Stored

_RUNS, _INDEX = "Runs", "Index"
_SNAPSHOT = "run"
_ACTIVE, _ALL = "active", "all"
_REMEMBERED = 1_000


class TableRunStore:
    """The `RunStore` of the Azure backend."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        # The newest snapshots that this process read or wrote, with their etags. An old one only leads to a conflict.
        self._known: dict[RunId, tuple[Stored[Run], str]] = {}
        self._listed_active: set[RunId] = set()

    def create(self, run: Run) -> bool:
        """Store a new run; False when its id is there already."""
        mark = token()
        row = {"PartitionKey": key(run.id), "RowKey": _SNAPSHOT, "version": 1, "token": mark}
        snapshot = with_body(row, run.id, run.model_dump_json())
        try:
            (written,) = self._tables.write(_RUNS, [("create", snapshot)])
        except ConflictError:
            found = self._tables.get(_RUNS, key(run.id), _SNAPSHOT)
            if found is None or found["token"] != mark:
                # Whoever made it may have died before it was listed.
                self._list(self.load(run.id).value)
                return False
        else:
            self._remember(Stored(run, 1), str(written["etag"]))
        self._list(run)
        return True

    def _list(self, run: Run) -> None:
        """Write the rows by which a run is found. The caller answers only after them, so that nothing answered is lost."""
        at = f"{newest_first(run.created_at)}-{key(run.id)}"
        rows: list[Row] = [{"PartitionKey": _ALL, "RowKey": at, "run": run.id}]
        calls = [
            lambda: self._tables.create_if_absent(_INDEX, rows),
            lambda: self._tables.create_if_absent(
                _INDEX, [{"PartitionKey": f"project:{key(run.project)}", "RowKey": at, "run": run.id}]
            ),
        ]
        if _is_active(run):
            calls.append(lambda: self._mark_active(run))
        if run.version is not None:
            calls.append(lambda: self._list_version(run))
        self._tables.together(*calls)

    def _mark_active(self, run: Run) -> None:
        row = {
            "PartitionKey": _ACTIVE,
            "RowKey": key(run.id),
            "run": run.id,
            "project": run.project,
            "branch": run.trigger.branch,
            "kind": run.trigger.kind,
        }
        self._tables.create_if_absent(_INDEX, [row])

    def _list_version(self, run: Run) -> None:
        partition = f"version:{key(run.model or '')}:{key(run.version or '')}"
        at = f"{newest_first(run.created_at)}-{key(run.id)}"
        self._tables.create_if_absent(_INDEX, [{"PartitionKey": partition, "RowKey": at, "run": run.id}])

    def load(self, run_id: RunId) -> Stored[Run]:
        """Read a run and its version. Raises NotFoundError, TemporaryError."""
        row = self._tables.get(_RUNS, key(run_id), _SNAPSHOT)
        if row is None:
            raise NotFoundError("run", run_id, advice="List the runs: headrace runs.")
        known = self._known.get(run_id)
        if known is not None and known[1] == row["etag"]:
            return known[0]
        stored = Stored(Run.model_validate_json(body_of(row)), int(row["version"]))
        self._remember(stored, row["etag"])
        if run_id in self._listed_active and not _is_active(stored.value):
            # Whoever ended it died before it was taken off the list.
            self._listed_active.discard(run_id)
            self._unmark(run_id)
        return stored

    def _remember(self, stored: Stored[Run], etag: str) -> None:
        if len(self._known) >= _REMEMBERED:
            self._known = {}
        self._known[stored.value.id] = (stored, etag)

    def commit(self, run: Run, *, read_version: int, event: Event, entry_reason: str, recorded_at: datetime) -> int:
        """Save a run and its event, both or neither. Raises StaleRunError, DuplicateEventError."""
        before, etag = self._as_read(run, read_version)
        self._list_changes(before, run)
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
        taken = {"PartitionKey": partition, "RowKey": f"id:{key(event.event_id)}", "sequence": version}
        from azure.core import MatchConditions

        unchanged = {"mode": "replace", "etag": etag, "match_condition": MatchConditions.IfNotModified}
        try:
            written = self._tables.write(
                _RUNS,
                [
                    ("update", snapshot, unchanged),
                    ("create", with_body(entry, event.event_id, event.model_dump_json())),
                    ("create", taken),
                ],
            )
        except ConflictError:
            etag_now = self._own_or_raise(run, read_version, event, mark)
        else:
            etag_now = str(written[0]["etag"])
        self._remember(Stored(run, version), etag_now)
        if _is_active(run) and not _is_active(before):
            # Again, since whoever ended the run may take it off the list only now.
            self._mark_active(run)
        if not _is_active(run):
            self._unmark(run.id)
        return version

    def _unmark(self, run_id: RunId) -> None:
        """Take a run off the list of active ones, unless somebody brought it back in the meantime."""
        self._tables.delete(_INDEX, _ACTIVE, [key(run_id)])
        now = self.load(run_id).value
        if _is_active(now):
            self._mark_active(now)

    def _as_read(self, run: Run, read_version: int) -> tuple[Run, str]:
        """Find the snapshot and etag that a version stands for. Raises StaleRunError."""
        known = self._known.get(run.id)
        if known is None or known[0].version != read_version:
            stored = self.load(run.id)
            if stored.version != read_version:
                self._known.pop(run.id, None)
                raise StaleRunError(run.id, read_version=read_version, found_version=stored.version)
            known = self._known[run.id]
        return known[0].value, known[1]

    def _list_changes(self, before: Run, after: Run) -> None:
        """Write the list rows that a change needs before it is made, so that a crash leaves too many and never too few."""
        if _is_active(after) and not _is_active(before):
            self._mark_active(after)
        if after.version is not None and (after.version != before.version or after.model != before.model):
            self._list_version(after)

    def _own_or_raise(self, run: Run, read_version: int, event: Event, mark: str) -> str:
        """Tell a refused repeat of our own write, whose answer was lost, from somebody else's. Returns the etag."""
        self._known.pop(run.id, None)
        found = self._tables.get(_RUNS, key(run.id), _SNAPSHOT)
        if found is not None and found["token"] == mark:
            return str(found["etag"])
        raise self._refusal(run, read_version, event, found)

    def _refusal(self, run: Run, read_version: int, event: Event, found: Row | None) -> HeadraceError:
        if self._tables.get(_RUNS, key(run.id), f"id:{key(event.event_id)}") is not None:
            return DuplicateEventError(run.id, event.event_id)
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
        partition = _ALL if project is None else f"project:{key(project)}"
        rows = self._tables.query(
            _INDEX,
            "PartitionKey eq @partition and RowKey gt @after",
            {"partition": partition, "after": cursor or ""},
            limit=limit + 1,
        )
        runs = [run for row in rows[:limit] if (run := self._listed(row)) is not None]
        return Page(runs, rows[limit - 1]["RowKey"] if len(rows) > limit else None)

    def _listed(self, row: Row) -> Run | None:
        """Read the run that a list row leads to; None where the row is of a start that somebody else was quicker with."""
        try:
            run = self.load(RunId(row["run"])).value
        except NotFoundError:
            return None
        return run if row["RowKey"].startswith(newest_first(run.created_at)) else None

    def active(self, *, cursor: str | None = None, limit: int = 100) -> Page[RunId]:
        """Read the ids of runs that are not at an end, or that still have effects to perform."""
        rows = self._tables.query(
            _INDEX,
            "PartitionKey eq 'active' and RowKey gt @after",
            {"after": cursor or ""},
            limit=limit + 1,
        )
        ids = [RunId(row["run"]) for row in rows[:limit]]
        self._listed_active.update(ids)
        return Page(ids, rows[limit - 1]["RowKey"] if len(rows) > limit else None)

    def active_on_branch(self, project: ProjectName, branch: str) -> Sequence[Run]:
        """Read the active runs that pushes to a branch started, without the live ones."""
        rows = self._tables.query(
            _INDEX,
            "PartitionKey eq 'active' and project eq @project and branch eq @branch and kind eq 'push'",
            {"project": project, "branch": branch},
        )
        runs = [self.load(RunId(row["run"])).value for row in rows]
        return [run for run in runs if not run.ended and run.state is not State.LIVE]

    def of_job(self, job_name: JobName) -> RunId | None:
        """Find the run that submitted a job: a job is named after its run and stage."""
        run_id = RunId(job_name.rpartition("-")[0])
        found = self._tables.get(_RUNS, key(run_id), _SNAPSHOT) if run_id else None
        return run_id if found is not None else None

    def of_version(self, model: ModelName, version: ModelVersion) -> RunId | None:
        """Find the newest run that released or tried to release a model version."""
        partition = f"version:{key(model)}:{key(version)}"
        rows = self._tables.query(_INDEX, "PartitionKey eq @partition", {"partition": partition}, limit=1)
        return RunId(rows[0]["run"]) if rows else None


def _is_active(run: Run) -> bool:
    return not run.ended or bool(run.pending)
