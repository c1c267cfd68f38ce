"""
Which effects a run's state wants: those whose facts are not there yet. Pure, and level-triggered.

Nothing here remembers what was asked for before: a pending effect is one that is wanted and not settled.
"""

from __future__ import annotations

from mlops_core.domain import events as ev
from mlops_core.domain import guards
from mlops_core.domain.effects import (
    Announce,
    CancelJob,
    DecidePolicy,
    DeleteDeployment,
    DeployVersion,
    Effect,
    FindModel,
    JudgeGates,
    ReturnReleaseLock,
    ShiftTraffic,
    SmokeTest,
    SubmitJob,
    TakeReleaseLock,
)
from mlops_core.domain.ids import EffectKey
from mlops_core.domain.run import Run, State


def wanted(run: Run) -> tuple[Effect, ...]:
    """List the effects that a run's state wants and whose facts are not there yet."""
    effects = [effect for effect in _wanted_in_state(run) if failure_of(run, effect.key) is None]
    cleanup = [effect for effect in _wanted_at_end(run) if not _settled(run, effect.key)]
    announcements = [effect for effect in _announcements(run) if not _settled(run, effect.key)]
    return (*effects, *cleanup, *announcements)


def _wanted_in_state(run: Run) -> list[Effect]:
    match run.state:
        case State.RECEIVED:
            return [DecidePolicy()]
        case State.BUILDING:
            return _wanted_job(run, "build")
        case State.TRAINING:
            return _wanted_training(run)
        case State.EVALUATING if run.version is not None:
            return [JudgeGates(version=run.version)]
        case State.DEPLOYING:
            return _wanted_deploying(run)
        case State.ROLLING_OUT if run.version is not None:
            return [ShiftTraffic(version=run.version)]
        case _:
            return []


def _wanted_job(run: Run, stage: ev.JobStage) -> list[Effect]:
    known = run.facts.get(ev.JobSubmitted, stage) or run.facts.get(ev.JobEnded, stage)
    return [] if known else [SubmitJob(stage=stage, job_name=run.job_name(stage))]


def _wanted_training(run: Run) -> list[Effect]:
    if guards.job_reason(run, "train", "succeeded") is not None:
        return [FindModel(job_name=run.job_name("train"))]
    return _wanted_job(run, "train")


def _wanted_deploying(run: Run) -> list[Effect]:
    version = run.version
    if version is None:
        return []
    lock = run.facts.get(ev.ReleaseLockTaken)
    if lock is None:
        return [TakeReleaseLock(version=version)]
    if guards.needs_judgement(run):
        return [JudgeGates(version=version, against=lock.champion, current=False)]
    if run.facts.get(ev.DeploymentReady) is None:
        requested = run.facts.get(ev.DeploymentRequested) is not None
        return [] if requested else [DeployVersion(version=version)]
    stage = guards.next_smoke(run)
    return [SmokeTest(stage=stage.name, version=version)] if stage else []


def _wanted_at_end(run: Run) -> list[Effect]:
    if not run.ended and run.state is not State.LIVE:
        return []
    effects: list[Effect] = [ReturnReleaseLock()] if run.facts.get(ev.ReleaseLockTaken) is not None else []
    if run.state is State.LIVE:
        return effects
    effects += [CancelJob(stage=job.stage, job_name=job.job_name) for job in run.open_jobs()]
    if run.facts.get(ev.DeploymentRequested) is not None and run.version is not None:
        effects.append(DeleteDeployment(version=run.version))
    return effects


def _announcements(run: Run) -> list[Effect]:
    before = ""
    effects: list[Effect] = []
    for entry in run.entries:
        effects.append(Announce(state=entry.state, from_state=before, reason=entry.reason, at=entry.at))
        before = entry.state
    return effects


def _settled(run: Run, key: EffectKey) -> bool:
    return run.facts.get(ev.EffectDone, key) is not None or failure_of(run, key) is not None


def attempts_of(run: Run, key: EffectKey) -> int:
    """Count how often a person asked for an effect to be tried again."""
    return sum(1 for replay in run.facts.all(ev.EffectReplayed) if replay.key == key)


def failure_of(run: Run, key: EffectKey) -> ev.EffectFailed | None:
    """Find the failure of an effect that nobody has asked to be tried again since."""
    return run.facts.get(ev.EffectFailed, key, str(attempts_of(run, key)))


def stuck_effect(run: Run) -> str | None:
    """Say why an effect that the state needs cannot be performed, if so."""
    for effect in _wanted_in_state(run):
        failure = failure_of(run, effect.key)
        if failure is not None:
            return failure.reason
    return None
