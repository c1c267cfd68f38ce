"""Perform `Announce`: publish that a run entered a state, and show it beside its commit at the repository host."""

from __future__ import annotations

from typing import Literal

from mlops_core.domain import events as ev
from mlops_core.domain.effects import Announce
from mlops_core.domain.run import Run, State
from mlops_core.world import World

# A commit status is one line at every host; GitHub's limit is the smallest.
_DESCRIPTION_LETTERS = 140
_STATUS: dict[State, Literal["success", "failure"]] = {
    State.BUILT: "success",
    State.LIVE: "success",
    State.SKIPPED: "success",
    # It was delivered; that another was after it takes nothing back.
    State.RETIRED: "success",
    State.FAILED: "failure",
    State.REJECTED: "failure",
    State.EXPIRED: "failure",
    State.CANCELLED: "failure",
    State.SUPERSEDED: "failure",
    State.ROLLED_BACK: "failure",
}


class Announcer:
    """Tells subscribers and the repository host."""

    def __init__(self, world: World) -> None:
        self._world = world

    def perform(self, run: Run, effect: Announce) -> list[ev.Event]:
        """Publish the state's events and set the commit's status. Both may be done twice without harm."""
        for event_type in _event_types(run, effect):
            self._world.bus.publish(
                event_id=f"{run.id}:{effect.key}:{event_type}",
                event_type=event_type,
                subject=f"projects/{run.project}/runs/{run.id}",
                data={
                    "runId": run.id,
                    "project": run.project,
                    "model": run.model,
                    "version": run.version,
                    "from": effect.from_state,
                    "to": effect.state,
                    "reason": effect.reason,
                },
                at=effect.at,
            )
        self._set_status(run, State(effect.state), effect.reason)
        return [ev.EffectDone(at=self._world.clock.now(), key=effect.key)]

    def _set_status(self, run: Run, state: State, reason: str) -> None:
        # A status of a state that the run left already would overwrite the present one.
        if run.trigger.commit is None or run.trigger.kind != "push" or run.state is not state:
            return
        record = self._world.projects.get(run.project)
        self._world.source_of(record).set_status(
            record,
            run.trigger.commit,
            state=_STATUS.get(state, "pending"),
            description=f"{state}: {reason}"[:_DESCRIPTION_LETTERS],
            run_id=run.id,
        )


def _event_types(run: Run, effect: Announce) -> list[str]:
    types = ["Headrace.RunAdvanced"]
    if effect.state == State.RECEIVED and run.trigger.kind == "retrain":
        types.append("Headrace.RetrainRequested")
    if effect.state == State.AWAITING_APPROVAL:
        types.append("Headrace.ApprovalNeeded")
    if effect.state == State.LIVE:
        types.append("Headrace.ReleaseLive")
    return types
