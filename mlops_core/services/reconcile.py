"""
Look after what should have been heard of by now. After any crash, lost message or lost event this alone brings every
run to the same end.

Some events never come: Azure ML sends none for a failed or cancelled job, and hosts never deliver a lost webhook again.
So this is a duty, not a repair. It goes over the active runs only, a page at a time, and a failure in one run never
stops another.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from mlops_core.controller import Controller, effect_message
from mlops_core.domain import events as ev
from mlops_core.domain.errors import HeadraceError, PermanentError
from mlops_core.domain.ids import CommitId, DeploymentName, ModelVersion, RunId, deployment_of_version
from mlops_core.domain.limits import cut
from mlops_core.domain.run import Run, State
from mlops_core.ports import JobStatus, ProjectRecord
from mlops_core.services.intake import Intake
from mlops_core.services.release import ReleaseService

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReconcilePolicy:
    """
    How long something may take before it is asked for again.

    Attributes:
        resend_after: Age of a pending effect whose message may be lost. Longer than a queue hides a message.
    """

    resend_after: timedelta = timedelta(seconds=60)


class Reconciler:
    """Compares what is recorded with what is."""

    def __init__(
        self, controller: Controller, intake: Intake, release: ReleaseService, policy: ReconcilePolicy
    ) -> None:
        self._controller = controller
        self._world = controller.world
        self._intake = intake
        self._release = release
        self._policy = policy

    def runs(self) -> int:
        """Look after every active run. Returns how many there were."""
        seen, cursor = 0, None
        while True:
            page = self._world.runs.active(cursor=cursor)
            for run_id in page.items:
                self._guarded(run_id, self.run)
            seen += len(page.items)
            cursor = page.cursor
            if cursor is None:
                return seen

    def run(self, run_id: RunId) -> None:
        """Look after one run."""
        run = self._world.runs.load(run_id).value
        self._resend(run)
        self._ask_for_jobs(run)
        if not self._intake.look_at_deployment(run) and run.version is not None:
            self._request_deployment(run, run.version)
        self._expire(run)
        self._keep_alive(run)

    def _request_deployment(self, run: Run, version: ModelVersion) -> None:
        """Ask for a deployment that is gone, or that waits for something; where it can never be, the run ends with why."""
        try:
            self._release.request_again(run, version)
        except PermanentError as error:
            now = self._world.clock.now()
            failed = ev.DeploymentFailed(at=now, version=version, reason=cut(str(error)), revival=run.revivals)
            self._controller.take(run.id, failed)

    def _resend(self, run: Run) -> None:
        now = self._world.clock.now()
        for pending in run.pending:
            if now - pending.since >= self._policy.resend_after:
                self._world.queue.put(effect_message(run.id, pending.effect.key))

    def _ask_for_jobs(self, run: Run) -> None:
        for job in run.open_jobs():
            status = self._world.jobs.status(job.job_name)
            if status is None:
                reason = f"the job runner does not know job '{job.job_name}' any more. Push or retrain again."
                status = JobStatus(name=job.job_name, outcome="failed", reason=reason)
            self._intake.job_seen(run.id, status)

    def _expire(self, run: Run) -> None:
        if run.state is not State.AWAITING_APPROVAL or run.spec is None:
            return
        now = self._world.clock.now()
        if now - run.entries[-1].at >= timedelta(seconds=run.spec.release.approval_expires):
            self._controller.take(run.id, ev.ApprovalExpired(at=now))

    def _keep_alive(self, run: Run) -> None:
        """A live run's deployment is made again when it is gone; one that lost the traffic unheard is retired."""
        if run.state is not State.LIVE or run.model is None or run.version is None:
            return
        champion = self._world.models.load(run.model).value.champion
        if champion is not None and champion.run_id != run.id:
            reason = f"version {champion.version} took over: run {champion.run_id}"
            self._controller.take(run.id, ev.Retired(at=self._world.clock.now(), by_run=champion.run_id, reason=reason))
        else:
            self._revive_deployment(run, deployment_of_version(run.model, run.version), run.version)

    def _revive_deployment(self, run: Run, name: DeploymentName, version: ModelVersion) -> None:
        status = self._world.deployer.status(name)
        if status.state not in ("absent", "failed"):
            return
        fields = {"run_id": run.id, "version": version, "state": status.state, "reason": status.reason}
        log.warning("deployment of a live version is gone, making it again", extra=fields)
        if status.state == "failed":
            self._world.deployer.delete(name)
        self._release.request_again(run, version)

    def heads(self) -> None:
        """Compare each project's branch heads with the pushes heard of: a webhook may have been lost."""
        for record in self._world.projects.all():
            self._guarded(record, self._look_at_heads)

    def _look_at_heads(self, record: ProjectRecord) -> None:
        heads = self._world.source_of(record).heads(record)
        if heads == record.known_heads:
            return
        # At the first look the branches have what was pushed before anybody asked for it to be delivered.
        known = heads if record.known_heads is None else record.known_heads
        for branch, commit in heads.items():
            if known.get(branch) != commit:
                self._take_unheard(record, branch, commit, before=known.get(branch))
        self._world.projects.put(replace(self._world.projects.get(record.name), known_heads=dict(heads)))

    def _take_unheard(self, record: ProjectRecord, branch: str, commit: CommitId, *, before: CommitId | None) -> None:
        push = ev.GitPush(
            host=record.host,
            repository=record.repository,
            ref=f"refs/heads/{branch}",
            commit=commit,
            before=before,
            pushed_at=self._world.clock.now(),
            message="found by looking at the branch",
        )
        # Of this branch: a merge by fast-forward brings a commit whose run is that of another.
        if self._controller.exists(self._intake.run_of(record, push)):
            return
        log.warning("push without a webhook", extra={"project": record.name, "branch": branch, "commit": commit})
        self._intake.push(push)

    def _guarded(self, subject: object, look: Callable[..., None]) -> None:
        try:
            look(subject)
        except HeadraceError as error:
            log.warning("could not be reconciled", extra={"subject": str(subject), "error": str(error)})
        except Exception:
            # A bug that one run meets, or a row that cannot be read, must not keep all others from being looked after.
            log.exception("unforeseen error while reconciling", extra={"subject": str(subject)})
