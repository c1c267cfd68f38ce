"""Designs that do not work, kept so that the tests can show that they would notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from durable import NameForgettingJobs

from mlops_core.adapters.local.run_store import SqliteRunStore
from mlops_core.application import Application
from mlops_core.domain import events as ev
from mlops_core.domain.effects import SubmitJob
from mlops_core.domain.run import Run
from mlops_core.ports import JobRequest
from mlops_core.services.training import spec_of


def _request(app: Application, run: Run, effect: SubmitJob) -> JobRequest:
    if run.trigger.commit is None:
        raise AssertionError("every run of these tests has a commit")
    project = app.world.projects.get(run.project)
    return JobRequest(effect.job_name, effect.stage, run.id, project, run.trigger.commit, spec_of(run))


def launch_then_record(app: Application, folder: Path) -> None:
    """Start a job, write down afterwards which: a crash in between starts another."""
    jobs = _gated_like(app, NameForgettingJobs(folder))

    def submit(run: Run, effect: SubmitJob) -> list[ev.Event]:
        jobs.submit(_request(app, run, effect))
        return [ev.JobSubmitted(at=app.world.clock.now(), stage=effect.stage, job_name=effect.job_name)]

    app.controller._performers["submit_job"] = submit  # type: ignore[index] - a dict, for this


def record_then_launch(app: Application, folder: Path) -> None:
    """Write down that a job was started, then start it: a crash in between loses it."""

    def submit(run: Run, effect: SubmitJob) -> list[ev.Event]:
        fact = ev.JobSubmitted(at=app.world.clock.now(), stage=effect.stage, job_name=effect.job_name)
        app.controller.take(run.id, fact)
        app.world.jobs.submit(_request(app, run, effect))
        return []

    app.controller._performers["submit_job"] = submit  # type: ignore[index] - a dict, for this


def forget_versions(app: Application, folder: Path) -> None:
    """Save whatever was there: two who read the same version both write, and one event is lost."""
    runs: Any = app.world.runs
    store: SqliteRunStore = runs._inner

    def upsert(run: Run, *, read_version: int, event: ev.Event, entry_reason: str, recorded_at: Any) -> int:
        with store._database.transaction() as connection:
            row = connection.execute("SELECT max(sequence) FROM events WHERE run_id = ?", (run.id,)).fetchone()
            version = (row[0] or 1) + 1
            connection.execute(
                "UPDATE runs SET version = ?, state = ?, active = ?, body = ? WHERE id = ?",
                (version, run.state, int(not run.ended or bool(run.pending)), run.model_dump_json(), run.id),
            )
            connection.execute(
                "INSERT OR IGNORE INTO events (run_id, sequence, event_id, recorded_at, from_state, to_state, reason,"
                " body) VALUES (?, ?, ?, ?, '', '', '', ?)",
                (run.id, version, event.event_id, recorded_at.isoformat(), event.model_dump_json()),
            )
        return version

    store.commit = upsert  # type: ignore[method-assign, assignment] - this process only


def _gated_like(app: Application, jobs: Any) -> Any:
    from failpoints import Gated

    ours: Any = app.world.jobs
    return Gated(jobs, "jobs", ours._gate)
