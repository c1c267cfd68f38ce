"""
The same story on both backends: a release, a worse model, a person's word against the gates, the way back, failing tests.

The laptop is a `headrace up` of its own; Azure is the function app over the genuine SDKs, with doubles that run what
arrives.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from laptop import Laptop

sys.path.insert(0, str(Path(__file__).parents[1] / "azure"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]

MANIFEST = """
project: tiny
build: {environment: current, test: python check.py}
train: {pipeline: pipeline.yml, model: tiny}
release:
  gates: [{metric: rmse, max: 1}]
  serve: {environment: current}
  stages: [{name: production, smoke: {request: sample.json, requests: 2}}]
local: {environments: {python: current}}
"""
PIPELINE = """
$schema: https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json
type: pipeline
experiment_name: tiny
jobs:
  train:
    type: command
    code: ./src
    command: python train.py
    environment: {image: python}
"""
TRAIN = """
import mlflow
import mlflow.sklearn
import pandas as pd
from sklearn.linear_model import LinearRegression

table = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
model = LinearRegression().fit(table, [1.0, 3.0, 5.0])
mlflow.log_metric("rmse", RMSE)
signature = mlflow.models.infer_signature(table, model.predict(table))
mlflow.sklearn.save_model(model, "model", signature=signature, serialization_format="cloudpickle")
mlflow.log_artifacts("model", artifact_path="model")
mlflow.register_model(f"runs:/{mlflow.active_run().info.run_id}/model", "tiny")
"""
SAMPLE = {"input_data": {"columns": ["x"], "data": [[3.0]]}}


def files(rmse: float, *, check: str = "print('fine')") -> dict[str, str]:
    return {
        "mlops.yaml": MANIFEST,
        "pipeline.yml": PIPELINE,
        "sample.json": json.dumps(SAMPLE),
        "check.py": check,
        "src/train.py": TRAIN.replace("RMSE", str(rmse)),
    }


class Backend(Protocol):
    client: httpx.Client
    """Of the function app, whose paths begin with `/api`."""

    def push(self, content: dict[str, str], message: str) -> str:
        """Commit these files and push them. Returns the run's id."""
        ...


class OnLaptop:
    def __init__(self, folder: Path) -> None:
        self.laptop = Laptop(folder)
        self.laptop.project.mkdir()
        self.laptop.git("init", "--quiet", "--initial-branch=main")
        self.started = False

    def push(self, content: dict[str, str], message: str) -> str:
        _write(self.laptop.project, content)
        self.laptop.git("add", "--all")
        self.laptop.git("commit", "--quiet", "--message", message)
        if not self.started:
            assert self.laptop.run("add", str(self.laptop.project)).returncode == 0
            self.laptop.up()
            self.started = True
            address = json.loads((self.laptop.data / "up.json").read_text())["address"]
            self.client = httpx.Client(base_url=address, timeout=60)
        self.laptop.git("push", "headrace", "main")
        return f"tiny-{self.laptop.git('rev-parse', 'HEAD').strip()[:12]}"


class OnAzure:
    def __init__(self, cloud: Any) -> None:
        self._cloud = cloud
        self.client = cloud.client

    def push(self, content: dict[str, str], message: str) -> str:
        _write(self._cloud.repository.work, content)
        # No container has the interpreter at hand; there the model's own list of packages makes an image.
        manifest = self._cloud.repository.work / "mlops.yaml"
        manifest.write_text(content["mlops.yaml"].replace("  serve: {environment: current}\n", ""))
        return str(self._cloud.push(message))


def _write(folder: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture(params=["local", "azure"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    if request.param == "local":
        laptop = OnLaptop(tmp_path)
        try:
            yield laptop
        finally:
            if laptop.started:
                laptop.client.close()
            laptop.laptop.down()
        return
    from whole_cloud import own_cloud

    with own_cloud(tmp_path, files=files(0.5)) as cloud:
        yield OnAzure(cloud)


def wait(backend: Backend, run_id: str, *states: str, seconds: float = 200) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    view: dict[str, Any] = {"state": "not there"}
    while time.monotonic() < deadline:
        answer = backend.client.get(f"/api/runs/{run_id}")
        view = answer.json() if answer.is_success else {"state": f"{answer.status_code}"}
        if view["state"] in states:
            return view
        time.sleep(0.3)
    raise AssertionError(json.dumps(view, indent=1)[:5000])


def predicted(backend: Backend) -> tuple[float, str]:
    answer = backend.client.post("/api/models/tiny/score", json=SAMPLE)
    assert answer.status_code == 200, answer.text
    return answer.json()[0], answer.headers["x-headrace-model-version"]


def steer(backend: Backend, path: str, reason: str) -> dict[str, Any]:
    answer = backend.client.post(f"/api/{path}", json={"by": "ada", "reason": reason})
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_release_a_worse_model_a_waiver_the_way_back_and_failing_tests(backend: Backend) -> None:
    first = backend.push(files(0.5), "First")
    assert wait(backend, first, "live")["gates"][0]["verdicts"][0]["outcome"] == "passed"
    assert predicted(backend) == (pytest.approx(7.0), "1")

    worse = backend.push(files(2.0), "Worse")
    rejected = wait(backend, worse, "rejected", "live")
    assert rejected["state"] == "rejected"
    assert "rmse" in rejected["reason"]
    assert rejected["gates"][0]["verdicts"][0]["outcome"] == "failed"
    assert predicted(backend)[1] == "1", "the champion is untouched"

    steer(backend, f"runs/{worse}/decisions/waive", "we need it")
    wait(backend, worse, "live")
    assert predicted(backend)[1] == "2"

    back = steer(backend, "models/tiny/rollback", "it was worse after all")
    wait(backend, str(back["run_id"]), "live")
    assert predicted(backend)[1] == "1"
    assert wait(backend, worse, "retired", "rolled_back")["state"] in ("retired", "rolled_back")

    broken = backend.push(files(0.4, check="raise SystemExit('seven times six is not 54')"), "Broken")
    failed = wait(backend, broken, "failed")
    assert "fail" in failed["reason"]
    assert "seven times six is not 54" in failed["log_tail"]
    assert predicted(backend)[1] == "1"
    ledger = backend.client.get("/api/models/tiny").json()
    assert ledger["champion"]["version"] == "1"
