"""What people and programs may ask: plain JSON-able views of runs, models, projects and dead letters."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlops_core.domain import events as ev
from mlops_core.domain.errors import NotFoundError
from mlops_core.domain.ids import JobName, ModelName, ProjectName, RunId, deployment_of_version
from mlops_core.domain.run import Run, State
from mlops_core.ports import DeadLetter, HistoryEntry, ProjectRecord, RegisteredVersion
from mlops_core.services.progress import Position, RunProgress, durations
from mlops_core.world import World

View = dict[str, Any]
# Of a longer log the end is given: what matters is there, and an answer over HTTP must end some time.
_LONGEST_LOG = 8_388_608
_SERVING_LINES = 200
_GOOD_ENDS = (State.BUILT, State.SKIPPED, State.LIVE, State.RETIRED)


class Queries:
    """Read-only questions."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._progress = RunProgress(world)

    def projects(self) -> View:
        """List the allowed repositories."""
        return {"projects": [_project(record) for record in self._world.projects.all()]}

    def runs(self, project: str | None, cursor: str | None, limit: int) -> View:
        """List runs, newest first. Raises NotFoundError: There is no such project."""
        if project:
            self._world.projects.get(ProjectName(project))
        page = self._world.runs.of_project(ProjectName(project) if project else None, cursor=cursor, limit=limit)
        return {"runs": [summary(run) for run in page.items], "cursor": page.cursor}

    def run(self, run_id: RunId) -> View:
        """Tell a run's story. Raises NotFoundError."""
        run = self._world.runs.load(run_id).value
        history = self._world.runs.history(run_id, limit=1_000)
        return {
            **summary(run),
            "spec": run.spec.model_dump(mode="json") if run.spec else None,
            "states": [entry.model_dump(mode="json") for entry in run.entries],
            "pending": [pending.model_dump(mode="json") for pending in run.pending],
            "gates": [fact.model_dump(mode="json") for fact in run.facts.all(ev.GatesJudged)],
            "history": [_history(entry) for entry in history.items],
            "more_history": history.cursor is not None,
            "log_tail": _log_tail(run),
        }

    def progress(self, run_id: RunId, after: str) -> View:
        """
        Tell what is new about a run since the last look.

        Args:
            after: `next` of the answer before, or empty.
        """
        run = self._world.runs.load(run_id).value
        lines, position = self._progress.lines(run, Position.parse(after))
        return {
            **summary(run),
            "lines": lines,
            "stages": durations(run),
            "gates": [fact.model_dump(mode="json") for fact in run.facts.all(ev.GatesJudged)],
            "next": str(position),
            "log_tail": _log_tail(run),
        }

    def models(self) -> View:
        """List the models with what serves them."""
        return {"models": [self.model(name) for name in self._world.models.names()]}

    def model(self, name: ModelName) -> View:
        """Tell who serves a model, who did, and what is registered. Raises NotFoundError."""
        record = self._world.models.load(name).value
        ledger = self._world.models.ledger(name, limit=20).items
        if record.lock is None and not ledger:
            self._registered(name, limit=1)
        return {
            "name": name,
            "champion": record.champion.model_dump(mode="json") if record.champion else None,
            "previous": record.before.model_dump(mode="json") if record.before else None,
            "releasing": record.lock.model_dump(mode="json") if record.lock else None,
            "address": f"/api/models/{name}/score" if record.champion else None,
            "ledger": [entry.model_dump(mode="json") for entry in ledger],
        }

    def deployments(self) -> View:
        """
        List all deployments, and whether a model needs them: one that none needs was left behind, and may cost money.

        The models are read last, so that what is released meanwhile is not taken for left behind.
        """
        found = self._world.deployer.list()
        needed = {
            deployment_of_version(name, each.version)
            for name in self._world.models.names()
            for record in [self._world.models.load(name).value]
            for each in (record.champion, record.lock)
            if each is not None and each.version is not None
        }
        return {
            "deployments": [
                {
                    "name": status.name,
                    "state": status.state,
                    "address": status.address,
                    "reason": status.reason,
                    "needed": status.name in needed,
                }
                for status in sorted(found, key=lambda status: status.name)
            ]
        }

    def versions(self, name: ModelName) -> View:
        """List the registered versions of a model with their metrics. Raises NotFoundError."""
        return {
            "versions": [
                {
                    "version": version.version,
                    "metrics": dict(version.metrics),
                    "tags": dict(version.tags),
                    "job_name": version.job_name,
                    "created_at": version.created_at.isoformat(),
                }
                for version in self._registered(name, limit=50)
            ]
        }

    def _registered(self, name: ModelName, *, limit: int) -> Sequence[RegisteredVersion]:
        versions = self._world.registry.versions(name, limit=limit)
        if not versions:
            raise NotFoundError("registered model", name, advice="List those in service: headrace models.")
        return versions

    def dead_letters(self, cursor: str | None, limit: int) -> View:
        """List what could not be taken."""
        page = self._world.dead_letters.list(cursor=cursor, limit=limit)
        return {"dead_letters": [letter_view(letter) for letter in page.items], "cursor": page.cursor}

    def log(self, run_id: RunId, stage: ev.JobStage) -> tuple[bytes, int]:
        """
        Read the log of a run's job.

        Returns: The log, of a long one its end from the beginning of a line, and how many bytes are left out before.
        Raises: NotFoundError: There is none; it says why, and what to do.
        """
        run = self._world.runs.load(run_id).value
        if run.facts.get(ev.JobSubmitted, stage) is None:
            raise NotFoundError(f"{stage} log of run", run_id, advice=_why_no_log(run, stage))
        return _end_of(self._world.jobs.log(JobName(run.job_name(stage))), _LONGEST_LOG)

    def serving_log(self, run_id: RunId) -> bytes:
        """
        Read the end of what a run's version prints that is deployed.

        Raises: NotFoundError: It is not deployed, or printed nothing.
        """
        run = self._world.runs.load(run_id).value
        printed = ""
        if run.model is not None and run.version is not None:
            name = deployment_of_version(run.model, run.version)
            printed = self._world.deployer.log_tail(name, lines=_SERVING_LINES)
        if not printed:
            advice = f"It is '{run.state}': only a version that is deployed has one. Its story: headrace show {run.id}."
            raise NotFoundError("serve log of run", run_id, advice=advice)
        return f"{printed}\n".encode()


def _end_of(chunks: Iterable[bytes], limit: int) -> tuple[bytes, int]:
    """Keep the end only: a step may print gigabytes, and the controller's memory is not for them."""
    kept: deque[bytes] = deque()
    size = left_out = 0
    for chunk in chunks:
        kept.append(chunk)
        size += len(chunk)
        while size - len(kept[0]) >= limit:
            size -= len(kept[0])
            left_out += len(kept.popleft())
    log = b"".join(kept)
    if left_out == 0 and size <= limit:
        return log, 0
    start = size - limit
    line_end = log.find(b"\n", start) + 1
    start = line_end if 0 < line_end < size else start
    return log[start:], left_out + start


def summary(run: Run) -> View:
    """Tell the essentials of a run."""
    return {
        "run_id": run.id,
        "project": run.project,
        "state": run.state,
        "reason": run.reason,
        "ended": run.ended or run.state is State.LIVE,
        "ok": run.state in _GOOD_ENDS,
        "trigger": run.trigger.model_dump(mode="json", exclude={"changed"}),
        "model": run.model,
        "version": run.version,
        "address": f"/api/models/{run.model}/score" if run.state is State.LIVE else None,
        "created_at": run.created_at.isoformat(),
        "updated_at": run.updated_at.isoformat(),
    }


def letter_view(letter: DeadLetter) -> View:
    """Tell a dead letter."""
    return {
        "id": letter.letter_id,
        "kind": letter.kind,
        "subject": letter.subject,
        "reason": letter.reason,
        "body": letter.body,
        "created_at": letter.created_at.isoformat(),
        "run_id": letter.run_id,
        "key": letter.key,
    }


def _project(record: ProjectRecord) -> View:
    view: Mapping[str, Any] = {
        "name": record.name,
        "host": record.host,
        "repository": record.repository,
        "manifest": record.manifest,
        "default_branch": record.default_branch,
        "model": record.model,
    }
    return dict(view)


def _history(entry: HistoryEntry) -> View:
    return {
        "sequence": entry.sequence,
        "recorded_at": entry.recorded_at.isoformat(),
        "event_id": entry.event_id,
        "event": entry.event.model_dump(mode="json", exclude={"spec"}),
        "from": entry.from_state,
        "to": entry.to_state,
        "reason": entry.reason,
    }


def _why_no_log(run: Run, stage: ev.JobStage) -> str:
    if run.trigger.kind == "rollback":
        return f"A rollback builds and trains nothing. Its story: headrace show {run.id}."
    if run.ended:
        return f"It ended before that: {run.state}, {run.reason}"
    if stage == "build" and not run.trigger.rebuild:
        return f"It takes the build of before. Its training: headrace logs {run.id} --stage train."
    if run.state is State.RECEIVED or run.state is State.BUILDING:
        return f"It is '{run.state}' still. Watch it: headrace logs {run.id} --follow."
    return f"It is '{run.state}', and never had one. Its story: headrace show {run.id}."


def _log_tail(run: Run) -> str:
    failed = run.facts.get(ev.DeploymentFailed)
    tails = [ended.log_tail for ended in run.facts.all(ev.JobEnded) if ended.outcome == "failed"]
    if failed is not None:
        tails.append(failed.log_tail)
    return tails[-1] if tails else ""
