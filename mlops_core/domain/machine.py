"""
The state machine of a run: `advance` is pure, and its table is here and nowhere else.

The state is not stepped from event to event but *derived* from all facts known, each time from the start: begin at
`received` and follow the first row whose guard holds, until none does. That is what makes any order and any number of
repeats of the same events end alike. Natural ends win over interruptions: a run that failed by itself stays failed
although somebody cancelled it a moment later.

The guards are in `guards.py`, the effects that a state wants in `wanted.py`; `docs/states.md` comes from `TABLE`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlops_core.domain import events as ev
from mlops_core.domain import guards
from mlops_core.domain.effects import Effect, PendingEffect
from mlops_core.domain.limits import cut
from mlops_core.domain.run import ENDS, Run, State, StateEntry
from mlops_core.domain.values import Timestamp
from mlops_core.domain.wanted import stuck_effect, wanted


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
    Transition(S.RECEIVED, S.SKIPPED, "no path or branch that counts", guards.skipped),
    Transition(S.RECEIVED, S.FAILED, "mlops.yaml refused", guards.refused),
    Transition(S.RECEIVED, S.DEPLOYING, "rollback", guards.rolls_back),
    Transition(S.RECEIVED, S.EVALUATING, "registered outside", guards.registered_outside),
    Transition(S.RECEIVED, S.TRAINING, "retrain without build", guards.needs_no_build),
    Transition(S.RECEIVED, S.BUILDING, "admitted", guards.admitted),
    Transition(S.BUILDING, S.FAILED, "build job failed", guards.build_failed),
    Transition(S.BUILDING, S.CANCELLED, "build job cancelled", guards.build_cancelled),
    Transition(S.BUILDING, S.BUILT, "built, branch does not deliver", guards.built_only),
    Transition(S.BUILDING, S.TRAINING, "build job succeeded", guards.built),
    Transition(S.TRAINING, S.FAILED, "pipeline failed", guards.training_failed),
    Transition(S.TRAINING, S.CANCELLED, "pipeline cancelled", guards.training_cancelled),
    Transition(S.TRAINING, S.FAILED, "nothing registered", guards.nothing_registered),
    Transition(S.TRAINING, S.EVALUATING, "complete and registered", guards.trained_and_registered),
    Transition(S.EVALUATING, S.REJECTED, "a gate failed", guards.gates_fail),
    Transition(S.EVALUATING, S.AWAITING_APPROVAL, "gates passed, approval: manual", guards.gates_pass_for_a_person),
    Transition(S.EVALUATING, S.DEPLOYING, "gates passed or waived", guards.gates_pass),
    Transition(S.AWAITING_APPROVAL, S.REJECTED, "rejected by a person", guards.rejected_by_person),
    Transition(S.AWAITING_APPROVAL, S.DEPLOYING, "approved by a person", guards.approved),
    Transition(S.AWAITING_APPROVAL, S.EXPIRED, "nobody answered in time", guards.approval_expired),
    Transition(S.DEPLOYING, S.REJECTED, "a gate failed against a newer champion", guards.gates_fail_under_lock),
    Transition(S.DEPLOYING, S.FAILED, "deployment does not start", guards.deployment_failed),
    Transition(S.DEPLOYING, S.FAILED, "smoke test failed", guards.smoke_failed),
    Transition(S.DEPLOYING, S.ROLLING_OUT, "ready and smoke-tested", guards.stages_passed),
    Transition(S.ROLLING_OUT, S.LIVE, "traffic shifted", guards.shifted),
    Transition(S.LIVE, S.RETIRED, "a newer champion or a rollback", guards.retired),
)

_ROWS = {source: tuple(row for row in TABLE if row.source is source) for source in State}

# What stops a run that waits for something. The order is the order of precedence.
INTERRUPTIONS: tuple[tuple[State, str, Callable[[Run], str | None]], ...] = (
    (S.CANCELLED, "cancelled by a person", guards.cancelled),
    (S.SUPERSEDED, "a newer push of the branch, or a rollback", guards.superseded),
    (S.FAILED, "an effect cannot be performed", stuck_effect),
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
    entries, path = run.entries, _walk(run)
    entered = [entry.state for entry in entries]
    for state, reason in path:
        if state not in entered:
            entries = (*entries, StateEntry(state=state, at=at, reason=cut(reason)))
    state, reason = path[-1]
    known = {pending.effect.key: pending for pending in run.pending}
    if state is not run.state or entries is not run.entries:
        run = run.model_copy(update={"state": state, "entries": entries})
    pending = tuple(_pending(effect, known.get(effect.key), at) for effect in wanted(run))
    return run.model_copy(update={"reason": cut(reason), "updated_at": at, "pending": pending})


def _pending(effect: Effect, before: PendingEffect | None, at: Timestamp) -> PendingEffect:
    """Let an effect that was pending before keep its time."""
    if before is not None and (before.effect is effect or before.effect == effect):
        return before
    return PendingEffect(effect=effect, since=before.since if before else at)


def _walk(run: Run) -> list[tuple[State, str]]:
    path = [(State.RECEIVED, _origin(run))]
    while (row := _row_from(run, path[-1][0])) is not None:
        path.append(row)
    state = path[-1][0]
    if state in ENDS or state is State.LIVE:
        return path
    waiting = run if run.state is state else run.model_copy(update={"state": state})
    for target, _, guard in INTERRUPTIONS:
        reason = guard(waiting)
        if reason is not None:
            return [*path, (target, reason)]
    return path


def _row_from(run: Run, state: State) -> tuple[State, str] | None:
    for row in _ROWS.get(state, ()):
        if (reason := row.guard(run)) is not None:
            return row.target, reason
    return None


def _origin(run: Run) -> str:
    trigger = run.trigger
    by = f" by {trigger.by}" if trigger.by else ""
    because = f": {trigger.reason}" if trigger.reason else ""
    commit = f" of {trigger.commit[:12]}" if trigger.commit else ""
    branch = f" on {trigger.branch}" if trigger.branch else ""
    return f"{trigger.kind}{commit}{branch}{by}{because}"
