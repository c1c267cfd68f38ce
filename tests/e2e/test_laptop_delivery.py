"""The whole way on a laptop, by the commands that a person types: push, live, predict, a killed controller, down."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from laptop import SECONDS, Laptop

# It takes five on a machine that does nothing else, and many times that where many programs want the same cores.
ROLLBACK_SECONDS = 60
MANIFEST = """
project: tiny
build: {environment: current}
train: {pipeline: pipeline.yml, model: tiny}
release:
  gates: [{metric: rmse, max: 1}]
  serve: {environment: current}
  stages: [{name: production, smoke: {request: request.json}}]
local: {environments: {python: current}}
"""
PIPELINE = """
type: pipeline
jobs:
  train:
    type: command
    code: src
    command: python train.py
    environment: {image: python}
"""
TRAIN = """
import mlflow, mlflow.sklearn
import pandas as pd
from sklearn.linear_model import LinearRegression

table = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
with mlflow.start_run() as run:
    mlflow.log_metric("rmse", 0.5)
    model = LinearRegression().fit(table, [1.0, 3.0, 5.0])
    signature = mlflow.models.infer_signature(table, model.predict(table))
    mlflow.sklearn.save_model(model, "model", signature=signature, serialization_format="cloudpickle")
    mlflow.log_artifacts("model", artifact_path="model")
    mlflow.register_model(f"runs:/{run.info.run_id}/model", "tiny")
"""


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    """A tiny project, and a laptop that is tidied up afterwards."""
    made = Laptop(tmp_path)
    (made.project / "src").mkdir(parents=True)
    (made.project / "mlops.yaml").write_text(MANIFEST)
    (made.project / "pipeline.yml").write_text(PIPELINE)
    (made.project / "request.json").write_text(json.dumps({"input_data": {"columns": ["x"], "data": [[3.0]]}}))
    (made.project / "src" / "train.py").write_text(TRAIN)
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("add", "--all")
    made.git("commit", "--quiet", "--message", "Tiny")
    yield made
    made.down()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_push_goes_live_and_outlives_a_killed_controller(laptop: Laptop) -> None:
    added = laptop.run("add", str(laptop.project))
    assert added.returncode == 0, added.stderr
    laptop.up()
    pushed = laptop.git("push", "headrace", "main")
    assert "live: http://127.0.0.1:" in pushed, pushed

    predicted = laptop.run("predict", "tiny", str(laptop.project / "request.json"))
    assert json.loads(predicted.stdout) == [pytest.approx(7.0)], predicted.stderr

    assert laptop.controller is not None
    laptop.controller.send_signal(signal.SIGKILL)
    laptop.controller.wait()
    laptop.up()
    again = laptop.run("predict", "tiny", str(laptop.project / "request.json"))
    assert json.loads(again.stdout) == [pytest.approx(7.0)], again.stderr

    story = json.loads(
        laptop.run("show", json.loads(laptop.run("runs", "--json").stdout)["runs"][0]["run_id"], "--json").stdout
    )
    assert [entry["state"] for entry in story["states"]][-1] == "live"
    assert laptop.run("rollback", "tiny").returncode == 1

    assert laptop.run("down").returncode == 0
    laptop.controller.wait(SECONDS)
    left = [
        each for each in psutil.process_iter(["cmdline"]) if str(laptop.data) in " ".join(each.info["cmdline"] or [])
    ]
    assert left == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_version_before_is_back_within_seconds_and_after_down_and_up_too(laptop: Laptop) -> None:
    """Also while MLflow is still starting, as it is right after `headrace up`."""
    assert laptop.run("add", str(laptop.project)).returncode == 0
    laptop.up()
    laptop.git("push", "headrace", "main")
    script = laptop.project / "src" / "train.py"
    script.write_text(script.read_text().replace("[1.0, 3.0, 5.0]", "[0.0, 1.0, 2.0]"))
    laptop.git("commit", "--all", "--quiet", "--message", "Another model")
    laptop.git("push", "headrace", "main")
    request = str(laptop.project / "request.json")
    assert json.loads(laptop.run("predict", "tiny", request).stdout) == [pytest.approx(3.0)]

    started = time.monotonic()
    back = laptop.run("rollback", "tiny")
    seconds = time.monotonic() - started
    assert back.returncode == 0, back.stderr
    assert json.loads(laptop.run("predict", "tiny", request).stdout) == [pytest.approx(7.0)]
    assert seconds < ROLLBACK_SECONDS

    laptop.down()
    laptop.up()
    answer = laptop.run("predict", "tiny", request)
    deadline = time.monotonic() + ROLLBACK_SECONDS
    while answer.returncode != 0:
        assert time.monotonic() < deadline, answer.stderr
        answer = laptop.run("predict", "tiny", request)
    assert json.loads(answer.stdout) == [pytest.approx(7.0)]
    assert "state=failed" not in (laptop.data / "headrace.log").read_text(), "it was made once"
