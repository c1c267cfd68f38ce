"""The contract of `Deployer`; another adapter joins by overriding `deployer` and `request_of`."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from builders import PROJECT

sys.path.insert(0, str(Path(__file__).parents[1] / "azure"))

from container_bench import ContainerBench, container_bench, stand_in_command

from mlops_core.adapters.local.deployer import ProcessDeployer
from mlops_core.adapters.local.deployment_folders import DeploymentFolders, DeploymentState
from mlops_core.adapters.local.deployment_watcher import DeploymentWatcher, Patience
from mlops_core.adapters.local.model_files import ModelFiles
from mlops_core.adapters.local.scoring_launch import Launch, ScoringLaunch, environment_of_model
from mlops_core.adapters.mlflow_api import MlflowApi
from mlops_core.domain.errors import PermanentError, TemporaryError
from mlops_core.domain.ids import DeploymentName, ModelName, ModelVersion, deployment_of_version
from mlops_core.domain.project import Serve
from mlops_core.ports import Deployer, DeploymentRequest, DeploymentStatus

pytestmark = pytest.mark.slow

IMPATIENT = Patience(look=0.05, first_pause=0.05, health_every=0.1, missed_checks=2, drain=10.0, start=60.0)
# Answers as the scoring app does. `/slow` takes as long as a test says; SIGTERM lets it finish.
STAND_IN = """
import http.server, json, os, signal, sys, threading, time
port_file = sys.argv[sys.argv.index("--port-file") + 1]
print("model 1 of 2 is loaded\\nmodel 2 of 2 is loaded", flush=True)
if "--die" in sys.argv:
    print("ValueError: the model is broken", flush=True); sys.exit(3)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            open("slow", "w").close()
            while os.path.exists("slow"): time.sleep(0.01)
        body = json.dumps({"pid": os.getpid(), "environment": dict(os.environ)}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
server = Server(("127.0.0.1", 0), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
open(port_file + ".new", "w").write(str(server.server_port)); os.rename(port_file + ".new", port_file)
server.serve_forever(0.02); server.server_close()
"""


def until(read: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not wanted(found := read()):
        assert time.monotonic() < deadline, f"still {found}"
        time.sleep(0.02)
    return found


def request_for(number: int) -> DeploymentRequest:
    model, version = ModelName("diabetes"), ModelVersion(str(number))
    serve = Serve(environment="current")
    return DeploymentRequest(deployment_of_version(model, version), model, version, PROJECT, None, serve)


class DeployerContract:
    """What every deployer must do."""

    @pytest.fixture
    def deployer(self) -> Deployer:
        raise NotImplementedError

    @pytest.fixture
    def client(self) -> Iterator[httpx.Client]:
        """Reaches the deployments' addresses."""
        with httpx.Client(timeout=30) as made:
            yield made

    def ready(self, deployer: Deployer, name: DeploymentName) -> DeploymentStatus:
        return until(lambda: deployer.status(name), lambda status: status.state in {"ready", "failed"})

    def test_a_deployment_becomes_ready_and_answers_at_its_address(
        self, deployer: Deployer, client: httpx.Client
    ) -> None:
        request = request_for(1)
        deployer.create(request)
        status = self.ready(deployer, request.name)
        assert status.state == "ready", status
        assert deployer.address(request.name) == status.address
        assert client.get(f"{status.address}/health/ready").status_code == 200

    def test_what_was_never_asked_for_is_absent(self, deployer: Deployer) -> None:
        assert deployer.status(DeploymentName("never-v1")).state == "absent"
        assert deployer.address(DeploymentName("never-v1")) is None
        assert deployer.log_tail(DeploymentName("never-v1")) == ""
        deployer.delete(DeploymentName("never-v1"))

    def test_the_last_lines_that_a_deployment_printed_are_told(self, deployer: Deployer) -> None:
        request = request_for(1)
        deployer.create(request)
        self.ready(deployer, request.name)
        until(lambda: deployer.log_tail(request.name), lambda text: "model 2 of 2 is loaded" in text)
        assert deployer.log_tail(request.name, lines=1).strip() == "model 2 of 2 is loaded"

    def test_the_same_name_again_finds_the_first(self, deployer: Deployer) -> None:
        request = request_for(1)
        deployer.create(request)
        first = self.ready(deployer, request.name)
        deployer.create(request)
        assert deployer.status(request.name) == first
        assert [status.name for status in deployer.list()] == [request.name]

    def test_a_deleted_deployment_is_absent_and_its_name_can_be_used_again(
        self, deployer: Deployer, client: httpx.Client
    ) -> None:
        request = request_for(1)
        deployer.create(request)
        before = client.get(f"{self.ready(deployer, request.name).address}/facts").json()["pid"]
        deployer.delete(request.name)
        deployer.delete(request.name)
        assert (deployer.status(request.name).state, deployer.address(request.name)) == ("absent", None)
        deployer.create(request)
        after = self.ready(deployer, request.name)
        assert after.state == "ready"
        assert client.get(f"{after.address}/facts").json()["pid"] != before


class Bench:
    """A deployer with its watcher in a thread, which can be killed and begun anew."""

    def __init__(self, root: Path, prepare: Callable[[DeploymentRequest, Path], Launch]) -> None:
        self.folders = DeploymentFolders(root)
        self.told: list[DeploymentStatus] = []
        self.prepare = prepare
        self.begin()

    def begin(self) -> None:
        self.watcher = DeploymentWatcher(
            self.folders, prepare=self.prepare, on_change=self.told.append, patience=IMPATIENT
        )
        self.deployer = ProcessDeployer(self.folders, wake=self.watcher.wake)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.watcher.watch, args=[self.stop])
        self.thread.start()

    def pause(self) -> None:
        self.stop.set()
        self.watcher.wake()
        self.thread.join()

    def end(self) -> None:
        for name in self.folders.names():
            self.deployer.delete(name)
        until(self.folders.ending, lambda left: not left)
        self.pause()

    def created(self) -> tuple[DeploymentName, dict[str, Any]]:
        request = request_for(1)
        self.deployer.create(request)
        return request.name, self.facts(request.name)

    def facts(self, name: DeploymentName) -> dict[str, Any]:
        status = until(lambda: self.deployer.status(name), lambda found: found.state in {"ready", "failed"})
        assert status.state == "ready", status
        found: dict[str, Any] = httpx.get(f"{status.address}/facts").json()
        return found


def stand_in(*options: str) -> Callable[[DeploymentRequest, Path], Launch]:
    return lambda request, folder: Launch((sys.executable, "-c", STAND_IN, *options), {"LANG": "C.UTF-8"})


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "deployments", stand_in())
    yield made
    made.end()


class TestProcessDeployer(DeployerContract):
    @pytest.fixture
    def deployer(self, bench: Bench) -> Deployer:
        return bench.deployer

    def test_readiness_is_told_once(self, bench: Bench) -> None:
        name, _ = bench.created()
        assert [(status.name, status.state) for status in bench.told] == [(name, "ready")]

    def test_the_process_sees_only_what_is_passed_on(self, bench: Bench) -> None:
        _, facts = bench.created()
        assert set(facts["environment"]) - {"LC_CTYPE"} == {"LANG"}

    def test_a_process_that_dies_is_started_again(self, bench: Bench) -> None:
        name, facts = bench.created()
        os.kill(facts["pid"], signal.SIGKILL)
        until(lambda: [status.state for status in bench.told], lambda told: told == ["ready", "starting", "ready"])
        assert bench.facts(name)["pid"] != facts["pid"]

    def test_a_process_that_hangs_is_started_again(self, bench: Bench) -> None:
        name, facts = bench.created()
        os.kill(facts["pid"], signal.SIGSTOP)
        until(lambda: [status.state for status in bench.told], lambda told: told == ["ready", "starting", "ready"])
        assert bench.facts(name)["pid"] != facts["pid"]

    def test_a_process_outlives_its_watcher_and_is_taken_over_by_the_next(self, bench: Bench) -> None:
        name, facts = bench.created()
        bench.pause()
        assert bench.facts(name)["pid"] == facts["pid"]
        bench.begin()
        assert bench.facts(name)["pid"] == facts["pid"]
        os.kill(facts["pid"], signal.SIGKILL)
        until(lambda: [status.state for status in bench.told], lambda told: told == ["ready", "starting", "ready"])

    def test_a_process_that_was_started_but_not_recorded_is_found(self, bench: Bench) -> None:
        name, facts = bench.created()
        bench.pause()
        path = bench.folders.folder(name) / "state.json"
        unrecorded = {**json.loads(path.read_text()), "phase": "starting", "pid": None, "started": "", "port": None}
        path.write_text(json.dumps(unrecorded))
        bench.begin()
        assert bench.facts(name)["pid"] == facts["pid"]

    def test_a_deleted_process_finishes_what_is_in_flight(self, bench: Bench) -> None:
        name, facts = bench.created()
        work = bench.folders.folder(name) / "work"
        answers: list[int] = []
        address = bench.deployer.address(name)
        client = threading.Thread(
            target=lambda: answers.append(httpx.get(f"{address}/slow", timeout=30).status_code), daemon=True
        )
        client.start()
        until((work / "slow").exists, bool)
        bench.deployer.delete(name)
        (gone,) = bench.folders.ending()
        assert Path(f"/proc/{facts['pid']}").exists() or sys.platform != "linux"
        (gone / "work" / "slow").unlink()
        client.join()
        assert answers == [200]
        until(bench.folders.ending, lambda left: not left)


class TestContainerDeployer(DeployerContract):
    @pytest.fixture
    def groups(self, tmp_path: Path) -> Iterator[ContainerBench]:
        with container_bench(tmp_path, stand_in_command(STAND_IN)) as made:
            yield made

    @pytest.fixture
    def deployer(self, groups: ContainerBench) -> Deployer:
        return groups.deployer()

    @pytest.fixture
    def client(self, groups: ContainerBench) -> httpx.Client:
        return groups.containers.http


def test_a_deployment_whose_process_dies_again_and_again_fails_with_its_last_words(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "deployments", stand_in("--die"))
    request = request_for(1)
    bench.deployer.create(request)
    status = until(lambda: bench.deployer.status(request.name), lambda found: found.state == "failed")
    assert "3. time in a row" in status.reason
    assert "ValueError: the model is broken" in status.log_tail
    until(lambda: bench.told, lambda told: [found.state for found in told] == ["failed"])
    bench.end()


def test_a_deployment_that_cannot_be_prepared_fails_with_the_reason(tmp_path: Path) -> None:
    def refuse(request: DeploymentRequest, folder: Path) -> Launch:
        raise PermanentError("Python 2.7 is not installed. Install it.")

    bench = Bench(tmp_path / "deployments", refuse)
    request = request_for(1)
    bench.deployer.create(request)
    status = until(lambda: bench.deployer.status(request.name), lambda found: found.state == "failed")
    assert "Python 2.7 is not installed" in status.reason
    bench.end()


def test_a_preparation_that_fails_for_a_while_is_repeated(tmp_path: Path) -> None:
    """More often than a process may die: a registry that is being started is away for longer than that takes."""
    tries: list[int] = []
    told: list[str] = []

    def hesitate(request: DeploymentRequest, folder: Path) -> Launch:
        tries.append(1)
        if len(tries) <= 2 * IMPATIENT.deaths:
            told.append(bench.deployer.status(request.name).reason)
            raise TemporaryError("The registry is away.")
        return stand_in()(request, folder)

    bench = Bench(tmp_path / "deployments", hesitate)
    bench.created()
    assert len(tries) == 2 * IMPATIENT.deaths + 1
    assert told[-1] == "Preparing it did not work: The registry is away."
    assert [status.state for status in bench.told] == ["ready"]
    bench.end()


def test_a_preparation_that_never_works_fails_in_the_end(tmp_path: Path) -> None:
    def refuse(request: DeploymentRequest, folder: Path) -> Launch:
        raise TemporaryError("The registry is away.")

    clock = itertools.count(1_000_000, 50)
    folders = DeploymentFolders(tmp_path / "deployments")
    watcher = DeploymentWatcher(folders, prepare=refuse, patience=IMPATIENT, now=lambda: float(next(clock)))
    request = request_for(1)
    folders.create(request)
    folder = folders.folder(request.name)

    def looked() -> DeploymentState | None:
        watcher.look()
        return folders.state(folder)

    state = until(looked, lambda found: found.phase == "failed")
    assert "The registry is away. It was tried for" in state.reason


def test_an_interpreter_that_is_gone_is_made_again(tmp_path: Path) -> None:
    tries: list[int] = []

    def lose_the_first(request: DeploymentRequest, folder: Path) -> Launch:
        tries.append(1)
        return Launch(("/nowhere/python",), {}) if len(tries) == 1 else stand_in()(request, folder)

    bench = Bench(tmp_path / "deployments", lose_the_first)
    bench.created()
    bench.end()


WATCH_A_WHILE = """
import json, sys, threading
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[2])
from test_deployer import DeploymentFolders, DeploymentWatcher, IMPATIENT, stand_in
DeploymentWatcher(DeploymentFolders(Path(sys.argv[1])), prepare=stand_in(), patience=IMPATIENT).watch(threading.Event())
"""


def test_watchers_killed_at_any_point_leave_one_process_per_deployment(tmp_path: Path) -> None:
    root = tmp_path / "deployments"
    folders = DeploymentFolders(root)
    here = Path(__file__).parent
    paths = json.dumps([str(here), str(here.parent), str(here.parents[1])])
    for number in range(6):
        folders.create(request_for(number))
        watcher = subprocess.Popen([sys.executable, "-c", WATCH_A_WHILE, str(root), paths])
        state = folders.folder(request_for(number).name) / "state.json"
        # The later the round, the further along the deployment is when its watcher is killed.
        words = ['"preparing"', '"starting"', "port-", '"pid": 1', '"pid"', '"ready"'][number]
        until(lambda state=state, words=words: words in state.read_text() or '"ready"' in state.read_text(), bool)
        watcher.kill()
        watcher.wait()
    bench = Bench(root, stand_in())
    facts = [bench.facts(name)["pid"] for name in folders.names()]
    running = [
        process.pid for process in psutil.process_iter() if any(str(root) in part for part in _arguments(process))
    ]
    assert sorted(facts) == sorted(running)
    bench.end()


def _arguments(process: psutil.Process) -> list[str]:
    try:
        found: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return found


@pytest.fixture
def launch(tmp_path: Path, mlflow_api: MlflowApi, registered: dict[str, str]) -> ScoringLaunch:
    def never(*args: object) -> Any:
        raise AssertionError(args)

    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "HEADRACE_WEBHOOK_SECRETS": "secret"}
    files = ModelFiles(tmp_path / "models", mlflow_api)
    return ScoringLaunch(tmp_path, files, environment, never, never, never)


def test_a_real_model_answers_predictions(tmp_path: Path, launch: ScoringLaunch) -> None:
    bench = Bench(tmp_path / "deployments", launch.prepare)
    try:
        request = request_for(1)
        bench.deployer.create(request)
        status = until(lambda: bench.deployer.status(request.name), lambda found: found.state in {"ready", "failed"})
        assert status.state == "ready", status
        rows = {"input_data": {"columns": ["age", "bmi"], "index": [0], "data": [[2.0, 1.0]]}}
        answer = httpx.post(f"{status.address}/score", json=rows)
        assert answer.status_code == 200, answer.text
        assert "2.0" in answer.text or "1.99999" in answer.text or "2.00000" in answer.text
    finally:
        bench.end()


def test_a_scoring_process_gets_no_secret_and_only_the_scoring_app(tmp_path: Path, launch: ScoringLaunch) -> None:
    prepared = launch.prepare(request_for(1), tmp_path)
    assert "HEADRACE_WEBHOOK_SECRETS" not in prepared.environment
    staged = Path(prepared.environment["PYTHONPATH"])
    assert [path.name for path in staged.iterdir()] == ["mlops_core"]
    assert sorted(path.name for path in (staged / "mlops_core").iterdir()) == ["__init__.py", "serving"]


def test_the_environment_of_a_model_is_what_mlflow_noted_with_any_patch_of_its_python(
    launch: ScoringLaunch,
) -> None:
    model = launch.files.artifact_path(ModelName("diabetes"), ModelVersion("1"))
    spec = environment_of_model(model, "model diabetes:1")
    assert spec is not None
    assert spec.python_version == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert "scikit-learn" in str(spec.conda)
