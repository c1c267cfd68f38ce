"""The whole way on a laptop, by the commands that a person types: push, live, predict, a killed controller, down."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from laptop import SECONDS, Laptop

# It takes five on a machine that does nothing else, and many times that where many programs want the same cores.
ROLLBACK_SECONDS = 60
TUTORIAL = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
# What the tutorial calls its project, and what it is called here; the longer names first.
NAMES = {"data/taxi-request.json": "request.json", "taxi-model": "tiny", "taxi": "tiny"}
# Typed elsewhere: in a terminal of its own, and in a repository with several projects.
ELSEWHERE = {"headrace up", "headrace add models/trips", "headrace add models/fares"}
# What a person adds to the file that init writes, so that nothing has to be installed here.
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
BY_HAND = """
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


@dataclass
class Learner:
    """Types what the tutorial shows, line by line, in the project's folder."""

    laptop: Laptop
    typed: list[str] = field(default_factory=list)

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        """Type a line of the tutorial as it stands there."""
        assert line in shown(), f"the tutorial does not show '{line}'"
        self.typed.append(line)
        words = shlex.split(line)
        for theirs, ours in NAMES.items():
            words = [ours if word == theirs else word for word in words]
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
        command = ["git", *identity] if words[0] == "git" else [sys.executable, "-m", "mlops_core.cli"]
        return subprocess.run(
            [*command, *words[1:]], cwd=self.laptop.project, env=self.laptop.environment,
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip


def shown() -> list[str]:
    """Find the commands that the tutorial shows, in their order."""
    blocks = re.findall(r"^```console\n(.*?)^```", TUTORIAL, re.MULTILINE | re.DOTALL)
    return [part.strip() for block in blocks for line in block.splitlines() for part in line.split("&&")]


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    """A tiny project without an mlops.yaml, and a laptop that is tidied up afterwards."""
    made = Laptop(tmp_path)
    (made.project / "src").mkdir(parents=True)
    (made.project / "pipeline.yml").write_text(PIPELINE)
    (made.project / "request.json").write_text(json.dumps({"input_data": {"columns": ["x"], "data": [[3.0]]}}))
    (made.project / "src" / "train.py").write_text(TRAIN)
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("add", "--all")
    made.git("commit", "--quiet", "--message", "Tiny")
    yield made
    made.down()


def processes_of(laptop: Laptop) -> list[psutil.Process]:
    """Find what was started from the data folder and still runs."""
    return [
        each for each in psutil.process_iter(["cmdline"]) if str(laptop.data) in " ".join(each.info["cmdline"] or [])
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tutorial_does_what_it_says(laptop: Laptop) -> None:
    learner = Learner(laptop)
    assert "✓ git: " in learner.type("headrace doctor").stdout
    laptop.up()

    assert "model: tiny" in learner.type("headrace init .").stdout
    manifest = laptop.project / "mlops.yaml"
    written = manifest.read_text()
    manifest.write_text(
        written.replace("  approval: none", "  serve: {environment: current}\n  approval: none") + BY_HAND
    )
    checked = learner.type("headrace validate .")
    assert checked.returncode == 0, checked.stderr
    learner.type("git add mlops.yaml")
    learner.type('git commit -m "Deliver with Headrace"')
    assert "git push headrace main" in learner.type("headrace add .").stdout
    pushed = learner.type("git push headrace main").stderr
    assert re.search(r"^remote: live: http://127\.0\.0\.1:\d+/api/models/tiny/score *$", pushed, re.MULTILINE), pushed

    predicted = learner.type("headrace predict taxi-model data/taxi-request.json")
    assert json.loads(predicted.stdout) == [pytest.approx(7.0)], predicted.stderr
    assert "answers at http://127.0.0.1:" in learner.type("headrace show taxi").stdout
    assert "/api/models/tiny/score" in learner.type("headrace models").stdout
    assert re.search(r"^v1 +champion .* rmse 0\.5$", learner.type("headrace models taxi-model").stdout, re.MULTILINE)
    assert "There is no earlier version of model 'tiny'" in learner.type("headrace rollback taxi-model").stderr

    again = learner.type("headrace retrain taxi --follow")
    assert again.returncode == 0, again.stderr
    assert "live: version 2 has all traffic" in again.stdout
    assert "  train │ " in again.stdout
    back = learner.type("headrace rollback taxi-model")
    assert "live: version 1 has all traffic" in back.stdout, back.stderr

    assert set(learner.typed) == set(shown()) - ELSEWHERE


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_was_delivered_outlives_a_killed_controller_and_serves_again_after_everything_was_stopped(
    laptop: Laptop,
) -> None:
    (laptop.project / "mlops.yaml").write_text(MANIFEST)
    laptop.git("add", "--all")
    laptop.git("commit", "--quiet", "--message", "Deliver")
    assert laptop.run("add", str(laptop.project)).returncode == 0
    laptop.up()
    assert "live: http://127.0.0.1:" in (pushed := laptop.git("push", "headrace", "main")), pushed

    assert laptop.controller is not None
    laptop.controller.send_signal(signal.SIGKILL)
    laptop.controller.wait()
    laptop.up()
    again = laptop.run("predict", "tiny", str(laptop.project / "request.json"))
    assert json.loads(again.stdout) == [pytest.approx(7.0)], again.stderr

    assert laptop.run("down").returncode == 0
    laptop.controller.wait(SECONDS)
    assert processes_of(laptop) == []

    laptop.up()
    deadline = time.monotonic() + SECONDS
    while laptop.run("predict", "tiny", str(laptop.project / "request.json")).returncode != 0:
        assert time.monotonic() < deadline
    # Made ready at the first try, not given up and made anew by a later reconciling.
    assert "state=failed" not in (laptop.data / "headrace.log").read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_version_before_is_back_within_seconds_and_after_down_and_up_too(laptop: Laptop) -> None:
    """Also while MLflow is still starting, as it is right after `headrace up`."""
    (laptop.project / "mlops.yaml").write_text(MANIFEST)
    laptop.git("add", "--all")
    laptop.git("commit", "--quiet", "--message", "Deliver")
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
