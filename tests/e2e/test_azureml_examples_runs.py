"""
The public pipelines of Azure ML that must run here as they are: run for real, and what they leave is looked at.

They are not part of this project, and their environments come from the package index: name a checkout of
github.com/Azure/azureml-examples in HEADRACE_AZUREML_EXAMPLES and one of github.com/Azure/mlops-project-template in
HEADRACE_MLOPS_TEMPLATE. Without them these tests are skipped. The first run installs packages for some minutes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mlops_core.adapters.local.mlflow_server import MlflowServer
from mlops_core.adapters.mlflow_api import MlflowApi
from mlops_core.pipelines.runner import PipelineRun
from mlops_core.pipelines.step_process import allowed
from mlops_core.pipelines.survey import survey

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COMPONENTS = "pipelines-with-components"
NESTED = f"{COMPONENTS}/pipeline_with_pipeline_component/pipeline_with_train_eval_pipeline_component/pipeline.yml"
TAXI = f"{COMPONENTS}/nyc_taxi_data_regression/pipeline.yml"
# What each leaves: a pattern of files below its steps, and what is in them.
LEAVES = {
    "basics/hello-pipeline-io.yml": ("hello_job/outputs/world_output/world.txt", "world"),
    "basics/hello-pipeline-customize-output-file.yml": ("hello_world/outputs/hello_world.txt", "world"),
    "basics/hello-pipeline-default-artifacts.yml": ("hello_job/artifacts/outputs/world.txt", "world"),
    f"{COMPONENTS}/basics/1a_e2e_local_components/pipeline.yml": (
        "evaluate_job/outputs/eval_output/eval_result.txt",
        "Eval done at",
    ),
    f"{COMPONENTS}/basics/3b_pipeline_with_data/pipeline.yml": ("component_c/outputs/component_c_output/*.txt", ""),
    NESTED: ("compare/outputs/best_result/result", "eval_output"),
    TAXI: ("score_job/outputs/score_report/score.txt", "Coefficient of determination"),
}
# Tools of a repository that only GitHub has; the taxi project's scripts do without them.
ELSEWHERE = [
    f"git+https://github.com/microsoft/AzureML-Observability#subdirectory=aml-obs-{part}"
    for part in ("client", "collector")
]

ENVIRONMENT = dict(os.environ)  # noqa: TID251 - of the test

Run = Callable[..., str]


def checkout(variable: str) -> Path:
    folder = ENVIRONMENT.get(variable)
    if not folder:
        pytest.skip(f"{variable} names no checkout, so its pipelines are not run.")
    return Path(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a file with the command line; all files of this module share the environments."""
    data = tmp_path_factory.mktemp("data")

    def run_file(file: Path, folder: Path, *options: str) -> str:
        command = [sys.executable, "-m", "mlops_core.cli", "pipeline", "run", str(file), "--folder", str(folder)]
        done = subprocess.run(
            [*command, *options],
            env={**ENVIRONMENT, "HEADRACE_DATA": str(data)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run_file


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"), environment=allowed(ENVIRONMENT))
    server.start()
    yield server.wait_until_ready()
    server.stop()


@pytest.mark.parametrize("name", LEAVES)
def test_a_pipeline_of_the_examples_runs_unchanged_and_leaves_its_outputs(name: str, run: Run, tmp_path: Path) -> None:
    run(checkout("HEADRACE_AZUREML_EXAMPLES") / "cli" / "jobs" / name, tmp_path / "run")
    pattern, content = LEAVES[name]
    left = sorted((tmp_path / "run" / "steps").glob(pattern))

    assert left, sorted(path for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert all(content in path.read_text() for path in left)


@pytest.mark.timeout(1_800)
def test_every_pipeline_that_is_planned_runs_to_its_end(mlflow: str, tmp_path: Path) -> None:
    root = checkout("HEADRACE_AZUREML_EXAMPLES") / "cli"
    ended = {}
    for number, entry in enumerate(survey(root)):
        if entry.outcome != "runs":
            continue
        job = PipelineRun(
            file=root / entry.path,
            project_root=root,
            folder=tmp_path / f"job-{number}",
            caches=tmp_path / "caches",
            job_name=f"job-{number}",
            inherited=ENVIRONMENT,
            tracking_uri=mlflow,
        )
        result = job.execute(job.plan(), lambda *_: None)
        ended[entry.path] = result.outcome if result.outcome == "succeeded" else result.reason + result.log_tail

    assert len(ended) > 25
    assert {path: said for path, said in ended.items() if said != "succeeded"} == {}


def test_the_metrics_that_autolog_finds_are_told(run: Run, mlflow: str, tmp_path: Path) -> None:
    file = checkout("HEADRACE_AZUREML_EXAMPLES") / "cli" / "jobs" / TAXI
    said = run(file, tmp_path / "run", "--tracking-uri", mlflow, "--no-reuse")

    score = re.search(r"train_job: .*training_r2_score ([\d.]+)", said)
    assert score is not None, said
    assert float(score[1]) > 0.8


def test_the_taxi_project_of_the_template_trains_and_registers_its_model_unchanged(
    run: Run, mlflow: str, tmp_path: Path
) -> None:
    project = checkout("HEADRACE_MLOPS_TEMPLATE") / "classical" / "aml-cli-v2"
    options = ["--root", str(project), "--tracking-uri", mlflow, *(f"--without={line}" for line in ELSEWHERE)]
    run(project / "mlops/azureml/train/pipeline.yml", tmp_path / "run", *options)
    with closing(MlflowApi(lambda: mlflow)) as api:
        found = api.get("registered-models/get", {"name": "taxi-model"}, kind="model", name="taxi")

    assert found["registered_model"]["latest_versions"][0]["version"] == "1"
    report = tmp_path / "run/steps/evaluate_model/outputs/evaluation_output/score.txt"
    assert "Scored with the following model" in report.read_text()
