"""Values that cross the ports: frozen, in the words of the domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal, TypeVar

from mlops_core.domain.events import Event, JobOutcome, JobStage
from mlops_core.domain.gates import Evidence
from mlops_core.domain.ids import (
    CommitId,
    DeploymentName,
    EffectKey,
    EventId,
    JobName,
    ModelName,
    ModelVersion,
    ProjectName,
    RunId,
)
from mlops_core.domain.project import ProjectSpec, Serve

T = TypeVar("T")


@dataclass(frozen=True)
class Stored(Generic[T]):
    """A record and the version that a later save must name."""

    value: T
    version: int


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list; `cursor` asks for the next one, None means that there is none."""

    items: Sequence[T]
    cursor: str | None = None


@dataclass(frozen=True)
class HistoryEntry:
    """One line of a run's story: an event as it was taken, and what it changed."""

    sequence: int
    event_id: EventId
    recorded_at: datetime
    event: Event
    from_state: str
    to_state: str
    reason: str


@dataclass(frozen=True)
class ProjectRecord:
    """
    A repository that the operator allowed, with the place of its `mlops.yaml`.

    Attributes:
        repository: The host's own name of it, such as `owner/name`; for `local` the folder's name.
        clone_url: Where its commits are fetched from; for `local` the path of the bare repository.
        model: The registered name that it produces, known after its first run.
        known_heads: Branch heads that were heard of, so that a push whose webhook was lost is found. None before the
            first look: what was on the branches by then was not pushed to be delivered.
    """

    name: ProjectName
    host: str
    repository: str
    clone_url: str
    manifest: str = "mlops.yaml"
    default_branch: str = "main"
    model: ModelName | None = None
    known_heads: Mapping[str, CommitId] | None = None


@dataclass(frozen=True)
class DeadLetter:
    """What could not be taken, kept whole with the reason."""

    letter_id: str
    kind: Literal["event", "effect"]
    subject: str
    reason: str
    body: str
    created_at: datetime
    run_id: RunId | None = None
    key: EffectKey | None = None


@dataclass(frozen=True)
class JobRequest:
    """
    A job to submit. Everything in it is decided; the runner only executes.

    Attributes:
        name: Chosen beforehand; a second submit of the same name finds the first.
        spec: What `mlops.yaml` of this commit says.
        resume_from: The job whose finished steps may be taken over.
        reuse: Whether steps that did not change may be taken over from any earlier job.
    """

    name: JobName
    stage: JobStage
    run_id: RunId
    project: ProjectRecord
    commit: CommitId
    spec: ProjectSpec
    resume_from: JobName | None = None
    reuse: bool = True


@dataclass(frozen=True)
class JobStatus:
    """What a runner knows of a job. `outcome` is None while it is under way."""

    name: JobName
    outcome: JobOutcome | None
    reason: str = ""
    log_tail: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True)
class JobProgress:
    """One line of progress of a job, in order."""

    sequence: int
    at: datetime
    text: str
    kind: Literal["log", "stage", "metric"] = "log"


@dataclass(frozen=True)
class RegisteredVersion:
    """
    A model version in the registry.

    Attributes:
        job_name: The pipeline job that it comes from, None when it was registered outside of any.
        metrics: Metrics of the version's own source run.
        data_version: What the metrics were measured on, where known.
        uri: Where its artifacts are, in the registry's own form.
    """

    model: ModelName
    version: ModelVersion
    job_name: JobName | None
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    created_at: datetime
    data_version: str | None = None
    uri: str = ""

    @property
    def evidence(self) -> Evidence:
        """What the gates judge by."""
        return Evidence(version=self.version, metrics=dict(self.metrics), data_version=self.data_version)


@dataclass(frozen=True)
class DeploymentRequest:
    """A version to deploy, under a name chosen beforehand."""

    name: DeploymentName
    model: ModelName
    version: ModelVersion
    project: ProjectRecord
    commit: CommitId | None
    serve: Serve
    spec: ProjectSpec | None = None


@dataclass(frozen=True)
class DeploymentStatus:
    """
    What a deployer knows of a deployment.

    Attributes:
        address: Base URL of the scoring app; only meaningful while `ready`, never to be stored as the address.
    """

    name: DeploymentName
    state: Literal["absent", "starting", "ready", "failed"]
    address: str | None = None
    reason: str = ""
    log_tail: str = ""
