"""
The same stories on both backends: what happens to a push, and how a person steers it.

The laptop is a `headrace up` of its own; Azure is the function app over the genuine SDKs, with doubles that run what
arrives. Both last for all stories of this file; each story has a project and a model of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from laptop import Laptop

sys.path.insert(0, str(Path(__file__).parents[1] / "azure"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]

MANIFEST = """
project: NAME
build: {environment: current, test: python check.py}
train: {pipeline: pipeline.yml, model: NAME}
release:
  gates: [{metric: rmse, max: 1}]
  serve: {environment: current}
  stages: [{name: production, smoke: {request: sample.json, requests: 2}}]
local: {environments: {python: current}}
"""
PIPELINE = """
$schema: https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json
type: pipeline
experiment_name: NAME
jobs:
  prepare:
    type: command
    code: ./src
    command: python prepare.py ${{outputs.table}}
    environment: {image: python}
    outputs: {table: {type: uri_file}}
  train:
    type: command
    code: ./src
    command: python train.py ${{inputs.table}}
    environment: {image: python}
    inputs: {table: "${{parent.jobs.prepare.outputs.table}}"}
"""
PREPARE = """
import sys
open(sys.argv[1], "w").write("x,y\\n0,1\\n1,3\\n2,5\\n")
"""
TRAIN = """
import sys
import mlflow
import mlflow.sklearn
import pandas as pd
from sklearn.linear_model import LinearRegression

table = pd.read_csv(sys.argv[1]).astype(float)
model = LinearRegression().fit(table[["x"]], table["y"])
mlflow.log_metric("rmse", RMSE)
signature = mlflow.models.infer_signature(table[["x"]], model.predict(table[["x"]]))
mlflow.sklearn.save_model(
    model, "model", signature=signature, serialization_format="cloudpickle", pip_requirements=["mlflow", "scikit-learn"]
)
mlflow.log_artifacts("model", artifact_path="model")
mlflow.register_model(f"runs:/{mlflow.active_run().info.run_id}/model", "NAME")
"""
SAMPLE = {"input_data": {"columns": ["x"], "data": [[3.0]]}}
ENDS = {"failed", "rejected", "expired", "cancelled", "superseded", "skipped", "retired", "rolled_back", "built"}


class Backend(Protocol):
    """
    One controller.

    Attributes:
        client: Of the function app, whose paths begin with `/api`.
    """

    client: httpx.Client

    def add(self, project: str, files: dict[str, str]) -> None:
        """Allow a repository with these files."""
        ...

    def push(self, project: str, files: dict[str, str]) -> str:
        """Change these files, and push. Returns the run's id."""
        ...


class OnLaptop:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.laptop = Laptop(folder)
        self.pushes: list[subprocess.Popen[bytes]] = []
        self.client = httpx.Client(timeout=60)
        self.started = False

    def add(self, project: str, files: dict[str, str]) -> None:
        self.laptop.project = self.folder / project
        _write(self.laptop.project, files)
        self.laptop.git("init", "--quiet", "--initial-branch=main")
        added = self.laptop.run("add", str(self.laptop.project))
        assert added.returncode == 0, added.stderr
        if not self.started:
            self.started = True
            self.laptop.up()
            self.client.base_url = json.loads((self.laptop.data / "up.json").read_text())["address"]

    def push(self, project: str, files: dict[str, str]) -> str:
        self.laptop.project = self.folder / project
        _write(self.laptop.project, files)
        self.laptop.git("add", "--all")
        self.laptop.git("commit", "--quiet", "--message", "A change")
        run_id = f"{project}-{self.laptop.git('rev-parse', 'HEAD').strip()[:12]}"
        # A push shows its run until it ends; the story goes on meanwhile.
        command = ["git", "push", "--quiet", "headrace", "main"]
        self.pushes.append(subprocess.Popen(command, cwd=self.laptop.project, stderr=subprocess.DEVNULL))
        return run_id

    def close(self) -> None:
        for push in self.pushes:
            push.terminate()
            push.wait()
        self.client.close()
        self.laptop.down()


class OnAzure:
    def __init__(self, cloud: Any, folder: Path) -> None:
        self._cloud = cloud
        self._folder = folder
        self._repositories: dict[str, Any] = {}
        self.client = cloud.client

    def add(self, project: str, files: dict[str, str]) -> None:
        self._repositories[project] = self._cloud.add(project, self._folder / project, self._for_containers(files))

    def push(self, project: str, files: dict[str, str]) -> str:
        repository = self._repositories[project]
        _write(repository.work, self._for_containers(files))
        return str(self._cloud.push("A change", repository))

    @staticmethod
    def _for_containers(files: dict[str, str]) -> dict[str, str]:
        """No container has the interpreter at hand; there the model's own list of packages makes an image."""
        return {name: text.replace("  serve: {environment: current}\n", "") for name, text in files.items()}


def _write(folder: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@contextmanager
def on_laptop(folder: Path) -> Iterator[Backend]:
    laptop = OnLaptop(folder)
    try:
        yield laptop
    finally:
        laptop.close()


@contextmanager
def on_azure(folder: Path) -> Iterator[Backend]:
    from whole_cloud import own_cloud

    with own_cloud(folder, files={"README.md": "No story is about this one."}) as cloud:
        yield OnAzure(cloud, folder)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(on_laptop, id="local", marks=pytest.mark.xdist_group("scenarios-local")),
        pytest.param(on_azure, id="azure", marks=pytest.mark.xdist_group("scenarios-azure")),
    ],
)
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with request.param(tmp_path_factory.mktemp("scenarios")) as made:
        yield made


class Story:
    """A project of one's own on a backend."""

    def __init__(self, backend: Backend, name: str, *, release: str = "") -> None:
        self.backend = backend
        self.name = name
        files = {
            "mlops.yaml": MANIFEST.replace("release:\n", f"release:\n{release}"),
            "pipeline.yml": PIPELINE,
            "sample.json": json.dumps(SAMPLE),
            "check.py": "print('fine')",
            "src/prepare.py": PREPARE,
            "src/train.py": TRAIN.replace("RMSE", "0.5"),
        }
        self.files = {path: text.replace("NAME", name) for path, text in files.items()}
        backend.add(name, self.files)

    def push(self, **changes: str) -> str:
        """Push with another `check`, `prepare` or `train`, each the whole program."""
        places = {"check": "check.py", "prepare": "src/prepare.py", "train": "src/train.py"}
        changed = {places[key]: text.replace("NAME", self.name) for key, text in changes.items()}
        run_id = self.backend.push(self.name, {**self.files, **changed, "note.txt": str(time.monotonic_ns())})
        deadline = time.monotonic() + 120
        while not self.backend.client.get(f"/api/runs/{run_id}").is_success:
            assert time.monotonic() < deadline, f"the push of {run_id} did not arrive"
            time.sleep(0.1)
        return run_id

    def trained(self, rmse: float) -> str:
        return self.push(train=TRAIN.replace("RMSE", str(rmse)))

    def wait(self, run_id: str, *states: str, seconds: float = 300) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        view: dict[str, Any] = {"state": "not there"}
        while time.monotonic() < deadline:
            answer = self.backend.client.get(f"/api/runs/{run_id}")
            view = answer.json() if answer.is_success else {"state": f"{answer.status_code}"}
            if view["state"] in states:
                return view
            if view["state"] in ENDS - set(states):
                break
            time.sleep(0.3)
        raise AssertionError(f"not {states}: {json.dumps(view, indent=1)[:5000]}")

    def post(self, path: str, **body: str) -> httpx.Response:
        return self.backend.client.post(f"/api/{path}", json={"by": "ada", **body})

    def steer(self, path: str, **body: str) -> dict[str, Any]:
        answer = self.post(path, **body)
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def predicted(self) -> tuple[float, str]:
        answer = self.post_sample(SAMPLE)
        assert answer.status_code == 200, answer.text
        return answer.json()[0], answer.headers["x-headrace-model-version"]

    def post_sample(self, body: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        return self.backend.client.post(f"/api/models/{self.name}/score", content=content, headers=headers)


def test_a_release_a_worse_model_a_waiver_the_way_back_and_failing_tests(backend: Backend) -> None:
    story = Story(backend, "tiny")
    first = story.trained(0.5)
    assert story.wait(first, "live")["gates"][0]["verdicts"][0]["outcome"] == "passed"
    assert story.predicted() == (pytest.approx(7.0), "1")

    wrong = story.post_sample({"input_data": {"columns": ["z"], "data": [[3.0]]}})
    assert (wrong.status_code, "'x'" in wrong.text or '"x"' in wrong.text) == (422, True), wrong.text
    assert story.post_sample(b"{").status_code == 400
    unknown = backend.client.post("/api/models/nobody/score", json=SAMPLE)
    assert (unknown.status_code, "nobody" in unknown.text) == (404, True)

    worse = story.trained(2.0)
    rejected = story.wait(worse, "rejected")
    assert "rmse" in rejected["reason"]
    assert rejected["gates"][0]["verdicts"][0]["outcome"] == "failed"
    assert story.predicted()[1] == "1", "the champion is untouched"

    assert "needs a reason" in story.post(f"runs/{worse}/decisions/waive").text
    story.steer(f"runs/{worse}/decisions/waive", reason="we need it")
    story.wait(worse, "live")
    assert story.predicted()[1] == "2"

    back = story.steer(f"models/{story.name}/rollback", reason="it was worse after all")
    story.wait(str(back["run_id"]), "live")
    assert story.predicted()[1] == "1"
    story.wait(worse, "retired", "rolled_back")

    failed = story.wait(story.push(check="raise SystemExit('seven times six is not 54')"), "failed")
    assert "fail" in failed["reason"]
    assert "seven times six is not 54" in failed["log_tail"]
    assert story.predicted()[1] == "1"
    assert backend.client.get(f"/api/models/{story.name}").json()["champion"]["version"] == "1"


def test_a_person_rejects_one_version_approves_the_next_and_answers_too_late_for_another(backend: Backend) -> None:
    late = Story(backend, "late", release="  approval: manual\n  approval_expires: 2s\n")
    expiring = late.trained(0.5)
    story = Story(backend, "judged", release="  approval: manual\n")

    first = story.trained(0.5)
    early = story.post(f"runs/{first}/decisions/approve")
    assert (early.status_code, "awaiting_approval" in early.text) == (409, True), early.text
    story.wait(first, "awaiting_approval")
    assert backend.client.post(f"/api/models/{story.name}/score", json=SAMPLE).status_code == 404, (
        "it is not served yet"
    )
    story.steer(f"runs/{first}/decisions/reject", reason="too early")
    rejected = story.wait(first, "rejected")
    assert ("ada" in rejected["reason"], "too early" in rejected["reason"]) == (True, True)

    second = story.trained(0.4)
    story.wait(second, "awaiting_approval")
    story.steer(f"runs/{second}/decisions/approve", reason="looks fine")
    approved = story.wait(second, "live")
    assert story.predicted() == (pytest.approx(7.0), "2")
    assert "looks fine" in json.dumps(approved), "the decision is in the run's history, with its reason"

    assert late.wait(expiring, "expired")["reason"]
    assert late.post(f"runs/{expiring}/decisions/approve").status_code == 409


def test_a_run_is_cancelled_and_another_superseded_by_the_next_push(backend: Backend, tmp_path: Path) -> None:
    story = Story(backend, "busy")
    started, slow = tmp_path / "started", "import pathlib, time\npathlib.Path(PLACE).touch()\ntime.sleep(900)\n"

    def training() -> str:
        started.unlink(missing_ok=True)
        run_id = story.push(prepare=slow.replace("PLACE", repr(str(started))) + f"# {time.monotonic_ns()}")
        deadline = time.monotonic() + 200
        while not started.exists():
            assert time.monotonic() < deadline, backend.client.get(f"/api/runs/{run_id}").text[:3000]
            time.sleep(0.2)
        return run_id

    cancelled = training()
    story.steer(f"runs/{cancelled}/decisions/cancel", reason="the wrong branch")
    view = story.wait(cancelled, "cancelled")
    assert ("ada" in view["reason"], "the wrong branch" in view["reason"]) == (True, True)
    again = story.post(f"runs/{cancelled}/decisions/approve")
    assert (again.status_code, "cancelled" in again.text) == (409, True)

    overtaken = training()
    newest = story.trained(0.5)
    assert newest in story.wait(overtaken, "superseded")["reason"]
    story.wait(newest, "live")
    assert story.predicted()[1] == "1", "nothing of the others was registered"


def test_a_failing_step_is_named_with_its_log_and_the_run_resumed_once_its_cause_is_mended(
    backend: Backend, tmp_path: Path
) -> None:
    story = Story(backend, "mended")
    there = tmp_path / "there"
    guard = f"import pathlib\nassert pathlib.Path({str(there)!r}).exists(), 'the table is not there yet'\n"
    failed = story.push(train=guard + TRAIN.replace("RMSE", "0.5"))
    view = story.wait(failed, "failed")
    assert "'train'" in view["reason"]
    assert "the table is not there yet" in view["log_tail"]

    there.touch()
    resumed = story.steer(f"projects/{story.name}/retrain", resume=failed, reason="the table is there")
    live = story.wait(str(resumed["run_id"]), "live")
    assert "the table is there" in json.dumps(live)
    assert story.predicted() == (pytest.approx(7.0), "1")
    assert story.post(f"projects/{story.name}/retrain", resume=str(resumed["run_id"])).status_code == 409
