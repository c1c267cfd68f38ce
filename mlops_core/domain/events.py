"""
What can happen: facts in the past tense, each safe to take twice, late and out of order.

An event's identity is made from what it says, not from the delivery that brought it: the end of a job heard of by an
event and by asking is one fact. Requests are wishes and live in `requests.py`; what becomes of an accepted wish is a
fact here (`RunCancelled`, `ReleaseApproved`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from mlops_core.domain.gates import Verdict
from mlops_core.domain.ids import (
    CommitId,
    EffectKey,
    EventId,
    JobName,
    ModelName,
    ModelVersion,
    RunId,
    short_digest,
)
from mlops_core.domain.project import ProjectSpec
from mlops_core.domain.values import Timestamp, Value

JobStage = Literal["build", "train"]
JobOutcome = Literal["succeeded", "failed", "cancelled"]


# How often a person had brought the run back from its end (`Run.revivals`) when this happened: what was tidied up at
# that end, such as the release lock, has to be had again.
Revival = Annotated[int, Field(ge=0)]


def _of_revival(revival: int) -> list[str]:
    return [str(revival)] if revival else []


class Fact(Value):
    """What all events have: the time at which it happened, as told by whoever tells it."""

    at: Timestamp

    @property
    def event_id(self) -> EventId:
        """Name the fact: equal for two tellings of the same thing."""
        kind = getattr(self, "kind")  # noqa: B009 - the literal tag that every subclass has
        return EventId(":".join([kind, *self._identity()]))

    def _identity(self) -> list[str]:
        return []


class PolicyDecided(Fact):
    """The push was held against `mlops.yaml`: deliver it, build it only, or skip it."""

    kind: Literal["policy_decided"] = "policy_decided"
    decision: Literal["deliver", "build_only", "skip", "refuse"]
    reason: str
    spec: ProjectSpec | None = None


class JobSubmitted(Fact):
    """The job runner has the job of this stage."""

    kind: Literal["job_submitted"] = "job_submitted"
    stage: JobStage
    job_name: JobName

    def _identity(self) -> list[str]:
        return [self.stage]


class JobEnded(Fact):
    """A job ended, heard of by an event or by asking."""

    kind: Literal["job_ended"] = "job_ended"
    stage: JobStage
    job_name: JobName
    outcome: JobOutcome
    reason: str = ""
    log_tail: str = Field("", max_length=8_000)

    def _identity(self) -> list[str]:
        return [self.stage, self.outcome]


class ModelAnnounced(Fact):
    """The registry told of a new version of this run's pipeline, maybe before the pipeline was complete."""

    kind: Literal["model_announced"] = "model_announced"
    model: ModelName
    version: ModelVersion

    def _identity(self) -> list[str]:
        return [self.model, self.version]


class ModelFound(Fact):
    """The registry was asked after the pipeline's end, and this is the version to release."""

    kind: Literal["model_found"] = "model_found"
    model: ModelName
    version: ModelVersion

    def _identity(self) -> list[str]:
        return [self.version]


class NothingRegistered(Fact):
    """The pipeline is complete and the registry has no version from it."""

    kind: Literal["nothing_registered"] = "nothing_registered"
    reason: str


class GatesJudged(Fact):
    """The gates gave their verdicts about the challenger against one champion."""

    kind: Literal["gates_judged"] = "gates_judged"
    version: ModelVersion
    champion: ModelVersion | None
    verdicts: tuple[Verdict, ...]

    def _identity(self) -> list[str]:
        return [self.version, self.champion or "-"]


class GatesWaived(Fact):
    """A person overrode the failed gates."""

    kind: Literal["gates_waived"] = "gates_waived"
    by: str
    reason: str


class ReleaseApproved(Fact):
    """A person let the release go on."""

    kind: Literal["release_approved"] = "release_approved"
    by: str
    reason: str


class ReleaseRejected(Fact):
    """A person stopped the release."""

    kind: Literal["release_rejected"] = "release_rejected"
    by: str
    reason: str


class ApprovalExpired(Fact):
    """Nobody answered in time."""

    kind: Literal["approval_expired"] = "approval_expired"


class ReleaseLockTaken(Fact):
    """The run may release now; until it lets go, the model's champion is the one named here."""

    kind: Literal["release_lock_taken"] = "release_lock_taken"
    champion: ModelVersion | None
    revival: Revival = 0

    def _identity(self) -> list[str]:
        return _of_revival(self.revival)


class DeploymentRequested(Fact):
    """The deployer has been asked for the deployment of the version."""

    kind: Literal["deployment_requested"] = "deployment_requested"
    version: ModelVersion
    revival: Revival = 0

    def _identity(self) -> list[str]:
        return _of_revival(self.revival)


class DeploymentReady(Fact):
    """The deployment answers."""

    kind: Literal["deployment_ready"] = "deployment_ready"
    version: ModelVersion
    revival: Revival = 0

    def _identity(self) -> list[str]:
        return _of_revival(self.revival)


class DeploymentFailed(Fact):
    """The deployment cannot start."""

    kind: Literal["deployment_failed"] = "deployment_failed"
    version: ModelVersion
    reason: str
    log_tail: str = Field("", max_length=8_000)
    revival: Revival = 0

    def _identity(self) -> list[str]:
        return _of_revival(self.revival)


class SmokeTested(Fact):
    """A stage's smoke test ended, with its numbers."""

    kind: Literal["smoke_tested"] = "smoke_tested"
    stage: str
    passed: bool
    reason: str
    p95_ms: float | None = None

    def _identity(self) -> list[str]:
        return [self.stage]


class TrafficShifted(Fact):
    """The stable address leads to this run's version now."""

    kind: Literal["traffic_shifted"] = "traffic_shifted"
    version: ModelVersion
    previous: ModelVersion | None


class Retired(Fact):
    """Another run's version took the traffic over."""

    kind: Literal["retired"] = "retired"
    by_run: RunId
    reason: str

    def _identity(self) -> list[str]:
        return [self.by_run]


class Superseded(Fact):
    """A newer push of the same branch, a newer champion or a rollback makes this run pointless."""

    kind: Literal["superseded"] = "superseded"
    by_run: RunId
    reason: str


class RunCancelled(Fact):
    """A person stopped the run."""

    kind: Literal["run_cancelled"] = "run_cancelled"
    by: str
    reason: str


class EffectDone(Fact):
    """An effect that leads to no other fact was performed."""

    kind: Literal["effect_done"] = "effect_done"
    key: EffectKey
    revival: Revival = 0

    def _identity(self) -> list[str]:
        return [self.key, *_of_revival(self.revival)]


class EffectFailed(Fact):
    """An effect cannot be performed: a permanent error, or every try used up."""

    kind: Literal["effect_failed"] = "effect_failed"
    key: EffectKey
    reason: str
    attempt: int = Field(0, ge=0, description="How many times a person had asked for it again before.")

    def _identity(self) -> list[str]:
        return [self.key, str(self.attempt)]


class EffectReplayed(Fact):
    """A person asked for a failed effect to be tried again."""

    kind: Literal["effect_replayed"] = "effect_replayed"
    key: EffectKey
    attempt: int = Field(ge=1)
    by: str

    def _identity(self) -> list[str]:
        return [self.key, str(self.attempt)]


Event = Annotated[
    PolicyDecided
    | JobSubmitted
    | JobEnded
    | ModelAnnounced
    | ModelFound
    | NothingRegistered
    | GatesJudged
    | GatesWaived
    | ReleaseApproved
    | ReleaseRejected
    | ApprovalExpired
    | ReleaseLockTaken
    | DeploymentRequested
    | DeploymentReady
    | DeploymentFailed
    | SmokeTested
    | TrafficShifted
    | Retired
    | Superseded
    | RunCancelled
    | EffectDone
    | EffectFailed
    | EffectReplayed,
    Field(discriminator="kind"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)


class GitPush(Value):
    """
    A push to one ref, as a repository host or the laptop's bare repository told it. It starts a run.

    Attributes:
        repository: The host's own name of it, such as `owner/name`.
        ref: The full ref, such as `refs/heads/main`.
        commit: The new commit of the ref.
        changed: Changed files, as far as the host told them; None when it did not.
        pushed_at: The host's time of the push, which orders the runs of a branch.
    """

    host: str
    repository: str
    ref: str
    commit: CommitId
    before: CommitId | None = None
    pushed_at: Timestamp
    pushed_by: str = ""
    message: str = Field("", max_length=500)
    changed: tuple[str, ...] | None = None
    delivery_id: str = ""

    @property
    def branch(self) -> str:
        """The branch's name without `refs/heads/`."""
        return self.ref.removeprefix("refs/heads/")

    @property
    def event_id(self) -> EventId:
        """Name the push by repository, ref and commit: the same for every delivery of it."""
        return EventId(f"git_push:{short_digest(f'{self.host}|{self.repository}|{self.ref}|{self.commit}')}")
