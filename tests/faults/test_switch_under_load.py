"""
Test 15: bad models never serve, and a hundred switches under load are noticed by no client.

Real scoring processes behind the function app's own stable address; only the registry and the jobs are stand-ins.
"""

from __future__ import annotations

import asyncio
import runpy
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
import uvicorn
from builders import SMOKED, Bench, make_bench

from mlops_core import bootstrap
from mlops_core.adapters.local.deployer import ProcessDeployer
from mlops_core.adapters.local.deployment_folders import DeploymentFolders
from mlops_core.adapters.local.deployment_watcher import DeploymentWatcher, Patience
from mlops_core.adapters.local.host.functions import Invoker, read_functions
from mlops_core.adapters.local.host.web import FunctionsWeb
from mlops_core.adapters.local.scoring_launch import Launch
from mlops_core.application import assemble
from mlops_core.domain.ids import ModelName, ModelVersion, RunId
from mlops_core.domain.run import State
from mlops_core.ports import DeploymentRequest, DeploymentStatus
from mlops_core.services import routing
from mlops_core.services.smoke import SmokeTester
from mlops_core.world import World

MODEL = ModelName("diabetes")
PER_SECOND = 50
GOOD = "def init(): pass\ndef run(raw_data): return {'version': VERSION}\n"
BAD = {
    "crashes": "raise RuntimeError('the model is broken')\n",
    "ends itself": "import os\ndef init(): os._exit(3)\ndef run(raw_data): return 1\n",
    "never loads": "import time\ndef init(): time.sleep(600)\ndef run(raw_data): return 1\n",
    "wants other columns": "def init(): pass\ndef run(raw_data): raise ValueError('expected 12 columns, got 10')\n",
}
# As patient as the defaults where it concerns clients, impatient where it concerns models.
PATIENCE = Patience(look=0.05, start=4.0, deaths=2, first_pause=0.05, health_every=0.5)


@dataclass
class Load:
    """A steady load on the stable address."""

    address: str
    statuses: Counter[int] = field(default_factory=Counter)
    versions: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        asyncio.run(self._run(stop))

    async def _run(self, stop: threading.Event) -> None:
        pending: set[asyncio.Task[None]] = set()
        # A connection that the server may be closing at the moment is not used again.
        limits = httpx.Limits(keepalive_expiry=2)
        async with httpx.AsyncClient(base_url=self.address, timeout=30, trust_env=False, limits=limits) as client:
            due = time.monotonic()
            while not stop.is_set():
                task = asyncio.create_task(self._ask(client))
                pending.add(task)
                task.add_done_callback(pending.discard)
                due += 1 / PER_SECOND
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await asyncio.gather(*pending)

    async def _ask(self, client: httpx.AsyncClient) -> None:
        try:
            answer = await client.post(f"/api/models/{MODEL}/score", json={"data": [[1.0]]})
        except httpx.HTTPError as error:
            self.errors.append(repr(error))
            return
        self.statuses[answer.status_code] += 1
        if answer.is_success:
            self.versions.append(str(answer.json()["version"]))
        else:
            self.errors.append(f"{answer.status_code}: {answer.text[:200]}")


class Releases:
    """An application whose deployments are processes, driven release by release."""

    def __init__(self, folder: Path, deployer: type[ProcessDeployer] = ProcessDeployer) -> None:
        self._deployer = deployer
        self._scripts: dict[str, str] = {}
        self._folder = folder
        self.folders = DeploymentFolders(folder / "deployments")
        self.watcher = DeploymentWatcher(self.folders, prepare=self._prepare, on_change=self._tell, patience=PATIENCE)
        self.bench: Bench = make_bench(folder, manifest=SMOKED, wrap=self._with_processes)
        self.app = assemble(self.bench.app.world, verifiers={}, smoke=SmokeTester())
        self.bench = replace(self.bench, app=self.app)
        self.number = 0

    def _with_processes(self, world: World) -> World:
        return replace(world, deployer=self._deployer(self.folders, wake=self.watcher.wake))

    def _prepare(self, request: DeploymentRequest, folder: Path) -> Launch:
        """Launch the genuine scoring app, without a model of its own: the script is the model."""
        script = folder / "score.py"
        source = self._scripts.get(request.version, GOOD)
        script.write_text(source.replace("VERSION", repr(str(request.version))))
        model = folder / "model"
        model.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "mlops_core.serving", "--model", str(model), "--code", str(script)]
        command += ["--name", request.model, "--version", request.version, "--port", "0", "--linger-seconds", "0"]
        return Launch(tuple(command), {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])})

    def _tell(self, status: DeploymentStatus) -> None:
        version = status.name.rpartition("-v")[2]
        self.app.intake.deployment_told(MODEL, ModelVersion(version))

    def release(self, script: str = GOOD) -> RunId:
        """Push, build, train and release one version; wait for the run to be live or at its end."""
        self.number += 1
        self._scripts[str(self.number)] = script
        bench = self.bench
        run_id = bench.push(self.number)
        bench.drain()
        bench.end_job(run_id, "build")
        bench.registry.register(MODEL, f"{run_id}-train", rmse=50.0)
        bench.jobs.end(f"{run_id}-train", "succeeded")  # type: ignore[arg-type] - a name made here
        bench.app.intake.job_told(f"{run_id}-train", "succeeded")  # type: ignore[arg-type] - the same
        deadline = time.monotonic() + 60
        while bench.state(run_id) not in (State.LIVE, State.FAILED):
            assert time.monotonic() < deadline, bench.run(run_id)
            self.deliver()
            time.sleep(0.02)
        self.deliver()
        return run_id

    def deliver(self) -> None:
        """Deliver each message once, as the queue does."""
        for _ in range(len(self.bench.queue.messages)):
            waiting = list(self.bench.queue.messages)
            self.bench.queue.messages.clear()
            for message in waiting:
                self.bench.queue.messages.append(message)
                self.bench.drain()

    def end(self) -> None:
        for name in self.folders.names():
            self.app.world.deployer.delete(name)
        deadline = time.monotonic() + 40
        while self.folders.ending() and time.monotonic() < deadline:
            time.sleep(0.05)


class ReplacesInPlace(ProcessDeployer):
    """A broken design: the old process ends before the new one answers, as a container group that is PUT again."""

    def create(self, request: DeploymentRequest) -> None:
        for name in self._folders.names():
            if name != request.name:
                self.delete(name)
        super().create(request)


class NoTopics:
    """The stable address publishes nothing."""

    def accept(self, topic: str, events: object) -> None:
        raise AssertionError


@contextmanager
def served(releases: Releases) -> Iterator[str]:
    """Serve the function app itself on loopback, over the releases' application."""
    # An app object can be read once, so each test has one of its own.
    functions = read_functions(runpy.run_path(str(Path(__file__).parents[2] / "function_app.py"))["app"])
    bootstrap.use(releases.app)
    web = FunctionsWeb(functions, Invoker(), NoTopics())  # type: ignore[arg-type] - structural
    server = uvicorn.Server(uvicorn.Config(web.app(), host="127.0.0.1", port=0, log_level="error"))

    async def serve() -> None:
        await server.serve()
        await releases.app.router.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        bootstrap.use(None)


@contextmanager
def under_load(folder: Path, deployer: type[ProcessDeployer]) -> Iterator[tuple[Releases, Load]]:
    """A live first version, and a steady load on it."""
    releases = Releases(folder, deployer)
    stop_watching, stop_asking = threading.Event(), threading.Event()
    watching = threading.Thread(target=releases.watcher.watch, args=[stop_watching])
    watching.start()
    try:
        releases.release()
        with served(releases) as address:
            load = Load(address)
            asking = threading.Thread(target=load.run, args=[stop_asking])
            asking.start()
            try:
                yield releases, load
            finally:
                stop_asking.set()
                asking.join()
    finally:
        releases.end()
        stop_watching.set()
        releases.watcher.wake()
        watching.join()


def switch(
    folder: Path, good: str = GOOD, *, switches: int, bad: int, deployer: type[ProcessDeployer] = ProcessDeployer
) -> tuple[Load, list[str]]:
    """Release good and bad versions in turn. Returns the load and the versions that may have answered."""
    allowed = ["1"]
    with under_load(folder, deployer) as (releases, load):
        kinds = list(BAD.values())
        done = 0
        for number in range(1, switches + 1):
            run_id = releases.release(good)
            assert releases.bench.state(run_id) == State.LIVE
            allowed.append(str(releases.number))
            while done < bad * number // switches:
                run_id = releases.release(kinds[done % len(kinds)])
                assert releases.bench.state(run_id) == State.FAILED
                done += 1
    return load, allowed


def check(load: Load, allowed: list[str]) -> None:
    assert load.errors == []
    assert set(load.statuses) == {200}
    assert set(load.versions) <= set(allowed)
    assert load.versions[-1] == allowed[-1]
    seen = list(dict.fromkeys(load.versions))
    assert seen == [version for version in allowed if version in seen], "never back to an older version"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_switches_under_load_are_noticed_by_nobody(tmp_path: Path) -> None:
    load, allowed = switch(tmp_path, switches=5, bad=3)
    check(load, allowed)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("deployer", [ProcessDeployer, ReplacesInPlace])
def test_a_deployer_that_replaces_in_place_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deployer: type[ProcessDeployer]
) -> None:
    monkeypatch.setattr(routing, "_PATIENCE_SECONDS", 1.0)
    load, _ = switch(tmp_path, f"import time\ntime.sleep(2)\n{GOOD}", switches=1, bad=0, deployer=deployer)
    assert bool(load.errors) == (deployer is ReplacesInPlace)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_router_that_never_asks_again_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "_PATIENCE_SECONDS", -1.0)
    monkeypatch.setattr(routing, "_LEAST_TRIES", 1)
    monkeypatch.setattr(routing, "_MOST_MOVES", 0)
    load, _ = switch(tmp_path, switches=4, bad=0)
    assert load.errors != []


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_a_hundred_switches_and_fifty_bad_models(tmp_path: Path) -> None:
    load, allowed = switch(tmp_path, switches=100, bad=50)
    check(load, allowed)
    assert sum(load.statuses.values()) > 100 * PER_SECOND
