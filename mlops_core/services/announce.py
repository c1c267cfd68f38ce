"""
Perform `Announce`: publish that a run entered a state, and show it beside its commit at the repository host.

A commit has a status of the run as a whole, which may be made a required check, and one of each stage that the run came
to. They are made from the run's states and all are shown each time, so that one that was passed over is made up for.
"""

from __future__ import annotations

from mlops_core.domain import events as ev
from mlops_core.domain.effects import Announce
from mlops_core.domain.run import Run, State
from mlops_core.ports import CommitStage, CommitState
from mlops_core.world import World

# A commit status is one line at every host; GitHub's limit is the smallest.
_DESCRIPTION_LETTERS = 140
_STATUS: dict[State, CommitState] = {
    State.BUILT: "success",
    State.LIVE: "success",
    # It was delivered; that another was after it takes nothing back.
    State.RETIRED: "success",
    State.SKIPPED: "success",
    State.FAILED: "failure",
    State.REJECTED: "failure",
    State.EXPIRED: "failure",
    State.CANCELLED: "failure",
    State.SUPERSEDED: "failure",
    State.ROLLED_BACK: "failure",
}
_STAGES: dict[State, CommitStage] = {
    State.BUILDING: "build",
    State.TRAINING: "train",
    State.EVALUATING: "release",
    State.AWAITING_APPROVAL: "release",
    State.DEPLOYING: "release",
    State.ROLLING_OUT: "release",
}
Shown = tuple[CommitState, str]
"""A commit's status and the line beside it."""


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
        source, commit = self._world.source_of(record), run.trigger.commit
        whole: Shown = (_STATUS.get(state, "pending"), f"{state}: {reason}")
        shown: list[tuple[CommitStage | None, Shown]] = [(None, whole), *stages_of(run).items()]
        for stage, (status, text) in shown:
            description = text[:_DESCRIPTION_LETTERS]
            source.set_status(record, commit, state=status, description=description, run_id=run.id, stage=stage)


def stages_of(run: Run) -> dict[CommitStage, Shown]:
    """Tell how each stage stands that a run came to: under way, passed, or where the run ended, with why."""
    found: dict[CommitStage, Shown] = {}
    stage: CommitStage | None = None
    for entry in run.entries:
        following = _STAGES.get(entry.state)
        if stage is not None and following != stage:
            failed = _STATUS.get(entry.state) == "failure"
            found[stage] = (
                ("failure", f"{entry.state}: {entry.reason}") if failed else ("success", _passed(entry.state))
            )
        stage = following
        if stage is not None:
            found[stage] = ("pending", f"{entry.state}: {entry.reason}")
    return found


def _passed(following: State) -> str:
    return "live" if following is State.LIVE else f"passed, then {following}"


def _event_types(run: Run, effect: Announce) -> list[str]:
    types = ["Headrace.RunAdvanced"]
    if effect.state == State.RECEIVED and run.trigger.kind == "retrain":
        types.append("Headrace.RetrainRequested")
    if effect.state == State.AWAITING_APPROVAL:
        types.append("Headrace.ApprovalNeeded")
    if effect.state == State.LIVE:
        types.append("Headrace.ReleaseLive")
    return types
