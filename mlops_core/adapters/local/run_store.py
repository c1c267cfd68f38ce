"""
Runs in SQLite: a snapshot row per run, a history row per event, both written in one transaction.

Columns beside the snapshot are the index; each can be rebuilt from it. The cost of an event does not depend on
how long the history is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from mlops_core.adapters.local.database import Database
from mlops_core.domain.errors import DuplicateEventError, HeadraceError, NotFoundError, StaleRunError
from mlops_core.domain.events import EVENT, Event
from mlops_core.domain.ids import EventId, JobName, ModelName, ModelVersion, ProjectName, RunId
from mlops_core.domain.limits import checked_row
from mlops_core.domain.run import Run, State
from mlops_core.ports import HistoryEntry, Page, Stored

_ACTIVE_PUSH = "active = 1 AND trigger_kind = 'push' AND state <> 'live'"


# Some 10 KB each.
_REMEMBERED = 1_000


def _listed_by(run: Run) -> tuple[int, str | None, str | None]:
    """Give the columns of the indexes that a run's events change."""
    return int(not run.ended or bool(run.pending)), run.model, run.version


class SqliteRunStore:
    """The `RunStore` of the local backend."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # The newest snapshots that this process read or wrote. One is used only while the store still has its version,
        # so that parsing is saved and nothing else.
        self._known: dict[RunId, Stored[Run]] = {}

    def create(self, run: Run) -> bool:
        """Store a new run; False when its id is there already."""
        with self._database.transaction() as connection:
            done = connection.execute(
                "INSERT INTO runs (id, version, project, branch, trigger_kind, state, active, created_at, model,"
                " model_version, body) VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (
                    run.id,
                    run.project,
                    run.trigger.branch,
                    run.trigger.kind,
                    run.state,
                    int(not run.ended),
                    run.created_at.isoformat(),
                    run.model,
                    run.version,
                    checked_row(run.id, run.model_dump_json()),
                ),
            )
        return done.rowcount == 1

    def load(self, run_id: RunId) -> Stored[Run]:
        """Read a run and its version. Raises NotFoundError."""
        known = self._known.get(run_id)
        if known is not None:
            rows = self._database.read("SELECT version FROM runs WHERE id = ?", (run_id,))
            if rows and rows[0]["version"] == known.version:
                return known
        rows = self._database.read("SELECT body, version FROM runs WHERE id = ?", (run_id,))
        if not rows:
            raise NotFoundError("run", run_id, advice="List the runs: headrace runs.")
        return self._remember(Stored(Run.model_validate_json(rows[0]["body"]), rows[0]["version"]))

    def last_seen(self, run_id: RunId) -> Stored[Run]:
        """Give a run as this process saw it last, perhaps not the newest. Raises NotFoundError."""
        return self._known.get(run_id) or self.load(run_id)

    def _remember(self, stored: Stored[Run]) -> Stored[Run]:
        # One statement, so that threads need no lock; who comes to the limit forgets everything, which only costs time.
        if len(self._known) >= _REMEMBERED:
            self._known = {}
        self._known[stored.value.id] = stored
        return stored

    def commit(self, run: Run, *, read_version: int, event: Event, entry_reason: str, recorded_at: datetime) -> int:
        """Save a run and its event, both or neither. Raises StaleRunError, DuplicateEventError."""
        body, version = checked_row(run.id, run.model_dump_json()), read_version + 1
        event_body = checked_row(event.event_id, event.model_dump_json())
        known = self._known.get(run.id)
        before = known.value if known is not None and known.version == read_version else None
        with self._database.transaction() as connection:
            # The state before is read by the insert; where the version is another, it inserts nothing.
            try:
                inserted = connection.execute(
                    "INSERT INTO events (run_id, sequence, event_id, recorded_at, from_state, to_state, reason, body)"
                    " SELECT id, ?, ?, ?, state, ?, ?, ? FROM runs WHERE id = ? AND version = ?",
                    (
                        version,
                        event.event_id,
                        recorded_at.isoformat(),
                        run.state,
                        entry_reason,
                        event_body,
                        run.id,
                        read_version,
                    ),
                )
            except sqlite3.IntegrityError as error:
                raise DuplicateEventError(run.id, event.event_id) from error
            if inserted.rowcount != 1:
                raise self._refusal(connection, run, read_version, event)
            connection.execute(
                "UPDATE runs SET version = ?, state = ?, body = ? WHERE id = ?", (version, run.state, body, run.id)
            )
            if before is None or _listed_by(before) != _listed_by(run):
                # SQLite writes an index anew for each column that is set, whether it changed or not.
                connection.execute(
                    "UPDATE runs SET active = ?, model = ?, model_version = ? WHERE id = ?", (*_listed_by(run), run.id)
                )
        self._remember(Stored(run, version))
        return version

    def _refusal(self, connection: sqlite3.Connection, run: Run, read_version: int, event: Event) -> HeadraceError:
        known = connection.execute(
            "SELECT 1 FROM events WHERE run_id = ? AND event_id = ?", (run.id, event.event_id)
        ).fetchone()
        if known is not None:
            return DuplicateEventError(run.id, event.event_id)
        found = connection.execute("SELECT version FROM runs WHERE id = ?", (run.id,)).fetchone()
        return StaleRunError(run.id, read_version=read_version, found_version=found["version"] if found else None)

    def history(self, run_id: RunId, *, after: int = 0, limit: int = 200) -> Page[HistoryEntry]:
        """Read a run's story in the order in which it was taken."""
        rows = self._database.read(
            "SELECT * FROM events WHERE run_id = ? AND sequence > ? ORDER BY sequence LIMIT ?",
            (run_id, after, limit + 1),
        )
        entries = [
            HistoryEntry(
                sequence=row["sequence"],
                event_id=EventId(row["event_id"]),
                recorded_at=datetime.fromisoformat(row["recorded_at"]),
                event=EVENT.validate_json(row["body"]),
                from_state=row["from_state"],
                to_state=row["to_state"],
                reason=row["reason"],
            )
            for row in rows[:limit]
        ]
        return Page(entries, str(entries[-1].sequence) if len(rows) > limit else None)

    def of_project(self, project: ProjectName | None, *, cursor: str | None = None, limit: int = 50) -> Page[Run]:
        """Read runs, newest first; of all projects when None."""
        created_at, _, run_id = (cursor or "9999|~").partition("|")
        condition = "(created_at, id) < (?, ?)"
        parameters: tuple[object, ...] = (created_at, run_id)
        if project is not None:
            condition, parameters = f"project = ? AND {condition}", (project, *parameters)
        rows = self._database.read(
            # The condition is one of two literals above.
            f"SELECT body FROM runs WHERE {condition} ORDER BY created_at DESC, id DESC LIMIT ?",  # noqa: S608
            (*parameters, limit + 1),
        )
        runs = [Run.model_validate_json(row["body"]) for row in rows[:limit]]
        more = f"{runs[-1].created_at.isoformat()}|{runs[-1].id}" if len(rows) > limit else None
        return Page(runs, more)

    def active(self, *, cursor: str | None = None, limit: int = 100) -> Page[RunId]:
        """Read the ids of runs that are not at an end, or that still have effects to perform."""
        rows = self._database.read(
            "SELECT id FROM runs WHERE active = 1 AND id > ? ORDER BY id LIMIT ?", (cursor or "", limit + 1)
        )
        ids = [RunId(row["id"]) for row in rows[:limit]]
        return Page(ids, ids[-1] if len(rows) > limit else None)

    def active_on_branch(self, project: ProjectName, branch: str) -> Sequence[Run]:
        """Read the active runs that pushes to a branch started, without the live ones."""
        rows = self._database.read(
            f"SELECT body FROM runs WHERE project = ? AND branch = ? AND {_ACTIVE_PUSH}",  # noqa: S608 - a literal
            (project, branch),
        )
        runs = [Run.model_validate_json(row["body"]) for row in rows]
        return [run for run in runs if not run.ended and run.state is not State.LIVE]

    def of_job(self, job_name: JobName) -> RunId | None:
        """Find the run that submitted a job: a job is named after its run and stage."""
        run_id = job_name.rpartition("-")[0]
        rows = self._database.read("SELECT id FROM runs WHERE id = ?", (run_id,))
        return RunId(rows[0]["id"]) if rows else None

    def of_version(self, model: ModelName, version: ModelVersion) -> RunId | None:
        """Find the newest run that released or tried to release a model version."""
        rows = self._database.read(
            "SELECT id FROM runs WHERE model = ? AND model_version = ? ORDER BY created_at DESC LIMIT 1",
            (model, version),
        )
        return RunId(rows[0]["id"]) if rows else None
