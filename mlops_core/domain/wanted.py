"""
Which effects a run's state wants: those whose facts are not there yet. Pure, and level-triggered.

Nothing here remembers what was asked for before: a pending effect is one that is wanted and not settled.
"""

from __future__ import annotations

from functools import lru_cache

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
    announcement_key,
)
from mlops_core.domain.ids import EffectKey
from mlops_core.domain.run import Run, State, StateEntry

_JOB_STATES: dict[ev.JobStage, State] = {"build": State.BUILDING, "train": State.TRAINING}
_Cleanup = ReturnReleaseLock | CancelJob | DeleteDeployment


def wanted(run: Run) -> tuple[Effect, ...]:
    """List the effects that a run's state wants and whose facts are not there yet."""
    effects = [effect for effect in _wanted_in_state(run) if failure_of(run, effect.key) is None]
    cleanup = [effect for effect in _wanted_at_end(run) if not _settled(run, effect.key, effect.revival)]
    return (*effects, *cleanup, *_announcements(run))


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
    lock = guards.lock_of(run)
    if lock is None:
        return [TakeReleaseLock(version=version, revival=run.revivals)]
    if guards.needs_judgement(run):
        return [JudgeGates(version=version, against=lock.champion, current=False)]
    if guards.deployed(run) is None:
        return [] if guards.requested(run) else [DeployVersion(version=version, revival=run.revivals)]
    stage = guards.next_smoke(run)
    return [SmokeTest(stage=stage.name, version=version)] if stage else []


def _wanted_at_end(run: Run) -> list[_Cleanup]:
    if not run.ended and run.state is not State.LIVE:
        return []
    revival, released = run.revivals, run.entered(State.DEPLOYING)
    effects: list[_Cleanup] = []
    if released:
        effects.append(ReturnReleaseLock(revival=revival, heard=guards.lock_of(run) is not None))
    if run.state is State.LIVE:
        return effects
    for stage, state in _JOB_STATES.items():
        if run.entered(state) and run.facts.get(ev.JobEnded, stage) is None:
            heard = run.facts.get(ev.JobSubmitted, stage) is not None
            effects.append(CancelJob(stage=stage, job_name=run.job_name(stage), revival=revival, heard=heard))
    if released and run.version is not None:
        # What was spared before because it served traffic is looked at once more when it no longer does.
        served = run.facts.get(ev.TrafficShifted) is not None
        heard = guards.requested(run) is not None
        effects.append(DeleteDeployment(version=run.version, revival=revival + served, heard=heard))
    return effects


def _announcements(run: Run) -> list[Announce]:
    before = ""
    effects: list[Announce] = []
    for entry in run.entries:
        if not _settled(run, announcement_key(entry.state), 0):
            effects.append(_announcement(entry, before))
        before = entry.state
    return effects


# A run asks for the announcement of each state at each event, until it is made.
@lru_cache(maxsize=1_000)
def _announcement(entry: StateEntry, before: str) -> Announce:
    return Announce(state=entry.state, from_state=before, reason=entry.reason, at=entry.at)


def _settled(run: Run, key: EffectKey, revival: int) -> bool:
    done = run.facts.get(ev.EffectDone, key)
    return (done is not None and done.revival >= revival) or failure_of(run, key) is not None


def attempts_of(run: Run, key: EffectKey) -> int:
    """Count how often a person asked for an effect to be tried again."""
    replay = run.facts.get(ev.EffectReplayed, key)
    return replay.attempt if replay else 0


def failure_of(run: Run, key: EffectKey) -> ev.EffectFailed | None:
    """Find the failure of an effect that nobody has asked to be tried again since."""
    failure = run.facts.get(ev.EffectFailed, key)
    return failure if failure and failure.attempt >= attempts_of(run, key) else None


def stuck_effect(run: Run) -> str | None:
    """Say why an effect that the state needs cannot be performed, if so."""
    if not run.facts.all(ev.EffectFailed):
        return None
    for effect in _wanted_in_state(run):
        failure = failure_of(run, effect.key)
        if failure is not None:
            return failure.reason
    return None
