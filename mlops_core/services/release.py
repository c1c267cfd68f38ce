"""
Perform the effects of a release: lock, deploy, smoke-test, shift the traffic, and tidy up.

The new deployment is made beside the old one, which ends only after the new one has the traffic. Each step reads the
model's record anew and is safe to repeat after a crash at any point.
"""

from __future__ import annotations

from collections.abc import Callable

from mlops_core.domain import events as ev
from mlops_core.domain.effects import (
    DeleteDeployment,
    DeployVersion,
    ReturnReleaseLock,
    ShiftTraffic,
    SmokeTest,
    TakeReleaseLock,
)
from mlops_core.domain.errors import PermanentError, StaleRunError, TemporaryError
from mlops_core.domain.ids import DeploymentName, ModelVersion, RunId, deployment_of_version
from mlops_core.domain.limits import cut
from mlops_core.domain.model import LedgerEntry, LockAnswer, Model, Release, ReleaseLock
from mlops_core.domain.run import Run, State
from mlops_core.ports import DeploymentRequest
from mlops_core.services.smoke import SmokeTester
from mlops_core.services.succession import is_newer
from mlops_core.services.training import model_of, spec_of
from mlops_core.world import World

_MAX_CONFLICTS = 100
_LOG_LINES, _LOG_LETTERS = 15, 1_200
_RELEASING = (State.DEPLOYING, State.ROLLING_OUT)


class ReleaseService:
    """
    Brings a version into service.

    Args:
        take: Takes a fact about another run.
        wake: Puts the hints of another run's pending effects on the queue.
    """

    def __init__(
        self,
        world: World,
        *,
        take: Callable[[RunId, ev.Event], object],
        wake: Callable[[RunId], object],
        smoke: SmokeTester,
    ) -> None:
        self._world = world
        self._take = take
        self._wake = wake
        self._smoke = smoke

    def take_lock(self, run: Run, effect: TakeReleaseLock) -> list[ev.Event]:
        """Become the run that releases; while another does, the effect stays pending and that run wakes this one."""
        wanted = ReleaseLock(run_id=run.id, version=effect.version, ordinal=run.trigger.ordinal)

        def ask(model: Model) -> tuple[Model, LockAnswer]:
            return self._without_orphan(model).with_lock(wanted, outdated=self._is_outdated(run, model))

        model, answer = self._change(run, ask)
        now = self._world.clock.now()
        if answer is LockAnswer.BUSY:
            self._go_before(run, model)
            return []
        if answer is LockAnswer.OUTDATED and model.champion is not None:
            reason = f"version {model.champion.version}, asked for later, is in service: run {model.champion.run_id}"
            return [ev.Superseded(at=now, by_run=model.champion.run_id, reason=reason)]
        if self._world.runs.load(run.id).value.state not in _RELEASING:
            # Whoever asked was slow: the run has ended, and returned this lock already, since it was read.
            self._change(run, lambda model: (model.without_lock(run.id), LockAnswer.TAKEN))
            return []
        champion = model.champion.version if model.champion else None
        return [ev.ReleaseLockTaken(at=now, champion=champion, revival=effect.revival)]

    def _go_before(self, rollback: Run, model: Model) -> None:
        """
        Let a rollback not wait for a release that may take long: what was asked for before it would be outdated after it.

        The release that is ended so returns the lock, which wakes the rollback.
        """
        if rollback.trigger.kind != "rollback" or model.lock is None or model.serves(model.lock.run_id):
            return
        holder = self._world.runs.load(model.lock.run_id).value
        if holder.trigger.kind == "rollback" or holder.ended or holder.trigger.ordinal > rollback.trigger.ordinal:
            return
        by = f" by {rollback.trigger.by}" if rollback.trigger.by else ""
        reason = f"a rollback{by} to version {rollback.version} went before: run {rollback.id}"
        self._take(holder.id, ev.Superseded(at=self._world.clock.now(), by_run=rollback.id, reason=reason))

    def _is_outdated(self, run: Run, model: Model) -> bool:
        """An older push must never go over a newer one."""
        champion = model.champion
        if champion is None or champion.run_id == run.id:
            return False
        return is_newer(self._world, self._world.runs.load(champion.run_id).value, run)

    def _without_orphan(self, model: Model) -> Model:
        """Free a lock that was taken for a run at the moment of its end, by a process that then died."""
        if model.lock is None:
            return model
        holder = self._world.runs.load(model.lock.run_id).value
        return model.without_lock(holder.id) if holder.ended and not holder.pending else model

    def return_lock(self, run: Run, effect: ReturnReleaseLock) -> list[ev.Event]:
        """Let the next run release."""
        model, _ = self._change(run, lambda model: (model.without_lock(run.id), LockAnswer.TAKEN))
        self._wake_waiting(model)
        done = ev.EffectDone(at=self._world.clock.now(), key=effect.key, revival=effect.revival)
        unheard = model.serves(run.id) and run.facts.get(ev.TrafficShifted) is None
        # The run was stopped between its shift and the telling of it: it is live, whatever else was asked for.
        return [*(self._tell_shift(run, model) if unheard else []), done]

    def deploy(self, run: Run, effect: DeployVersion) -> list[ev.Event]:
        """Ask for the deployment; its readiness is heard of or asked for later."""
        name = self._name(run, effect.version)
        if effect.revival and self._world.deployer.status(name).state == "failed":
            # What failed before a person asked for another try; found again it would only fail again.
            self._world.deployer.delete(name)
        self.request_deployment(run, effect.version)
        now = self._world.clock.now()
        return [ev.DeploymentRequested(at=now, version=effect.version, revival=effect.revival)]

    def request_deployment(self, run: Run, version: ModelVersion) -> None:
        """Ask the deployer for a run's version; the same again finds the first."""
        spec = spec_of(run)
        self._world.deployer.create(
            DeploymentRequest(
                name=self._name(run, version),
                model=model_of(run),
                version=version,
                project=self._world.projects.get(run.project),
                commit=run.trigger.commit,
                serve=spec.release.serve,
                spec=spec,
            )
        )

    def request_again(self, run: Run, version: ModelVersion) -> None:
        """
        Ask for a deployment that went away.

        Whoever asks may be slow, and its run have ended and been tidied up meanwhile. Tidying up returns the lock before
        it deletes, so either the lock is gone here, or the deletion is yet to come.
        """
        self.request_deployment(run, version)
        if not self._world.models.load(model_of(run)).value.needs(version):
            self._world.deployer.delete(self._name(run, version))

    def smoke_test(self, run: Run, effect: SmokeTest) -> list[ev.Event]:
        """Send the stage's requests to the deployment itself, not to the stable address."""
        stage = next(stage for stage in spec_of(run).release.stages if stage.name == effect.stage)
        now = self._world.clock.now()
        if stage.smoke is None:
            return [ev.SmokeTested(at=now, stage=stage.name, passed=True, reason="nothing to test")]
        address = self._ready_address(run, effect.version)
        record = self._world.projects.get(run.project)
        if run.trigger.commit is None:
            raise PermanentError(f"Run '{run.id}' has no commit to read '{stage.smoke.request}' from.")
        body = self._world.source_of(record).read_file(record, run.trigger.commit, stage.smoke.request)
        result = self._smoke.run(address, body, stage.smoke)
        reason = result.reason
        if not result.passed:
            # The deployment is deleted, and its log with it.
            printed = self._world.deployer.log_tail(self._name(run, effect.version), lines=_LOG_LINES).strip()
            reason += f"\nthe last lines that it printed:\n{printed[-_LOG_LETTERS:]}" if printed else ""
        return [
            ev.SmokeTested(at=now, stage=stage.name, passed=result.passed, reason=cut(reason), p95_ms=result.p95_ms)
        ]

    def shift(self, run: Run, effect: ShiftTraffic) -> list[ev.Event]:
        """Let the stable address lead to the version, in one transaction; then tell the run before."""
        self._ready_address(run, effect.version)
        now = self._world.clock.now()
        release = Release(
            version=effect.version,
            run_id=run.id,
            project=run.project,
            ordinal=run.trigger.ordinal,
            since=now,
        )
        return self._tell_shift(run, self._shift_record(run, release))

    def _tell_shift(self, run: Run, model: Model) -> list[ev.Event]:
        now, previous = self._world.clock.now(), model.previous
        if model.champion is None:
            return []
        version = model.champion.version
        if previous is not None and previous.run_id != run.id:
            reason = f"version {version} took over: run {run.id}"
            self._take(previous.run_id, ev.Retired(at=now, by_run=run.id, reason=reason))
        return [ev.TrafficShifted(at=now, version=version, previous=previous.version if previous else None)]

    def _shift_record(self, run: Run, release: Release) -> Model:
        for _ in range(_MAX_CONFLICTS):
            stored = self._world.models.load(model_of(run))
            if stored.value.serves(run.id):
                return stored.value
            if stored.value.lock is None or stored.value.lock.run_id != run.id:
                raise PermanentError(
                    f"Run '{run.id}' may not shift traffic: it does not hold the release lock of model "
                    f"'{stored.value.name}'. Retrain, or roll back, to release again."
                )
            model = stored.value.with_champion(release)
            try:
                self._world.models.commit(
                    model, read_version=stored.version, ledger=_ledger(stored.value, release, run)
                )
            except StaleRunError:
                continue
            return model
        raise TemporaryError(f"Model '{model_of(run)}' was saved by others {_MAX_CONFLICTS} times in a row.")

    def delete(self, run: Run, effect: DeleteDeployment) -> list[ev.Event]:
        """End a deployment, unless its version carries traffic again or is about to."""
        # The run has ended. Its lock goes first: a shift that is still under way somewhere finds it gone then, instead
        # of leading the traffic to what is deleted here.
        model, _ = self._change(run, lambda model: (model.without_lock(run.id), LockAnswer.TAKEN))
        if not model.needs(effect.version):
            self._world.deployer.delete(self._name(run, effect.version))
        return [ev.EffectDone(at=self._world.clock.now(), key=effect.key, revival=effect.revival)]

    def _change(self, run: Run, change: Callable[[Model], tuple[Model, LockAnswer]]) -> tuple[Model, LockAnswer]:
        for _ in range(_MAX_CONFLICTS):
            stored = self._world.models.load(model_of(run))
            model, answer = change(stored.value)
            if model == stored.value:
                return model, answer
            try:
                self._world.models.commit(model, read_version=stored.version)
            except StaleRunError:
                continue
            return model, answer
        raise TemporaryError(f"Model '{model_of(run)}' was saved by others {_MAX_CONFLICTS} times in a row.")

    def _wake_waiting(self, model: Model) -> None:
        for run_id in model.waiting:
            self._wake(run_id)

    def _ready_address(self, run: Run, version: ModelVersion) -> str:
        status = self._world.deployer.status(self._name(run, version))
        if status.state == "absent":
            self.request_again(run, version)
        if status.state == "failed":
            raise PermanentError(f"Deployment '{status.name}' died: {status.reason}")
        if status.state != "ready" or status.address is None:
            raise TemporaryError(f"Deployment '{status.name}' is '{status.state}', not ready.", retry_after_seconds=2)
        return status.address

    def _name(self, run: Run, version: ModelVersion) -> DeploymentName:
        return deployment_of_version(model_of(run), version)


def _ledger(before: Model, release: Release, run: Run) -> list[LedgerEntry]:
    reason = run.trigger.reason or run.trigger.kind
    by = f" by {run.trigger.by}" if run.trigger.by else ""
    entries = [
        LedgerEntry(
            at=release.since,
            version=release.version,
            traffic_weight=1.0,
            run_id=release.run_id,
            reason=f"{run.trigger.kind}{by}: {reason}",
        )
    ]
    if before.champion is not None:
        entries.append(
            LedgerEntry(
                at=release.since,
                version=before.champion.version,
                traffic_weight=0.0,
                run_id=before.champion.run_id,
                reason=f"version {release.version} took over",
            )
        )
    return entries
