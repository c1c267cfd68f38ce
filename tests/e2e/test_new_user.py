"""What a new user does wrong, on one laptop: each ends with a sentence that says what to do."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from laptop import ROOT, SECONDS, Laptop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("new_user")]

MANIFEST = """\
project: tiny
build: {environment: current}
train: {pipeline: pipeline.yml, model: tiny}
release: {serve: {environment: current}}
local: {environments: {python: current}}
"""
PIPELINE = """\
type: pipeline
jobs:
  train:
    type: command
    code: src
    command: python train.py
    environment: {image: python}
"""
WITHOUT_SIGNATURE = """
import mlflow, mlflow.sklearn
from sklearn.linear_model import LinearRegression

with mlflow.start_run() as run:
    model = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
    mlflow.sklearn.save_model(model, "model", serialization_format="cloudpickle", pip_requirements=[])
    mlflow.log_artifacts("model", artifact_path="model")
    mlflow.register_model(f"runs:/{run.info.run_id}/model", "tiny")
"""


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """A controller with a project that nothing was pushed of yet."""
    made = Laptop(tmp_path_factory.mktemp("new-user"))
    (made.project / "src").mkdir(parents=True)
    (made.project / "mlops.yaml").write_text(MANIFEST)
    made.git("init", "--quiet", "--initial-branch=main")
    added = made.run("add", str(made.project))
    assert added.returncode == 0, added.stderr
    made.up()
    yield made
    made.down()


def push(laptop: Laptop, *, manifest: str = MANIFEST, pipeline: str = PIPELINE, train: str = "pass") -> str:
    """Commit these files and push them; give what the push printed, without git's own words."""
    (laptop.project / "mlops.yaml").write_text(manifest)
    (laptop.project / "pipeline.yml").write_text(pipeline)
    (laptop.project / "src" / "train.py").write_text(train)
    laptop.git("add", "--all")
    laptop.git("commit", "--quiet", "--message", "Try")
    told = laptop.git("push", "headrace", "main")
    return "\n".join(line.removeprefix("remote: ").rstrip() for line in told.splitlines())


def test_a_wrong_key_is_named_with_its_line_and_the_nearest_known_one(laptop: Laptop) -> None:
    told = push(laptop, manifest=MANIFEST.replace("release:", "realese:"))

    assert "FAILED: mlops.yaml line 4, realese: unknown key 'realese'. Did you mean 'release'?" in told
    assert re.search(r"the whole story: headrace show tiny-\w+", told)


def test_a_pipeline_that_names_a_missing_file_is_refused_before_anything_runs(laptop: Laptop) -> None:
    told = push(laptop, pipeline=PIPELINE.replace("code: src", "code: sources"))

    assert "pipeline.yml line 5: jobs.train.code: " in told
    assert "sources" in told
    assert "training" not in told


def test_tests_that_fail_end_the_push_with_what_they_said(laptop: Laptop) -> None:
    failing = 'python -c "assert 1 == 2, 1"'
    told = push(laptop, manifest=MANIFEST.replace("current}", f"current, test: '{failing}'}}", 1))

    assert f"FAILED: the tests failed: '{failing}'" in told
    assert "| AssertionError: 1" in told


def test_a_training_step_that_dies_is_named_with_how_it_died(laptop: Laptop) -> None:
    told = push(laptop, train="import os\nprint('loading', flush=True)\nos.kill(os.getpid(), 9)\n")

    assert "FAILED: step 'train'" in told
    assert "memory" in told
    assert "| loading" in told


def test_a_full_disk_in_a_step_is_told_by_its_log(laptop: Laptop) -> None:
    """`/dev/full` answers every write as a full disk does."""
    told = push(laptop, train="with open('/dev/full', 'w') as file:\n    file.write('x' * 100_000)\n")

    assert "FAILED: step 'train'" in told
    assert "| OSError: [Errno 28] No space left on device" in told


def test_a_pipeline_that_registers_nothing_says_how_to_register(laptop: Laptop) -> None:
    told = push(laptop)

    assert (
        "FAILED: the pipeline is complete, but it registered no version of model 'tiny'. Register one in a step" in told
    )


def test_a_model_without_a_signature_serves_and_a_wrong_request_says_why_it_was_not_checked(
    laptop: Laptop, tmp_path: Path
) -> None:
    told = push(laptop, train=WITHOUT_SIGNATURE)
    good, wrong = tmp_path / "good.json", tmp_path / "wrong.json"
    good.write_text(json.dumps({"input_data": [[2.0]]}))
    wrong.write_text(json.dumps({"input_data": [[2.0, 1.0]]}))

    assert "live: http://127.0.0.1:" in told, told
    assert "starting the scoring app" in told
    assert json.loads(laptop.run("predict", "tiny", str(good)).stdout) == [pytest.approx(5.0)]
    refused = laptop.run("predict", "tiny", str(wrong))
    assert refused.returncode == 1
    assert "the model, which has no signature" in refused.stderr
    assert "There is no earlier version of model 'tiny'" in laptop.run("rollback", "tiny").stderr


def test_a_second_controller_on_the_folder_is_told_of_the_first(laptop: Laptop) -> None:
    assert laptop.controller is not None

    second = laptop.run("up", "--port", "0")

    assert second.returncode == 1
    assert f"is in use by process {laptop.controller.pid} at http://127.0.0.1:" in second.stderr


def test_a_port_in_use_is_told_with_another_one_to_take(laptop: Laptop, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = laptop.run("up", "--data", str(tmp_path), "--port", str(port))

    assert refused.returncode == 1
    assert f"Port {port} on 127.0.0.1 is in use by another program. Stop it, or choose another port: " in refused.stderr
    assert re.search(r"headrace up --port \d+\.", refused.stderr)


def repository(place: Path) -> Path:
    """A repository of which nothing is known yet."""
    place.mkdir()
    (place / "mlops.yaml").write_text(MANIFEST.replace("tiny", "other"))
    subprocess.run(["git", "init", "--quiet", str(place)], check=True)
    return place


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few pages, where this machine lets us have one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("A disk of its own can be mounted by root only.")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("command", ["up", "add"])
def test_a_full_disk_under_the_data_folder_says_to_free_space(laptop: Laptop, tiny_disk: Path, command: str) -> None:
    (tiny_disk / "filler").write_bytes(b"x" * 40_000)
    words = {"up": ["--port", "0"], "add": [str(repository(tiny_disk.parent / "other"))]}[command]

    refused = subprocess.run(
        [sys.executable, "-m", "mlops_core.cli", command, *words, "--data", str(tiny_disk / "data")],
        cwd=ROOT, env=laptop.environment, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip

    assert refused.returncode == 1
    assert "Free some space" in refused.stderr, refused.stderr
    assert "Traceback" not in refused.stderr
