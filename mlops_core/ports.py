"""
What the controller needs of the world: one Protocol per role, in the words of the domain.

The controller and the handlers see these and never an adapter. Each port has a contract suite in `tests/contract` that
every adapter passes. All adapters raise `TemporaryError` for what may work when repeated and `PermanentError` for what
will not; nothing of an SDK comes through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Literal, Protocol, TypeVar

from mlops_core.domain.events import Event, GitPush, JobOutcome, JobStage
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
from mlops_core.domain.model import LedgerEntry, Model
from mlops_core.domain.project import ProjectSpec, Serve
from mlops_core.domain.run import Run

T = TypeVar("T")

# --- values that cross the ports


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
        known_heads: Branch heads that were heard of, so that a push whose webhook was lost is found.
    """

    name: ProjectName
    host: str
    repository: str
    clone_url: str
    manifest: str = "mlops.yaml"
    default_branch: str = "main"
    model: ModelName | None = None
    known_heads: Mapping[str, CommitId] = field(default_factory=dict)


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
    """

    name: JobName
    stage: JobStage
    run_id: RunId
    project: ProjectRecord
    commit: CommitId
    spec: ProjectSpec
    resume_from: JobName | None = None


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


# --- stores


class RunStore(Protocol):
    """Runs with their histories. One transaction per event."""

    def create(self, run: Run) -> bool:
        """Store a new run. Returns False, and changes nothing, when its id is there already."""
        ...

    def load(self, run_id: RunId) -> Stored[Run]:
        """Raises NotFoundError."""
        ...

    def commit(self, run: Run, *, read_version: int, event: Event, entry_reason: str, recorded_at: datetime) -> int:
        """
        Save a run and its event, both or neither.

        Returns: The new version.
        Raises:
            StaleRunError: Somebody saved the run after it was read.
            DuplicateEventError: The event's id is in the history already.
        """
        ...

    def history(self, run_id: RunId, *, after: int = 0, limit: int = 200) -> Page[HistoryEntry]:
        """Read a run's story in the order in which it was taken."""
        ...

    def of_project(self, project: ProjectName | None, *, cursor: str | None = None, limit: int = 50) -> Page[Run]:
        """Read runs, newest first; of all projects when None."""
        ...

    def active(self, *, cursor: str | None = None, limit: int = 100) -> Page[RunId]:
        """Read the ids of runs that are not at an end (live ones included)."""
        ...

    def active_on_branch(self, project: ProjectName, branch: str) -> Sequence[Run]:
        """Read the active runs that pushes to a branch started, without the live ones."""
        ...

    def of_job(self, job_name: JobName) -> RunId | None:
        """Find the run that submitted a job."""
        ...

    def of_version(self, model: ModelName, version: ModelVersion) -> RunId | None:
        """Find the newest run that released or tried to release a model version."""
        ...


class ModelStore(Protocol):
    """One record per registered model name, and its ledger."""

    def load(self, name: ModelName) -> Stored[Model]:
        """Read the record; a model never heard of is an empty one with version 0."""
        ...

    def commit(self, model: Model, *, read_version: int, ledger: Sequence[LedgerEntry] = ()) -> int:
        """
        Save the record and append to its ledger, both or neither.

        Raises: StaleRunError: Somebody saved it after it was read.
        """
        ...

    def ledger(self, name: ModelName, *, cursor: str | None = None, limit: int = 50) -> Page[LedgerEntry]:
        """Read who served what from when, newest first."""
        ...

    def names(self) -> Sequence[ModelName]:
        """List the models that were ever released."""
        ...


class ProjectStore(Protocol):
    """The repositories that the operator allowed."""

    def put(self, record: ProjectRecord) -> None:
        """Add a project or replace it."""
        ...

    def get(self, name: ProjectName) -> ProjectRecord:
        """Raises NotFoundError."""
        ...

    def of_repository(self, host: str, repository: str) -> Sequence[ProjectRecord]:
        """Find the projects of a repository; a monorepo has several, an unknown repository none."""
        ...

    def of_model(self, model: ModelName) -> ProjectRecord | None:
        """Find the project that produces a model."""
        ...

    def all(self) -> Sequence[ProjectRecord]:
        """List all projects by name."""
        ...


class DeadLetters(Protocol):
    """What could not be taken, until a person replays it."""

    def put(self, letter: DeadLetter) -> None:
        """Keep a letter; the same id again changes nothing."""
        ...

    def get(self, letter_id: str) -> DeadLetter:
        """Raises NotFoundError."""
        ...

    def list(self, *, cursor: str | None = None, limit: int = 50) -> Page[DeadLetter]:
        """Read letters, newest first."""
        ...

    def remove(self, letter_id: str) -> None:
        """Forget a letter that was replayed."""
        ...


# --- messages


class EffectQueue(Protocol):
    """Hints that an effect is pending. The run's own list is the truth, so a lost message only costs time."""

    def put(self, message: str, *, delay_seconds: float = 0) -> None:
        """Add a message."""
        ...


class EventBus(Protocol):
    """The controller's own topic. What is published is durable before this returns."""

    def publish(
        self, *, event_id: str, event_type: str, subject: str, data: Mapping[str, object], at: datetime
    ) -> None:
        """Publish one event; type names start with `Headrace.`."""
        ...


class Clock(Protocol):
    """The time."""

    def now(self) -> datetime:
        """Return the time, aware and in UTC."""
        ...


# --- the world of machine learning


class JobRunner(Protocol):
    """Executes build and pipeline jobs somewhere else than in the controller."""

    def submit(self, request: JobRequest) -> None:
        """Start a job; the same name again finds the first and starts nothing."""
        ...

    def status(self, name: JobName) -> JobStatus | None:
        """Ask for a job; None when the runner never heard of it."""
        ...

    def cancel(self, name: JobName) -> None:
        """Stop a job with everything that it started; one that ended already is left alone."""
        ...

    def progress(self, name: JobName, *, after: int = 0) -> Sequence[JobProgress]:
        """Read a job's progress after a sequence number."""
        ...

    def log(self, name: JobName) -> Iterator[bytes]:
        """Read a job's whole log. Raises NotFoundError."""
        ...


class ModelRegistry(Protocol):
    """Model versions with their metrics and lineage."""

    def version(self, model: ModelName, version: ModelVersion) -> RegisteredVersion:
        """Raises NotFoundError."""
        ...

    def versions_of_job(self, model: ModelName, job_name: JobName) -> Sequence[RegisteredVersion]:
        """Find what a pipeline job registered under a model's name, oldest first."""
        ...

    def versions(self, model: ModelName, *, limit: int = 50) -> Sequence[RegisteredVersion]:
        """List versions of a model, newest first."""
        ...

    def models(self) -> Sequence[ModelName]:
        """List the registered names."""
        ...


class Deployer(Protocol):
    """Runs the scoring app, one deployment per model version."""

    def create(self, request: DeploymentRequest) -> None:
        """Ask for a deployment and return before it is ready; the same name again finds the first."""
        ...

    def status(self, name: DeploymentName) -> DeploymentStatus:
        """Ask for a deployment."""
        ...

    def address(self, name: DeploymentName) -> str | None:
        """Look up where a deployment answers, cheaply and without asking it: the scoring route does so often."""
        ...

    def delete(self, name: DeploymentName) -> None:
        """End a deployment after it finished what is in flight; an absent one is left alone."""
        ...

    def list(self) -> Sequence[DeploymentStatus]:
        """List the deployments that there are."""
        ...


class SourceHost(Protocol):
    """Where the code is."""

    def read_file(self, project: ProjectRecord, commit: CommitId, path: str, *, limit_bytes: int = 1_000_000) -> bytes:
        """Raises NotFoundError (no such commit or file), TooLargeError."""
        ...

    def head(self, project: ProjectRecord, branch: str) -> CommitId | None:
        """Ask for the newest commit of a branch."""
        ...

    def heads(self, project: ProjectRecord) -> Mapping[str, CommitId]:
        """Ask for the newest commits of all branches."""
        ...

    def set_status(
        self,
        project: ProjectRecord,
        commit: CommitId,
        *,
        state: Literal["pending", "success", "failure"],
        description: str,
        run_id: RunId,
    ) -> None:
        """Show a run's state beside its commit."""
        ...


class PushVerifier(Protocol):
    """A repository host's webhook: is it genuine, and which pushes does it tell of."""

    def pushes(self, headers: Mapping[str, str], body: bytes, *, received_at: datetime) -> Sequence[GitPush]:
        """
        Verify the signature on the raw bytes, then read the pushes to branches that it tells of.

        Returns: Nothing for pings, tags, deletions and other kinds of event.
        Raises:
            UnauthorizedError: The signature is missing or wrong.
            BadInputError: The body is not what this host sends.
        """
        ...
