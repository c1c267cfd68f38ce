"""
The state machine of a run: `advance` is pure, and its table is here and nowhere else.

The state is not stepped from event to event but *derived* from all facts known, each time from the start: begin at
`received` and follow the first row whose guard holds, until none does. That is what makes any order and any number of
repeats of the same events end alike. Natural ends win over interruptions: a run that failed by itself stays failed
although somebody cancelled it a moment later.

`docs/states.md` is generated from `TABLE` (see `diagram.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlops_core.domain import events as ev
from mlops_core.domain.effects import (
    Announce,
    CancelJob,
    DecidePolicy,
    DeleteDeployment,
    DeployVersion,
    Effect,
    FindModel,
    JudgeGates,
    PendingEffect,
    ReturnReleaseLock,
    ShiftTraffic,
    SmokeTest,
    SubmitJob,
    TakeReleaseLock,
)
from mlops_core.domain.gates import Outcome, Verdict
from mlops_core.domain.ids import EffectKey
from mlops_core.domain.project import Stage
from mlops_core.domain.run import ENDS, Run, State, StateEntry

# --- guards: the reason why a row applies, or None


def _policy(run: Run, decision: str) -> str | None:
    policy = run.facts.get(ev.PolicyDecided)
    return policy.reason if policy and policy.decision == decision else None


def _skipped(run: Run) -> str | None:
    return _policy(run, "skip")


def _refused(run: Run) -> str | None:
    return _policy(run, "refuse")


def _rolls_back(run: Run) -> str | None:
    admitted = _policy(run, "deliver") is not None and run.trigger.kind == "rollback"
    return f"back to version {run.version}" if admitted else None


def _registered_outside(run: Run) -> str | None:
    admitted = _policy(run, "deliver") is not None and run.trigger.kind == "registered"
    return f"version {run.version} was registered outside of any run" if admitted else None


def _needs_no_build(run: Run) -> str | None:
    admitted = _policy(run, "deliver") is not None
    return "retrain without a new build" if admitted and not run.trigger.rebuild else None


def _admitted(run: Run) -> str | None:
    return _policy(run, "deliver") or _policy(run, "build_only")


def _job_reason(run: Run, stage: ev.JobStage, outcome: ev.JobOutcome) -> str | None:
    ended = run.facts.get(ev.JobEnded, stage)
    if ended is None or ended.outcome != outcome:
        return None
    return ended.reason or f"job '{ended.job_name}' {outcome}"


def _build_failed(run: Run) -> str | None:
    return _job_reason(run, "build", "failed")


def _build_cancelled(run: Run) -> str | None:
    return _job_reason(run, "build", "cancelled")


def _built_only(run: Run) -> str | None:
    done = _job_reason(run, "build", "succeeded") is not None
    return _policy(run, "build_only") if done else None


def _built(run: Run) -> str | None:
    return _job_reason(run, "build", "succeeded")


def _training_failed(run: Run) -> str | None:
    return _job_reason(run, "train", "failed")


def _training_cancelled(run: Run) -> str | None:
    return _job_reason(run, "train", "cancelled")


def _nothing_registered(run: Run) -> str | None:
    nothing = run.facts.get(ev.NothingRegistered)
    return nothing.reason if nothing and run.facts.get(ev.ModelFound) is None else None


def _trained_and_registered(run: Run) -> str | None:
    found = run.facts.get(ev.ModelFound)
    complete = _job_reason(run, "train", "succeeded") is not None
    return f"{found.model} version {found.version} is registered" if complete and found else None


def _first_judgement(run: Run) -> ev.GatesJudged | None:
    judged = run.facts.all(ev.GatesJudged)
    return judged[0] if judged else None


def _judgement_under_lock(run: Run) -> ev.GatesJudged | None:
    lock = run.facts.get(ev.ReleaseLockTaken)
    return run.facts.get(ev.GatesJudged, lock.champion or "-") if lock else None


def _failed_gates(run: Run, judged: ev.GatesJudged | None) -> str | None:
    if judged is None or run.facts.get(ev.GatesWaived) is not None:
        return None
    failed = [verdict for verdict in judged.verdicts if verdict.outcome is Outcome.FAILED]
    return "; ".join(_say(verdict) for verdict in failed) or None


def _say(verdict: Verdict) -> str:
    segment = f" ({verdict.segment})" if verdict.segment else ""
    return f"gate '{verdict.gate}'{segment} failed: {verdict.reason}"


def _gates_fail(run: Run) -> str | None:
    return _failed_gates(run, _first_judgement(run))


def _gates_pass_for_a_person(run: Run) -> str | None:
    spec = run.spec
    wanted = spec is not None and spec.release.approval == "manual" and run.facts.get(ev.GatesWaived) is None
    return "the gates passed; a person must approve" if wanted and _first_judgement(run) else None


def _gates_pass(run: Run) -> str | None:
    waived = run.facts.get(ev.GatesWaived)
    judged = _first_judgement(run)
    if judged is None:
        return None
    if waived is not None:
        return f"gates waived by {waived.by}: {waived.reason}"
    return f"{len(judged.verdicts)} of {len(judged.verdicts)} gates passed" if judged.verdicts else "no gates declared"


def _rejected_by_person(run: Run) -> str | None:
    rejected = run.facts.get(ev.ReleaseRejected)
    return f"rejected by {rejected.by}: {rejected.reason or 'no reason given'}" if rejected else None


def _approved(run: Run) -> str | None:
    approved = run.facts.get(ev.ReleaseApproved)
    return f"approved by {approved.by}: {approved.reason or 'no reason given'}" if approved else None


def _approval_expired(run: Run) -> str | None:
    return "nobody approved in time" if run.facts.get(ev.ApprovalExpired) else None


def _gates_fail_under_lock(run: Run) -> str | None:
    if run.trigger.kind == "rollback":
        return None
    return _failed_gates(run, _judgement_under_lock(run))


def _deployment_failed(run: Run) -> str | None:
    failed = run.facts.get(ev.DeploymentFailed)
    ready = run.facts.get(ev.DeploymentReady)
    return f"version {failed.version} does not start: {failed.reason}" if failed and ready is None else None


def _smoke_failed(run: Run) -> str | None:
    failed = [smoke for smoke in run.facts.all(ev.SmokeTested) if not smoke.passed]
    return f"stage '{failed[0].stage}': {failed[0].reason}" if failed else None


def _stages_passed(run: Run) -> str | None:
    ready = run.facts.get(ev.DeploymentReady) is not None
    if not ready or run.facts.get(ev.ReleaseLockTaken) is None or _needs_judgement(run):
        return None
    return "the deployment answers" if next_smoke(run) is None else None


def _shifted(run: Run) -> str | None:
    shifted = run.facts.get(ev.TrafficShifted)
    return f"version {shifted.version} has all traffic" if shifted else None


def _retired(run: Run) -> str | None:
    retired = run.facts.get(ev.Retired)
    return retired.reason if retired else None


def _cancelled(run: Run) -> str | None:
    cancelled = run.facts.get(ev.RunCancelled)
    return f"cancelled by {cancelled.by}: {cancelled.reason or 'no reason given'}" if cancelled else None


def _superseded(run: Run) -> str | None:
    superseded = run.facts.get(ev.Superseded)
    return superseded.reason if superseded else None


def _stuck_effect(run: Run) -> str | None:
    for effect in _wanted_in_state(run):
        failure = failure_of(run, effect.key)
        if failure is not None:
            return failure.reason
    return None


# --- the table


@dataclass(frozen=True)
class Transition:
    """
    One row: from a state to the next, when the guard gives a reason.

    Attributes:
        when: The guard in words, for the diagram.
    """

    source: State
    target: State
    when: str
    guard: Callable[[Run], str | None]


S = State
TABLE: tuple[Transition, ...] = (
    Transition(S.RECEIVED, S.SKIPPED, "no path or branch that counts", _skipped),
    Transition(S.RECEIVED, S.FAILED, "mlops.yaml refused", _refused),
    Transition(S.RECEIVED, S.DEPLOYING, "rollback", _rolls_back),
    Transition(S.RECEIVED, S.EVALUATING, "registered outside", _registered_outside),
    Transition(S.RECEIVED, S.TRAINING, "retrain without build", _needs_no_build),
    Transition(S.RECEIVED, S.BUILDING, "admitted", _admitted),
    Transition(S.BUILDING, S.FAILED, "build job failed", _build_failed),
    Transition(S.BUILDING, S.CANCELLED, "build job cancelled", _build_cancelled),
    Transition(S.BUILDING, S.BUILT, "built, branch does not deliver", _built_only),
    Transition(S.BUILDING, S.TRAINING, "build job succeeded", _built),
    Transition(S.TRAINING, S.FAILED, "pipeline failed", _training_failed),
    Transition(S.TRAINING, S.CANCELLED, "pipeline cancelled", _training_cancelled),
    Transition(S.TRAINING, S.FAILED, "nothing registered", _nothing_registered),
    Transition(S.TRAINING, S.EVALUATING, "complete and registered", _trained_and_registered),
    Transition(S.EVALUATING, S.REJECTED, "a gate failed", _gates_fail),
    Transition(S.EVALUATING, S.AWAITING_APPROVAL, "gates passed, approval: manual", _gates_pass_for_a_person),
    Transition(S.EVALUATING, S.DEPLOYING, "gates passed or waived", _gates_pass),
    Transition(S.AWAITING_APPROVAL, S.REJECTED, "rejected by a person", _rejected_by_person),
    Transition(S.AWAITING_APPROVAL, S.DEPLOYING, "approved by a person", _approved),
    Transition(S.AWAITING_APPROVAL, S.EXPIRED, "nobody answered in time", _approval_expired),
    Transition(S.DEPLOYING, S.REJECTED, "a gate failed against a newer champion", _gates_fail_under_lock),
    Transition(S.DEPLOYING, S.FAILED, "deployment does not start", _deployment_failed),
    Transition(S.DEPLOYING, S.FAILED, "smoke test failed", _smoke_failed),
    Transition(S.DEPLOYING, S.ROLLING_OUT, "ready and smoke-tested", _stages_passed),
    Transition(S.ROLLING_OUT, S.LIVE, "traffic shifted", _shifted),
    Transition(S.LIVE, S.RETIRED, "a newer champion or a rollback", _retired),
)

# What stops a run that waits for something. The order is the order of precedence.
INTERRUPTIONS: tuple[tuple[State, str, Callable[[Run], str | None]], ...] = (
    (S.CANCELLED, "cancelled by a person", _cancelled),
    (S.SUPERSEDED, "a newer push of the branch", _superseded),
    (S.FAILED, "an effect cannot be performed", _stuck_effect),
)


def advance(run: Run, event: ev.Event) -> Run:
    """
    Take an event: add its fact and derive state, reason and pending effects anew.

    Pure. What the project declares rides in the facts (`PolicyDecided.spec`), so the same facts always mean the same.
    """
    return settle(run.model_copy(update={"facts": run.facts.joined(event)}), event)


def settle(run: Run, event: ev.Fact | None = None) -> Run:
    """Derive everything that follows from a run's facts."""
    at = max(run.updated_at, event.at) if event else run.created_at
    entries = run.entries
    for state, reason in _walk(run):
        if not any(entry.state is state for entry in entries):
            entries = (*entries, StateEntry(state=state, at=at, reason=reason[:2_000]))
        run = run.model_copy(update={"state": state, "reason": reason[:2_000]})
    run = run.model_copy(update={"entries": entries, "updated_at": at})
    since = {pending.effect.key: pending.since for pending in run.pending}
    pending = tuple(PendingEffect(effect=effect, since=since.get(effect.key, at)) for effect in wanted(run))
    return run.model_copy(update={"pending": pending})


def _walk(run: Run) -> list[tuple[State, str]]:
    path = [(State.RECEIVED, _origin(run))]
    while (row := _row_from(run, path[-1][0])) is not None:
        path.append(row)
    state = path[-1][0]
    if state in ENDS or state is State.LIVE:
        return path
    waiting = run.model_copy(update={"state": state})
    for target, _, guard in INTERRUPTIONS:
        reason = guard(waiting)
        if reason is not None:
            return [*path, (target, reason)]
    return path


def _row_from(run: Run, state: State) -> tuple[State, str] | None:
    for row in TABLE:
        if row.source is state and (reason := row.guard(run)) is not None:
            return row.target, reason
    return None


def _origin(run: Run) -> str:
    trigger = run.trigger
    by = f" by {trigger.by}" if trigger.by else ""
    because = f": {trigger.reason}" if trigger.reason else ""
    commit = f" of {trigger.commit[:12]}" if trigger.commit else ""
    branch = f" on {trigger.branch}" if trigger.branch else ""
    return f"{trigger.kind}{commit}{branch}{by}{because}"


# --- effects


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
    if _job_reason(run, "train", "succeeded") is not None:
        return [FindModel(job_name=run.job_name("train"))]
    return _wanted_job(run, "train")


def _wanted_deploying(run: Run) -> list[Effect]:
    version = run.version
    if version is None:
        return []
    lock = run.facts.get(ev.ReleaseLockTaken)
    if lock is None:
        return [TakeReleaseLock(version=version)]
    if _needs_judgement(run):
        return [JudgeGates(version=version, against=lock.champion, current=False)]
    if run.facts.get(ev.DeploymentReady) is None:
        requested = run.facts.get(ev.DeploymentRequested) is not None
        return [] if requested else [DeployVersion(version=version)]
    stage = next_smoke(run)
    return [SmokeTest(stage=stage.name, version=version)] if stage else []


def _needs_judgement(run: Run) -> bool:
    """A champion that came after the gates were judged must be held against the version too."""
    exempt = run.trigger.kind == "rollback" or run.facts.get(ev.GatesWaived) is not None
    return not exempt and _judgement_under_lock(run) is None


def next_smoke(run: Run) -> Stage | None:
    """Find the first stage whose smoke test has not been heard of."""
    if run.spec is None:
        return None
    for stage in run.spec.release.stages:
        if stage.smoke is not None and run.facts.get(ev.SmokeTested, stage.name) is None:
            return stage
    return None


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
