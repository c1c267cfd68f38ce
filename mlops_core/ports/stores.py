"""What is kept: runs, models, projects, dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from mlops_core.domain.events import Event
from mlops_core.domain.ids import JobName, ModelName, ModelVersion, ProjectName, RunId
from mlops_core.domain.model import LedgerEntry, Model
from mlops_core.domain.run import Run
from mlops_core.ports.values import DeadLetter, HistoryEntry, Page, ProjectRecord, Stored


class RunStore(Protocol):
    """Runs with their histories. One transaction per event."""

    def create(self, run: Run) -> bool:
        """Store a new run. Returns False, and changes nothing, when its id is there already."""
        ...

    def load(self, run_id: RunId) -> Stored[Run]:
        """Raises NotFoundError."""
        ...

    def last_seen(self, run_id: RunId) -> Stored[Run]:
        """
        Give a run as this process saw it last, without asking the store; one that it never saw is loaded.

        Others may have saved it since, which `commit` then refuses. Raises NotFoundError.
        """
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
        """Read letters, newest first. Raises BadInputError: The cursor is none."""
        ...

    def remove(self, letter_id: str) -> None:
        """Forget a letter that was replayed."""
        ...
