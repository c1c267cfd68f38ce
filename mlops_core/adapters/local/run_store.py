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
from mlops_core.domain.errors import DuplicateEventError, NotFoundError, StaleRunError
from mlops_core.domain.events import EVENT, Event
from mlops_core.domain.ids import EventId, JobName, ModelName, ModelVersion, ProjectName, RunId
from mlops_core.domain.limits import checked_row
from mlops_core.domain.run import Run, State
from mlops_core.ports import HistoryEntry, Page, Stored

_ACTIVE_PUSH = "active = 1 AND trigger_kind = 'push' AND state <> 'live'"


class SqliteRunStore:
    """The `RunStore` of the local backend."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        rows = self._database.read("SELECT body, version FROM runs WHERE id = ?", (run_id,))
        if not rows:
            raise NotFoundError("run", run_id, advice="List the runs: headrace runs.")
        return Stored(Run.model_validate_json(rows[0]["body"]), rows[0]["version"])

    def commit(self, run: Run, *, read_version: int, event: Event, entry_reason: str, recorded_at: datetime) -> int:
        """Save a run and its event, both or neither. Raises StaleRunError, DuplicateEventError."""
        version = read_version + 1
        with self._database.transaction() as connection:
            before = connection.execute("SELECT version, state FROM runs WHERE id = ?", (run.id,)).fetchone()
            known = connection.execute(
                "SELECT 1 FROM events WHERE run_id = ? AND event_id = ?", (run.id, event.event_id)
            ).fetchone()
            if known is not None:
                raise DuplicateEventError(run.id, event.event_id)
            if before is None or before["version"] != read_version:
                found = before["version"] if before else None
                raise StaleRunError(run.id, read_version=read_version, found_version=found)
            self._insert_event(connection, run, version, event, (before["state"], entry_reason, recorded_at))
            connection.execute(
                "UPDATE runs SET version = ?, state = ?, active = ?, model = ?, model_version = ?, body = ?"
                " WHERE id = ? AND version = ?",
                (
                    version,
                    run.state,
                    int(not run.ended or bool(run.pending)),
                    run.model,
                    run.version,
                    checked_row(run.id, run.model_dump_json()),
                    run.id,
                    read_version,
                ),
            )
        return version

    def _insert_event(
        self, connection: sqlite3.Connection, run: Run, version: int, event: Event, entry: tuple[str, str, datetime]
    ) -> None:
        from_state, reason, recorded_at = entry
        connection.execute(
            "INSERT INTO events (run_id, sequence, event_id, recorded_at, from_state, to_state, reason, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                run.id,
                version,
                event.event_id,
                recorded_at.isoformat(),
                from_state,
                run.state,
                reason,
                checked_row(event.event_id, event.model_dump_json()),
            ),
        )

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
