"""A project that serves its model with an Azure ML scoring script: pushed, live, asked; and one whose `init()` raises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from laptop import Laptop

FILES = {
    "mlops.yaml": """
project: tiny
build: {environment: current}
train: {pipeline: pipeline.yml, model: tiny}
release:
  gates: [{metric: rmse, max: 1}]
  serve: {code: online/score.py, environment: current}
  stages: [{name: production, smoke: {request: request.json}}]
local: {environments: {python: current}}
""",
    "pipeline.yml": """
type: pipeline
jobs:
  train:
    type: command
    code: src
    command: python train.py ${{outputs.weights}}
    environment: {image: python}
    outputs:
      weights: {type: custom_model, name: tiny}
""",
    "src/train.py": """
import json, sys
from pathlib import Path
import mlflow
mlflow.log_metric("rmse", 0.5)
Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
Path(sys.argv[1], "factor.json").write_text("3")
""",
    "online/score.py": """
import json, logging, os
import numpy as np
from tables import as_table

def init():
    global factor
    logging.info("the model directory is there: %s", os.path.isdir(os.environ["AZUREML_MODEL_DIR"]))
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "model", "factor.json")) as file:
        factor = json.load(file)

def run(raw_data):
    request = json.loads(raw_data)
    predicted = factor * np.array(request["data"])
    print("a line of the script")
    answers = {"array": predicted, "table": as_table(predicted), "text": str(predicted[0]), "nothing": None}
    return answers[request["as"]]
""",
    "online/tables.py": """
import pandas as pd

def as_table(values):
    return pd.DataFrame({"value": values, "none": [float("nan")] * len(values)})
""",
    "request.json": json.dumps({"data": [1, 2], "as": "array"}),
}


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    """A tiny project with a script, and a laptop that is tidied up afterwards."""
    made = Laptop(tmp_path)
    for name, text in FILES.items():
        (made.project / name).parent.mkdir(parents=True, exist_ok=True)
        (made.project / name).write_text(text)
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("add", "--all")
    made.git("commit", "--quiet", "--message", "Tiny")
    yield made
    made.down()


def ask(laptop: Laptop, kind: str) -> str:
    (laptop.data / "asked.json").write_text(json.dumps({"data": [1, 2], "as": kind}))
    done = laptop.run("predict", "tiny", str(laptop.data / "asked.json"))
    return done.stdout or done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_scoring_script_is_delivered_and_one_that_raises_leaves_it_in_service(laptop: Laptop) -> None:
    assert laptop.run("add", str(laptop.project)).returncode == 0
    laptop.up()
    pushed = laptop.git("push", "headrace", "main")
    assert "live: http://127.0.0.1:" in pushed, pushed

    assert json.loads(ask(laptop, "array")) == [3, 6]
    assert json.loads(ask(laptop, "table")) == [{"value": 3, "none": None}, {"value": 6, "none": None}]
    assert json.loads(ask(laptop, "text")) == "3"
    assert json.loads(ask(laptop, "nothing")) == {}
    assert "The log has the reason under error id" in ask(laptop, "nonsense")
    log = (laptop.data / "deployments" / "tiny-v1" / "log.txt").read_text()
    assert "the model directory is there: True" in log
    assert "a line of the script" in log
    assert "KeyError: 'nonsense'" in log

    script = laptop.project / "online" / "score.py"
    script.write_text(
        script.read_text().replace("def init():", "def init():\n    raise RuntimeError('the weights are torn')")
    )
    laptop.git("commit", "--all", "--quiet", "--message", "Torn")
    # The training is not run again, and its model is judged by the metrics of the run that it was.
    pushed = laptop.git("push", "headrace", "main")
    assert "RuntimeError: the weights are torn" in pushed, pushed
    assert "live: http" not in pushed
    assert json.loads(ask(laptop, "array")) == [3, 6]
