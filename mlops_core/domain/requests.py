"""
Requests: wishes of people, which may be refused.

An accepted wish becomes a fact about the run; `decide` says whether it is accepted in the state that the run is in, and
refuses with a sentence that says what to do instead.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlops_core.domain import events as ev
from mlops_core.domain.errors import RefusedError
from mlops_core.domain.run import Run, State
from mlops_core.domain.values import Timestamp, Value


class Decision(Value):
    """
    A person's wish about one run.

    Attributes:
        by: The person's name, recorded.
        reason: Why, in their words, recorded.
    """

    wish: Literal["cancel", "approve", "reject", "waive"]
    by: str = Field(min_length=1, max_length=200)
    reason: str = Field("", max_length=2_000)


def decide(run: Run, decision: Decision, at: Timestamp) -> ev.Event:
    """
    Turn a wish into the fact that it becomes.

    Raises: RefusedError: The run's state does not permit it.
    """
    match decision.wish:
        case "cancel":
            return _cancel(run, decision, at)
        case "waive":
            return _waive(run, decision, at)
        case _:
            return _answer(run, decision, at)


def _cancel(run: Run, decision: Decision, at: Timestamp) -> ev.Event:
    if run.state is State.LIVE:
        raise RefusedError(
            f"Run '{run.id}' is live and cannot be cancelled. To take its model out of service, roll back: "
            f"headrace rollback {run.model}."
        )
    if run.ended:
        raise RefusedError(f"Run '{run.id}' ended already: it is '{run.state}'. There is nothing to cancel.")
    return ev.RunCancelled(at=at, by=decision.by, reason=decision.reason)


def _waive(run: Run, decision: Decision, at: Timestamp) -> ev.Event:
    failed_gates = run.state is State.REJECTED and run.facts.get(ev.ReleaseRejected) is None
    if not failed_gates:
        raise RefusedError(
            f"Run '{run.id}' has no failed gates to waive: it is '{run.state}'. "
            "Only a run that its gates rejected can be waived."
        )
    if not decision.reason:
        raise RefusedError(f"Waiving the gates of run '{run.id}' needs a reason, which is recorded: --reason \"...\".")
    return ev.GatesWaived(at=at, by=decision.by, reason=decision.reason)


def _advice(run: Run) -> str:
    match run.state:
        case State.LIVE:
            return f"Its model is in service already; to take it back: headrace rollback {run.model}."
        case State.DEPLOYING | State.ROLLING_OUT:
            return (
                f"Its release is under way and needs no approval any more. Watch it: headrace logs {run.id} --follow; or "
                f"stop it: headrace cancel {run.id}."
            )
        case State.REJECTED if run.facts.get(ev.ReleaseRejected) is None:
            return f'To release it in spite of its gates: headrace approve {run.id} --waive --reason "..."'
        case _ if run.ended:
            return f"See why: headrace show {run.id}. Try again: headrace retrain {run.project}."
        case _:
            return f"Wait for its gates: headrace logs {run.id} --follow; or stop it: headrace cancel {run.id}."


def _answer(run: Run, decision: Decision, at: Timestamp) -> ev.Event:
    verb = "approved" if decision.wish == "approve" else "rejected"
    if run.state is not State.AWAITING_APPROVAL:
        raise RefusedError(
            f"Run '{run.id}' cannot be {verb}: it is '{run.state}', not 'awaiting_approval'. {_advice(run)}"
        )
    if decision.wish == "approve":
        return ev.ReleaseApproved(at=at, by=decision.by, reason=decision.reason)
    return ev.ReleaseRejected(at=at, by=decision.by, reason=decision.reason)
