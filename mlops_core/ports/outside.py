"""The world of machine learning outside: jobs, registry, deployments, repository hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol

from mlops_core.domain.events import GitPush
from mlops_core.domain.ids import CommitId, DeploymentName, JobName, ModelName, ModelVersion, RunId
from mlops_core.ports.values import (
    DeploymentRequest,
    DeploymentStatus,
    JobProgress,
    JobRequest,
    JobStatus,
    ProjectRecord,
    RegisteredVersion,
)


class JobRunner(Protocol):
    """Executes build and pipeline jobs somewhere else than in the controller."""

    def submit(self, request: JobRequest) -> JobStatus | None:
        """
        Start a job; the same name again finds the first and starts nothing.

        Returns: How it ended, where there was nothing to run, such as a build without tests; else None.
        """
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

    def log_tail(self, name: DeploymentName, *, lines: int = 60) -> str:
        """Read the last lines that a deployment printed; empty where it printed nothing, or is not there."""
        ...

    def delete(self, name: DeploymentName) -> None:
        """End a deployment after it finished what is in flight; an absent one is left alone."""
        ...

    def list(self) -> Sequence[DeploymentStatus]:
        """List the deployments that there are."""
        ...


CommitState = Literal["pending", "success", "failure"]
CommitStage = Literal["build", "train", "release"]


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
        state: CommitState,
        description: str,
        run_id: RunId,
        stage: CommitStage | None = None,
    ) -> None:
        """Show beside its commit how a run stands, or one stage of it, without touching the others."""
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
