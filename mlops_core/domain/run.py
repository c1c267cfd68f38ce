"""
A run: one delivery, from a trigger to a model in service, or to the reason why not.

A run holds what is known (its facts) and what follows from it (state, reason, pending effects), the latter written by
`machine.advance` only. Facts join: of two that answer the same question the earlier one counts, so any order and any
number of repeats of the same events give the same facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Literal, TypeVar

from pydantic import Field, SerializeAsAny

from mlops_core.domain import events as ev
from mlops_core.domain.effects import PendingEffect
from mlops_core.domain.ids import CommitId, EffectKey, JobName, ModelName, ModelVersion, ProjectName, RunId, job_of_run
from mlops_core.domain.project import ProjectSpec
from mlops_core.domain.values import Timestamp, Value

F = TypeVar("F", bound=ev.Fact)


class State(StrEnum):
    """Where a run stands."""

    RECEIVED = "received"
    BUILDING = "building"
    TRAINING = "training"
    EVALUATING = "evaluating"
    AWAITING_APPROVAL = "awaiting_approval"
    DEPLOYING = "deploying"
    ROLLING_OUT = "rolling_out"
    LIVE = "live"
    BUILT = "built"
    SKIPPED = "skipped"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    ROLLED_BACK = "rolled_back"
    RETIRED = "retired"


# A run in one of these needs nothing any more. `live` is none of them: its deployment is watched.
ENDS = frozenset(
    {State.BUILT, State.SKIPPED, State.SUPERSEDED, State.FAILED, State.REJECTED, State.EXPIRED, State.CANCELLED,
     State.ROLLED_BACK, State.RETIRED}
)  # fmt: skip

TriggerKind = Literal["push", "retrain", "rollback", "registered"]


class Trigger(Value):
    """
    What started the run.

    Attributes:
        ordinal: The host's time of the push, or the time of the request: it orders the releases of a model.
        commit: The code; None for a version that was registered outside of any run and whose project is unknown.
        reuse: Whether steps that did not change may be taken over from earlier runs.
        version: For rollbacks and registered versions: what is to be released.
    """

    kind: TriggerKind
    ordinal: Timestamp
    branch: str = ""
    commit: CommitId | None = None
    before: CommitId | None = None
    changed: tuple[str, ...] | None = Field(None, max_length=1000)
    by: str = ""
    reason: str = ""
    rebuild: bool = True
    reuse: bool = True
    resume_from: RunId | None = None
    version: ModelVersion | None = None


class StateEntry(Value):
    """That a run entered a state, when and why."""

    state: State
    at: Timestamp
    reason: str


@cache
def _tag(kind: type[ev.Fact]) -> str:
    return str(kind.model_fields["kind"].default)


class Facts(Value):
    """What is known of a run: at most one fact per slot."""

    # Each writes itself: asking a union which of its members to write as takes longer than writing.
    slots: Mapping[str, SerializeAsAny[ev.Event]] = Field(default_factory=dict)

    def joined(self, event: ev.Event) -> Facts:
        """Return the facts with one more. Commutative, associative and idempotent."""
        slot = slot_of(event)
        known = self.slots.get(slot)
        if known is not None and _rank(known) <= _rank(event):
            return self
        return Facts.model_construct(slots={**self.slots, slot: event})

    def get(self, kind: type[F], *identity: str) -> F | None:
        """Read the fact of a kind, for facts that there is one of per stage or per version with its identity."""
        found = self.slots.get(":".join((_tag(kind), *identity)) if identity else _tag(kind))
        # Most that is asked for is not there, and pydantic is slow to say that nothing is no instance.
        return found if found is not None and isinstance(found, kind) else None

    def all(self, kind: type[F]) -> list[F]:
        """Read all facts of a kind, earliest first, those of the same moment in an order of their own."""
        tag = _tag(kind)
        found = [
            (fact.at, slot, fact)
            for slot, fact in self.slots.items()
            if slot.startswith(tag) and isinstance(fact, kind)
        ]
        if len(found) > 1:
            found.sort(key=lambda each: each[:2])
        return [fact for _, _, fact in found]


def slot_of(event: ev.Event) -> str:
    """Name the question that a fact answers."""
    match event:
        case ev.JobSubmitted() | ev.JobEnded() | ev.SmokeTested():
            return f"{event.kind}:{event.stage}"
        case ev.GatesJudged():
            return f"{event.kind}:{event.champion or '-'}"
        case ev.EffectDone() | ev.EffectFailed() | ev.EffectReplayed():
            return f"{event.kind}:{event.key}"
        case _:
            return event.kind


def _rank(event: ev.Event) -> tuple[int, Timestamp, str]:
    """Order the answers to one question: the newest round of the question first, then the earliest, then any rule."""
    return -_round(event), event.at, event.model_dump_json()


def _round(event: ev.Event) -> int:
    match event:
        case (
            ev.ReleaseLockTaken()
            | ev.DeploymentRequested()
            | ev.DeploymentReady()
            | ev.DeploymentFailed()
            | ev.EffectDone()
        ):
            return event.revival
        case ev.EffectFailed() | ev.EffectReplayed():
            return event.attempt
        case ev.ModelAnnounced():
            return int(event.version) if event.version.isdecimal() else 0
        case _:
            return 0


# Keys of effects that tidy up or tell: their failure does not end a run, so their replay does not revive one.
_BESIDE_PROGRESS = ("announce", "cancel", "unlock", "undeploy")


def is_progress(key: EffectKey) -> bool:
    """Tell whether a run's progress depends on an effect."""
    return not key.startswith(_BESIDE_PROGRESS)


class Run(Value):
    """One delivery."""

    id: RunId
    project: ProjectName
    trigger: Trigger
    created_at: Timestamp
    updated_at: Timestamp
    facts: Facts = Facts()
    state: State = State.RECEIVED
    reason: str = ""
    entries: tuple[StateEntry, ...] = ()
    pending: tuple[PendingEffect, ...] = ()

    @property
    def spec(self) -> ProjectSpec | None:
        """What `mlops.yaml` says, once the policy was decided."""
        policy = self.facts.get(ev.PolicyDecided)
        return policy.spec if policy else None

    @property
    def model(self) -> ModelName | None:
        """The model that the run produces."""
        return ModelName(self.spec.train.model) if self.spec else None

    @property
    def version(self) -> ModelVersion | None:
        """The model version that the run releases, once it is known."""
        if self.trigger.version is not None:
            return self.trigger.version
        found = self.facts.get(ev.ModelFound)
        return found.version if found else None

    @property
    def ended(self) -> bool:
        """Tell whether nothing will happen to the run by itself."""
        return self.state in ENDS

    @property
    def revivals(self) -> int:
        """How often a person brought the run back from its end, by waiving gates or by replaying a failed effect."""
        revivals = int("gates_waived" in self.facts.slots)
        for slot, fact in self.facts.slots.items():
            # Asked for many times per event, so the slot's name is looked at first: it is the cheaper question.
            if slot.startswith("effect_replayed") and isinstance(fact, ev.EffectReplayed) and is_progress(fact.key):
                revivals += fact.attempt
        return revivals

    def entered(self, state: State) -> bool:
        """Tell whether the run ever was in a state."""
        return any(entry.state is state for entry in self.entries)

    def job_name(self, stage: ev.JobStage) -> JobName:
        """Name the job of a stage."""
        return job_of_run(self.id, stage)

    def open_jobs(self) -> list[ev.JobSubmitted]:
        """List the jobs that were submitted and have not been heard of since."""
        return [job for job in self.facts.all(ev.JobSubmitted) if self.facts.get(ev.JobEnded, job.stage) is None]
