"""
What starts a run, and what is heard about jobs, models and deployments: facts from outside, found their run.

Handlers call this after translating. A notice is a hint about the world: where it could be stale, the world is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from mlops_core.controller import Controller
from mlops_core.domain import events as ev
from mlops_core.domain.errors import NotFoundError, RefusedError, TooLargeError
from mlops_core.domain.guards import deployed, requested
from mlops_core.domain.ids import (
    CommitId,
    DeploymentName,
    JobName,
    ModelName,
    ModelVersion,
    ProjectName,
    RunId,
    deployment_of_version,
    job_of_run,
    run_of_push,
    run_of_push_to,
    run_of_request,
    run_of_version,
)
from mlops_core.domain.limits import CHANGED_FILES, CHANGED_LETTERS, LOG_LETTERS, NAME_LETTERS, cut
from mlops_core.domain.run import Run, State, Trigger
from mlops_core.ports import JobStatus, ProjectRecord
from mlops_core.services.succession import run_before, run_of_released

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retrain:
    """
    A person's wish for a new training.

    Attributes:
        request_id: Chosen by the asker; the same one again is the same run.
        rebuild: Whether to build and test again first.
        reuse: Whether steps that did not change may be taken over, as for a push. A person who asks for a training
            wants one: what was taken over would give the same model again.
        resume_from: A failed run, whose finished steps are taken over and whose commit is used.
    """

    project: ProjectName
    request_id: str
    by: str
    reason: str = ""
    rebuild: bool = True
    reuse: bool = False
    commit: CommitId | None = None
    resume_from: RunId | None = None


class Intake:
    """Finds or starts the run that a notice is about."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._world = controller.world

    def push(self, push: ev.GitPush) -> list[RunId]:
        """
        Start a run for each project of the pushed repository.

        Returns: Ids of the runs, whether they are new or were started by an earlier delivery.
        Raises: NotFoundError: Nobody allowed this repository.
        """
        records = self.known_repository(push.host, push.repository)
        return [self._start_push(record, push) for record in records]

    def known_repository(self, host: str, repository: str) -> Sequence[ProjectRecord]:
        """Find the projects of a repository. Raises NotFoundError."""
        records = self._world.projects.of_repository(host, repository)
        if not records:
            advice = "Allow it first: headrace add PATH."
            raise NotFoundError(f"registered repository at {host} named", repository, advice=advice)
        return records

    def run_of(self, record: ProjectRecord, push: ev.GitPush) -> RunId:
        """Name the run of a push. A commit that came to another branch first has a run for each of the two."""
        run_id = run_of_push(record.name, push.commit)
        try:
            first = self._world.runs.load(run_id).value
        except NotFoundError:
            return run_id
        same = first.trigger.branch == push.branch
        return run_id if same else run_of_push_to(record.name, push.commit, push.branch)

    def _start_push(self, record: ProjectRecord, push: ev.GitPush) -> RunId:
        if len(push.ref) > NAME_LETTERS:
            raise TooLargeError(f"The ref '{push.ref[:80]} ...' has {len(push.ref)} letters; at most {NAME_LETTERS}.")
        trigger = Trigger(
            kind="push",
            ordinal=push.pushed_at,
            branch=push.branch,
            commit=push.commit,
            before=push.before,
            changed=_changed(push),
            by=cut(push.pushed_by, NAME_LETTERS),
            reason=push.message.partition("\n")[0],
        )
        run_id = self.run_of(record, push)
        if not self._start(run_id, record.name, trigger):
            # Somebody else was quicker; if it was with a push to another branch, this one has its own run.
            known, run_id = run_id, self.run_of(record, push)
            if run_id != known:
                self._start(run_id, record.name, trigger)
        return run_id

    def retrain(self, wish: Retrain) -> RunId:
        """
        Start a run that trains again.

        Raises:
            NotFoundError: No such project, or no such run to resume.
            RefusedError: The run to resume cannot be, or the project has no commit to train.
        """
        record = self._world.projects.get(wish.project)
        commit, rebuild = wish.commit, wish.rebuild
        if wish.resume_from is not None:
            commit, rebuild = self._resumable(wish.resume_from, record), False
        if commit is None:
            commit = self._world.source_of(record).head(record, record.default_branch)
        if commit is None:
            raise RefusedError(
                f"Project '{record.name}' has no commit on branch '{record.default_branch}' yet. Push first."
            )
        trigger = Trigger(
            kind="retrain",
            ordinal=self._world.clock.now(),
            branch=record.default_branch,
            commit=commit,
            by=cut(wish.by, NAME_LETTERS),
            reason=cut(wish.reason),
            rebuild=rebuild,
            reuse=wish.reuse or wish.resume_from is not None,
            resume_from=wish.resume_from,
        )
        run_id = run_of_request(record.name, "retrain", wish.request_id)
        self._start(run_id, record.name, trigger)
        return run_id

    def _resumable(self, run_id: RunId, record: ProjectRecord) -> CommitId | None:
        earlier = self._world.runs.load(run_id).value
        if earlier.project != record.name:
            raise RefusedError(
                f"Run '{run_id}' belongs to project '{earlier.project}', not to '{record.name}'. Resume a run of the "
                "same project."
            )
        trained = earlier.facts.get(ev.JobEnded, "train")
        if trained is None or trained.outcome == "succeeded":
            why = (
                "its training has not ended" if earlier.facts.get(ev.JobSubmitted, "train") else "it was never trained"
            )
            raise RefusedError(
                f"Run '{run_id}' cannot be resumed: it is '{earlier.state}', and "
                f"{why if trained is None else 'no step of its training failed'}. "
                f"Train from the start: headrace retrain {record.name}."
            )
        return earlier.trigger.commit

    def rollback(
        self, model: ModelName, *, request_id: str, by: str, reason: str = "", version: ModelVersion | None = None
    ) -> RunId:
        """
        Start a run that brings the version before the champion back, or the one that is named.

        Before it in time: a version that was itself rolled back from is only gone to by its name.

        Raises: RefusedError: There is no version before, or the named one was never in service.
        """
        record = self._world.models.load(model).value
        if record.champion is None:
            raise RefusedError(f"Model '{model}' has no version in service, so there is nothing to roll back.")
        run_id = run_of_request(record.champion.project, "rollback", request_id)
        if self._controller.exists(run_id):
            return run_id
        earlier = run_of_released(self._world, record, version) if version else run_before(self._world, record)
        now = self._world.clock.now()
        trigger = Trigger(
            kind="rollback",
            ordinal=now,
            commit=earlier.trigger.commit,
            by=cut(by, NAME_LETTERS),
            reason=cut(reason) or f"away from version {record.champion.version}",
            version=earlier.version,
        )
        self._start(run_id, earlier.project, trigger)
        policy = ev.PolicyDecided(at=now, decision="deliver", reason="rollback", spec=earlier.spec)
        self._controller.take(run_id, policy)
        return run_id

    def model_registered(self, model: ModelName, version: ModelVersion) -> RunId | None:
        """
        Find the run that a new model version comes from, or start one for a version from elsewhere.

        Returns: None where no project produces this model: it is nothing of ours.
        """
        registered = self._world.registry.version(model, version)
        run_id = self._world.runs.of_job(registered.job_name) if registered.job_name else None
        if run_id is not None:
            # A pipeline may register other models beside the one that its run releases.
            if self._world.runs.load(run_id).value.model in (None, model):
                now = self._world.clock.now()
                self._controller.take(run_id, ev.ModelAnnounced(at=now, model=model, version=version))
            return run_id
        record = self._world.projects.of_model(model)
        if record is None:
            log.info("model of no project", extra={"model": model, "version": version})
            return None
        return self._start_registered(record, model, version)

    def _start_registered(self, record: ProjectRecord, model: ModelName, version: ModelVersion) -> RunId | None:
        commit = self._world.source_of(record).head(record, record.default_branch)
        trigger = Trigger(
            kind="registered", ordinal=self._world.clock.now(), commit=commit, version=version, by="registry"
        )
        run_id = run_of_version(record.name, model, version)
        self._start(run_id, record.name, trigger)
        return run_id

    def job_told(self, name: JobName, outcome: ev.JobOutcome | None, reason: str = "") -> RunId | None:
        """
        Take what was told about a job, asking the runner for its reason and log.

        Returns: None where the job is none of ours (a step of a pipeline, somebody's notebook).
        """
        run_id = self._world.runs.of_job(name)
        if run_id is None or name not in (job_of_run(run_id, "build"), job_of_run(run_id, "train")):
            return None
        status = self._world.jobs.status(name)
        if status is None or status.outcome is None:
            if outcome is None:
                return run_id
            status = JobStatus(name=name, outcome=outcome, reason=reason)
        self.job_seen(run_id, status)
        return run_id

    def job_seen(self, run_id: RunId, status: JobStatus) -> None:
        """Take the end of a job that the runner tells of; one that is under way changes nothing."""
        if status.outcome is None:
            return
        stage: ev.JobStage = "build" if status.name == job_of_run(run_id, "build") else "train"
        now = self._world.clock.now()
        self._controller.take(
            run_id,
            ev.JobEnded(
                # A runner's clock may be ahead of ours, and what is pending is asked for again by its age.
                at=min(status.ended_at or now, now),
                stage=stage,
                job_name=status.name,
                outcome=status.outcome,
                reason=cut(status.reason),
                log_tail=status.log_tail[-LOG_LETTERS:],
            ),
        )

    def deployment_told(self, model: ModelName, version: ModelVersion) -> RunId | None:
        """Take that something changed about a deployment, by asking for it."""
        run_id = self._world.runs.of_version(model, version)
        if run_id is not None:
            self.look_at_deployment(self._world.runs.load(run_id).value)
        return run_id

    def group_told(self, name: DeploymentName) -> RunId | None:
        """Take that something changed about a deployment that is known by its name only: few runs deploy at a time."""
        cursor: str | None = None
        while True:
            page = self._world.runs.active(cursor=cursor)
            for run_id in page.items:
                run = self._world.runs.load(run_id).value
                if self._awaited_deployment(run) == name:
                    self.look_at_deployment(run)
                    return run_id
            if page.cursor is None:
                return None
            cursor = page.cursor

    def look_at_deployment(self, run: Run) -> bool:
        """
        Ask for the deployment that a run waits for, and take the answer.

        Returns: False where it is gone, so that it has to be asked for again.
        """
        name = self._awaited_deployment(run)
        if name is None or run.version is None:
            return True
        status = self._world.deployer.status(name)
        now = self._world.clock.now()
        if status.state == "ready":
            self._controller.take(run.id, ev.DeploymentReady(at=now, version=run.version, revival=run.revivals))
        elif status.state == "failed":
            failed = ev.DeploymentFailed(
                at=now,
                version=run.version,
                reason=cut(status.reason),
                log_tail=status.log_tail[-LOG_LETTERS:],
                revival=run.revivals,
            )
            self._controller.take(run.id, failed)
        return status.state != "absent"

    def _awaited_deployment(self, run: Run) -> DeploymentName | None:
        waits = run.state is State.DEPLOYING and requested(run) is not None
        if not waits or deployed(run) is not None or run.model is None or run.version is None:
            return None
        return deployment_of_version(run.model, run.version)

    def _start(self, run_id: RunId, project: ProjectName, trigger: Trigger) -> bool:
        now = self._world.clock.now()
        return self._controller.start(Run(id=run_id, project=project, trigger=trigger, created_at=now, updated_at=now))


def _changed(push: ev.GitPush) -> tuple[str, ...] | None:
    """A commit says enough: more changed files than this only matter as "something changed"."""
    if push.changed is None or len(push.changed) > CHANGED_FILES:
        return None
    return push.changed if sum(map(len, push.changed)) <= CHANGED_LETTERS else None
