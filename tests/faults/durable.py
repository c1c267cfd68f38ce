"""
A world on disk that outlives the controller: jobs, deployments and the source, as folders and files.

Everything here is done by one system call that is atomic among processes, so whoever is killed has done a thing or not.
What was launched is a line of a file that is only ever appended to; the test counts the lines.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from builders import MANIFEST, PROJECT
from fakes import AlwaysPasses, FakeBus, FakeQueue, FakeRegistry, FakeSourceHost

from mlops_core.adapters.local.database import Database
from mlops_core.adapters.local.dead_letters import SqliteDeadLetters
from mlops_core.adapters.local.model_store import SqliteModelStore
from mlops_core.adapters.local.project_store import SqliteProjectStore
from mlops_core.adapters.local.run_store import SqliteRunStore
from mlops_core.domain.ids import CommitId, DeploymentName, JobName, ModelName, ModelVersion, ProjectName
from mlops_core.ports import (
    DeploymentRequest,
    DeploymentStatus,
    JobRequest,
    JobStatus,
    ProjectRecord,
    RegisteredVersion,
)
from mlops_core.services.smoke import SmokeTester
from mlops_core.world import World

SMOKE: SmokeTester = AlwaysPasses()  # type: ignore[assignment] - structural stand-in


class SystemClock:
    """The machine's time."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class FolderJobs:
    """Jobs that end well the moment they are started, each a folder of its name."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._launches = folder / "jobs", folder / "launches"
        self._folder.mkdir(exist_ok=True)

    def submit(self, request: JobRequest) -> None:
        try:
            (self._folder / request.name).mkdir()
        except FileExistsError:
            return
        self.append(request.name)

    def append(self, name: JobName) -> None:
        line = os.open(self._launches, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(line, f"{name}\n".encode())
        os.close(line)

    def status(self, name: JobName) -> JobStatus | None:
        return JobStatus(name, "succeeded") if (self._folder / name).exists() else None

    def cancel(self, name: JobName) -> None:
        """It ended already."""


class NameForgettingJobs(FolderJobs):
    """Negative control: a runner that is told no name, so every submit starts a job."""

    def submit(self, request: JobRequest) -> None:
        (self._folder / request.name).mkdir(exist_ok=True)
        self.append(request.name)


class FolderDeployments:
    """Deployments that are ready at once, each a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "deployments"
        self._folder.mkdir(exist_ok=True)

    def create(self, request: DeploymentRequest) -> None:
        (self._folder / request.name).mkdir(exist_ok=True)

    def status(self, name: DeploymentName) -> DeploymentStatus:
        ready = (self._folder / name).exists()
        return DeploymentStatus(name, "ready" if ready else "absent", f"http://{name}.test" if ready else None)

    def address(self, name: DeploymentName) -> str | None:
        return self.status(name).address

    def delete(self, name: DeploymentName) -> None:
        if (self._folder / name).exists():
            (self._folder / name).rmdir()

    def list(self) -> Sequence[DeploymentStatus]:
        return [self.status(DeploymentName(path.name)) for path in self._folder.iterdir()]


class JobNamedRegistry(FakeRegistry):
    """Version 1 of each model comes from whichever training job asks."""

    def versions_of_job(self, model: ModelName, job_name: JobName) -> Sequence[RegisteredVersion]:
        return [replace(self.version(model, ModelVersion("1")), job_name=job_name)]

    def version(self, model: ModelName, version: ModelVersion) -> RegisteredVersion:
        made = datetime(2026, 1, 1, tzinfo=UTC)
        return RegisteredVersion(model, version, None, {"rmse": 50.0}, {}, made)


class NamedManifests(FakeSourceHost):
    """Every project's `mlops.yaml` is the same but for its name."""

    def read_file(self, project: ProjectRecord, commit: CommitId, path: str, *, limit_bytes: int = 1_000_000) -> bytes:
        return MANIFEST.replace(b"diabetes", project.name.encode())


def open_world(folder: Path, *, jobs: Callable[[Path], FolderJobs] = FolderJobs) -> World:
    """Open the world of a folder; nothing of it is in memory but the queue, whose messages are hints."""
    database = Database(folder / "headrace.db")
    # What is killed is the process, never the machine, so the disk need not be waited for.
    database.connection.execute("PRAGMA synchronous=OFF")
    world = World(
        runs=SqliteRunStore(database),
        models=SqliteModelStore(database),
        projects=SqliteProjectStore(database),
        dead_letters=SqliteDeadLetters(database),
        queue=FakeQueue(),
        bus=FakeBus(),
        jobs=jobs(folder),  # type: ignore[arg-type] - progress and log are never asked for
        registry=JobNamedRegistry(),
        deployer=FolderDeployments(folder),
        sources={"local": NamedManifests()},
        clock=SystemClock(),
    )
    return _with_stores_of(folder, world)


def use_tables(folder: Path, connection_string: str, prefix: str) -> None:
    """Have every world of this folder keep its records in Table storage."""
    (folder / "tables.json").write_text(json.dumps({"connection_string": connection_string, "prefix": prefix}))


def _with_stores_of(folder: Path, world: World) -> World:
    if not (folder / "tables.json").exists():
        return world
    # Imported here, since every process of a controller starts with this module.
    from azurite import on_tables

    from mlops_core.adapters.azure.tables import StorageAccount, Tables

    chosen = json.loads((folder / "tables.json").read_text())
    account = StorageAccount(connection_string=chosen["connection_string"])
    return on_tables(world, Tables(account, prefix=chosen["prefix"]))


def add_projects(world: World, count: int) -> None:
    """Allow the repositories `p0`, `p1`, ..."""
    for number in range(count):
        name = ProjectName(f"p{number}")
        world.projects.put(replace(PROJECT, name=name, repository=name))


def launches(folder: Path) -> list[str]:
    """Read what was launched, in order."""
    path = folder / "launches"
    return path.read_text().split() if path.exists() else []
