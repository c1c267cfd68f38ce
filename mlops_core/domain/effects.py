"""
Effects: wishes towards the outside world, small values with a deterministic key.

A run's pending effects are derived from its facts (`machine.wanted`): an effect is pending as long as the state wants
it and the fact that it leads to is not there. So performing one twice does no harm, and a lost message only costs time.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny

from mlops_core.domain.events import JobStage, Revival
from mlops_core.domain.ids import EffectKey, JobName, ModelVersion
from mlops_core.domain.values import Timestamp, Value

# Whether the run has heard that there is something to tidy up. A process that died between making a thing and telling
# of it leaves one unheard of, so tidying up is tried in any case, and again when the thing is heard of after all.
Heard = bool


def _cleanup(verb: str, heard: bool) -> str:
    return verb if heard else f"{verb}-unheard"


class DecidePolicy(Value):
    """Hold the trigger against `mlops.yaml` and against newer pushes of the branch."""

    kind: Literal["decide_policy"] = "decide_policy"

    @property
    def key(self) -> EffectKey:
        """One per run."""
        return EffectKey("policy")


class SubmitJob(Value):
    """Give a job to the job runner."""

    kind: Literal["submit_job"] = "submit_job"
    stage: JobStage
    job_name: JobName

    @property
    def key(self) -> EffectKey:
        """One per stage."""
        return EffectKey(f"submit:{self.stage}")


class CancelJob(Value):
    """Stop a job that nobody waits for any more."""

    kind: Literal["cancel_job"] = "cancel_job"
    stage: JobStage
    job_name: JobName
    revival: Revival = 0
    heard: Heard = True

    @property
    def key(self) -> EffectKey:
        """One per stage."""
        return EffectKey(f"{_cleanup('cancel', self.heard)}:{self.stage}")


class FindModel(Value):
    """Ask the registry what the pipeline registered."""

    kind: Literal["find_model"] = "find_model"
    job_name: JobName

    @property
    def key(self) -> EffectKey:
        """One per run."""
        return EffectKey("find-model")


class JudgeGates(Value):
    """
    Judge the version by the gates.

    Attributes:
        against: `current` for whoever is the champion when it is performed, else the champion named by the lock.
    """

    kind: Literal["judge_gates"] = "judge_gates"
    version: ModelVersion
    against: ModelVersion | None = None
    current: bool = True

    @property
    def key(self) -> EffectKey:
        """One per champion that the version is held against."""
        return EffectKey("judge" if self.current else f"judge:{self.against or '-'}")


class TakeReleaseLock(Value):
    """Become the one run that releases a version of this model."""

    kind: Literal["take_release_lock"] = "take_release_lock"
    version: ModelVersion
    revival: Revival = 0

    @property
    def key(self) -> EffectKey:
        """One per run."""
        return EffectKey("lock")


class ReturnReleaseLock(Value):
    """Let the next run release."""

    kind: Literal["return_release_lock"] = "return_release_lock"
    revival: Revival = 0
    heard: Heard = True

    @property
    def key(self) -> EffectKey:
        """One per run."""
        return EffectKey(_cleanup("unlock", self.heard))


class DeployVersion(Value):
    """Start the scoring app with the version, beside the one in service."""

    kind: Literal["deploy_version"] = "deploy_version"
    version: ModelVersion
    revival: Revival = 0

    @property
    def key(self) -> EffectKey:
        """One per version."""
        return EffectKey(f"deploy:{self.version}")


class DeleteDeployment(Value):
    """End a deployment that carries no traffic."""

    kind: Literal["delete_deployment"] = "delete_deployment"
    version: ModelVersion
    revival: Revival = 0
    heard: Heard = True

    @property
    def key(self) -> EffectKey:
        """One per version."""
        return EffectKey(f"{_cleanup('undeploy', self.heard)}:{self.version}")


class SmokeTest(Value):
    """Send the stage's requests to the fresh deployment."""

    kind: Literal["smoke_test"] = "smoke_test"
    stage: str
    version: ModelVersion

    @property
    def key(self) -> EffectKey:
        """One per stage."""
        return EffectKey(f"smoke:{self.stage}")


class ShiftTraffic(Value):
    """Let the stable address lead to the version."""

    kind: Literal["shift_traffic"] = "shift_traffic"
    version: ModelVersion

    @property
    def key(self) -> EffectKey:
        """One per version."""
        return EffectKey(f"shift:{self.version}")


class Announce(Value):
    """Tell subscribers, and the commit at its host, that the run entered a state."""

    kind: Literal["announce"] = "announce"
    state: str
    from_state: str
    reason: str
    at: Timestamp

    @property
    def key(self) -> EffectKey:
        """One per state."""
        return announcement_key(self.state)


def announcement_key(state: str) -> EffectKey:
    """Name the announcement of a state."""
    return EffectKey(f"announce:{state}")


Effect = Annotated[
    DecidePolicy
    | SubmitJob
    | CancelJob
    | FindModel
    | JudgeGates
    | TakeReleaseLock
    | ReturnReleaseLock
    | DeployVersion
    | DeleteDeployment
    | SmokeTest
    | ShiftTraffic
    | Announce,
    Field(discriminator="kind"),
]


class PendingEffect(Value):
    """An effect that is still to be performed, and since when."""

    effect: SerializeAsAny[Effect]
    since: Timestamp
