"""Build an application over SQLite and fakes, pushes and manifests; and drive it until nothing is left to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from fakes import (
    START,
    AlwaysPasses,
    FakeBus,
    FakeClock,
    FakeDeployer,
    FakeJobRunner,
    FakeQueue,
    FakeRegistry,
    FakeSourceHost,
)

from mlops_core.adapters.local.database import Database
from mlops_core.adapters.local.dead_letters import SqliteDeadLetters
from mlops_core.adapters.local.model_store import SqliteModelStore
from mlops_core.adapters.local.project_store import SqliteProjectStore
from mlops_core.adapters.local.run_store import SqliteRunStore
from mlops_core.application import Application, assemble
from mlops_core.domain.errors import TemporaryError
from mlops_core.domain.events import GitPush
from mlops_core.domain.ids import CommitId, EffectKey, JobName, ProjectName, RunId
from mlops_core.domain.run import Run
from mlops_core.ports import ProjectRecord
from mlops_core.services.smoke import SmokeTester
from mlops_core.world import World

MANIFEST = b"""
project: diabetes
train: {pipeline: azureml/pipeline.yml, model: diabetes}
release:
  gates:
    - {metric: rmse, max: 60}
    - {metric: rmse, no_worse_than: champion, tolerance: 1%}
"""
SMOKED = (
    MANIFEST
    + b"""  stages:
    - {name: staging, smoke: {request: sample.json}}
    - {name: production}
"""
)
APPROVED = MANIFEST + b"  approval: manual\n"
# Closed after each test by a fixture: Python 3.13 warns of a connection that nobody closed.
OPEN: list[Database] = []
# What puts other stores in the place of SQLite's, for tests that run a second time on Table storage.
STORES: list[Callable[[World], World]] = []
PROJECT = ProjectRecord(
    name=ProjectName("diabetes"), host="local", repository="diabetes", clone_url="/repositories/diabetes.git"
)


def commit_id(number: int) -> CommitId:
    """Make up a commit id."""
    return CommitId(f"{number:08x}" * 5)


def push(number: int = 1, *, branch: str = "main", at: datetime | None = None, before: int | None = None) -> GitPush:
    """Make up a push; higher numbers were pushed later."""
    return GitPush(
        host="local",
        repository="diabetes",
        ref=f"refs/heads/{branch}",
        commit=commit_id(number),
        before=commit_id(before) if before else None,
        pushed_at=at or START + timedelta(seconds=number),
        pushed_by="ada",
    )


@dataclass
class Bench:
    """An application with its fakes at hand."""

    app: Application
    clock: FakeClock
    queue: FakeQueue
    bus: FakeBus
    jobs: FakeJobRunner
    registry: FakeRegistry
    deployer: FakeDeployer
    source: FakeSourceHost
    database: Database
    smoke: SmokeTester
    random: Random = field(default_factory=lambda: Random(0))

    def run(self, run_id: RunId) -> Run:
        """Load a run."""
        return self.app.world.runs.load(run_id).value

    def state(self, run_id: RunId) -> str:
        """Load a run's state."""
        return str(self.run(run_id).state)

    def push(self, number: int = 1, **options: object) -> RunId:
        """Push a commit and return its run."""
        return self.app.intake.push(push(number, **options))[0]  # type: ignore[arg-type] - passed on as they are

    def drain(self) -> None:
        """Deliver the queue's messages, again where an effect asks for it, until none is left."""
        tries: dict[str, int] = {}
        while self.queue.messages:
            message = self.queue.messages.pop(self.random.randrange(len(self.queue.messages)))
            tries[message] = tries.get(message, 0) + 1
            data = json.loads(message)
            try:
                self.app.controller.perform(RunId(data["run_id"]), EffectKey(data["key"]), tries=tries[message])
            except TemporaryError:
                self.queue.messages.append(message)

    def end_job(self, run_id: RunId, stage: str, outcome: str = "succeeded", reason: str = "") -> None:
        """End a job, and tell of it as Azure ML would."""
        name = JobName(f"{run_id}-{stage}")
        self.jobs.end(name, outcome, reason)  # type: ignore[arg-type] - a literal in the tests
        self.app.intake.job_told(name, outcome)  # type: ignore[arg-type] - the same
        self.drain()

    def deliver(self, run_id: RunId, *, rmse: float = 50.0) -> None:
        """Bring a started run through build and training, and let everything follow."""
        self.drain()
        self.end_job(run_id, "build")
        self.registry.register("diabetes", f"{run_id}-train", rmse=rmse)
        self.end_job(run_id, "train")
        self.settle()

    def settle(self, rounds: int = 3) -> None:
        """Reconcile as the timer would, until everything has followed."""
        for _ in range(rounds):
            self.clock.advance(61)
            self.app.reconciler.runs()
            self.drain()


def make_bench(
    folder: Path,
    *,
    manifest: bytes = MANIFEST,
    wrap: Callable[[World], World] | None = None,
    seed: int = 0,
    smoke: SmokeTester | None = None,
) -> Bench:
    """Build an application over a real SQLite file and fakes for the world outside."""
    clock, queue, bus, jobs = FakeClock(), FakeQueue(), FakeBus(), FakeJobRunner()
    registry, deployer = FakeRegistry(), FakeDeployer()
    source = FakeSourceHost(default_files={"mlops.yaml": manifest, "sample.json": b"{}"})
    database = Database(folder / "headrace.db")
    OPEN.append(database)
    world = World(
        runs=SqliteRunStore(database),
        models=SqliteModelStore(database),
        projects=SqliteProjectStore(database),
        dead_letters=SqliteDeadLetters(database),
        queue=queue,
        bus=bus,
        jobs=jobs,
        registry=registry,
        deployer=deployer,
        sources=dict.fromkeys(("local", "gitlab", "gitea"), source),
        clock=clock,
    )
    if STORES:
        world = STORES[0](world)
    if wrap is not None:
        world = wrap(world)
    world.projects.put(PROJECT)
    smoke = smoke or AlwaysPasses()  # type: ignore[assignment] - structural stand-in
    app = assemble(world, verifiers={}, smoke=smoke)
    return Bench(app, clock, queue, bus, jobs, registry, deployer, source, database, smoke, Random(seed))
