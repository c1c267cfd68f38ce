"""
The diabetes example: valid for Azure ML as it is, its own tests pass, and its steps give a model that its gates take.

The steps run here as plain processes, by the commands in the component files, with nothing of Headrace around them.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_core.domain.gates import Evidence, Outcome, judge
from mlops_core.domain.ids import ModelVersion
from mlops_core.domain.project import ProjectSpec
from mlops_core.manifest import read_manifest

EXAMPLE = Path(__file__).parents[2] / "examples" / "diabetes"
# The strength of the penalty that wins the sweep of each. The other values of its search space get the same verdicts.
WINNERS = {"good": 3.0, "worse": 10.0}

LOAD = """
import json, logging, sys, warnings
from pathlib import Path
complaints = []
class Complaints(logging.Handler):
    def emit(self, record):
        complaints.append(record.getMessage())
logging.getLogger().addHandler(Complaints(logging.WARNING))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from azure.ai.ml import load_component, load_compute, load_data, load_environment, load_job
    folder = Path(sys.argv[1])
    job = load_job(folder / "pipeline.yml")
    components = [load_component(path) for path in sorted((folder / "components").glob("*.yml"))]
    for loaded in [job, *components]:
        complaints += [str(message) for message in loaded._validate().error_messages.items()]
    data, environment = load_data(folder / "data.yml"), load_environment(folder / "environment.yml")
    compute = load_compute(folder / "compute.yml")
complaints += [str(w.message) for w in caught if not issubclass(w.category, DeprecationWarning)]
print(json.dumps({
    "complaints": complaints, "steps": list(job.jobs), "components": len(components),
    "assets": [data.name, data.version, environment.name, compute.name], "data": str(data.path),
}))
"""

READ_REGISTRY = """
import json, sys
import mlflow, pandas
table = json.loads(open(sys.argv[1]).read())["input_data"]
patients = pandas.DataFrame(table["data"], columns=table["columns"], index=table["index"])
[version] = mlflow.MlflowClient().search_model_versions("name='diabetes'")
model = mlflow.pyfunc.load_model(f"models:/diabetes/{version.version}")
print(json.dumps({
    "metrics": mlflow.get_run(version.run_id).data.metrics,
    "inputs": model.metadata.get_input_schema().input_names(),
    "predictions": [float(value) for value in model.predict(patients)],
}))
"""


@dataclass(frozen=True)
class Workshop:
    """A copy of the example whose steps can be called one by one."""

    project: Path

    @property
    def store(self) -> str:
        return f"sqlite:///{self.project}/mlflow.db"

    def step(self, component: str, **values: object) -> None:
        """Run a step by the command of its component file."""
        command = yaml.safe_load((self.project / f"azureml/components/{component}.yml").read_text())["command"]
        filled = re.sub(r"\$\{\{(?:in|out)puts\.(\w+)\}\}", lambda match: str(values[match[1]]), command)
        program, *arguments = shlex.split(filled)
        assert program == "python"
        run([sys.executable, *arguments], self.project / "src", MLFLOW_TRACKING_URI=self.store)

    def train_and_evaluate(self) -> dict[str, float]:
        """Call the steps in the pipeline's order, with its inputs and one trial for the sweep; return the report."""
        inputs = yaml.safe_load((self.project / "azureml/pipeline.yml").read_text())["inputs"]
        splits, model, report = (self.project / "run" / name for name in ("splits", "model", "report"))
        self.step("prepare", patients=self.project / "data/diabetes.csv", seed=inputs["seed"], splits=splits)
        self.step("train", splits=splits, features=inputs["features"], alpha=WINNERS[self.project.name], model=model)
        self.step("evaluate", splits=splits, model=model, report=report)
        return dict(json.loads(report.read_text()))

    def register(self) -> dict[str, Any]:
        """Register what was trained and return what the registry says of it."""
        model, report = (self.project / "run" / name for name in ("model", "report"))
        self.step("register", model=model, report=report, model_name="diabetes")
        command = [sys.executable, "-c", READ_REGISTRY, str(self.project / "requests/three-patients.json")]
        return dict(json.loads(run(command, self.project, MLFLOW_TRACKING_URI=self.store)))


def run(command: list[str], folder: Path, **variables: str) -> str:
    """Run a command to its end, without the caller's environment, and return its output."""
    env = {"PATH": os.defpath, "HOME": str(folder), **variables}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def copy_example(target: Path) -> Path:
    """Copy the example without what running it leaves behind."""
    shutil.copytree(EXAMPLE, target, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    return target


@dataclass(frozen=True)
class Delivered:
    """What came of the example as it is, and the metrics of its worse variant, which is not registered."""

    metrics: dict[str, float]
    report: dict[str, float]
    inputs: list[str]
    predictions: list[float]
    splits: Path
    worse: dict[str, float]


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    home = tmp_path_factory.mktemp("delivered")
    good, worse = (Workshop(copy_example(home / name)) for name in WINNERS)
    run(["git", "apply", "demo/worse.patch"], worse.project)
    with ThreadPoolExecutor(2) as side_by_side:
        reports = list(side_by_side.map(Workshop.train_and_evaluate, (good, worse)))
    return Delivered(**good.register(), report=reports[0], worse=reports[1], splits=good.project / "run/splits")


@pytest.fixture(scope="module")
def spec() -> ProjectSpec:
    return read_manifest((EXAMPLE / "mlops.yaml").read_bytes())


def evidence(version: int, metrics: dict[str, float]) -> Evidence:
    return Evidence(version=ModelVersion(str(version)), metrics=metrics)


@pytest.mark.slow
def test_azure_ml_loads_every_file_without_a_complaint(tmp_path: Path) -> None:
    loaded = json.loads(run([sys.executable, "-c", LOAD, str(EXAMPLE / "azureml")], tmp_path))
    assert loaded["complaints"] == []
    assert loaded["steps"] == ["prepare", "tune", "evaluate", "register"]
    assert loaded["components"] == 4
    assert loaded["assets"] == ["diabetes-data", "1", "diabetes-env", "cpu-cluster"]
    assert Path(loaded["data"]).samefile(EXAMPLE / "data/diabetes.csv")


@pytest.mark.slow
def test_projects_own_tests_pass(tmp_path: Path) -> None:
    project = copy_example(tmp_path / "diabetes")
    assert " passed" in run([sys.executable, "-m", "pytest", "-q"], project)


def test_data_is_what_scikit_learn_distributes() -> None:
    """Compared with the two files inside the package: found, not imported, which would take seconds."""
    package = importlib.util.find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "datasets/data"
    parts = [gzip.decompress((folder / f"diabetes_{name}.csv.gz").read_bytes()) for name in ("data_raw", "target")]
    inputs, targets = ([[float(cell) for cell in line.split()] for line in part.splitlines()] for part in parts)
    lines = (EXAMPLE / "data/diabetes.csv").read_text().splitlines()[1:]
    ours = [[float(cell) for cell in line.split(",")] for line in lines]
    assert ours == [row + target for row, target in zip(inputs, targets, strict=True)]


def test_manifest_points_to_files_that_exist(spec: ProjectSpec) -> None:
    smokes = [stage.smoke.request for stage in spec.release.stages if stage.smoke]
    for path in (*spec.build.assets, spec.train.pipeline, *smokes):
        assert (EXAMPLE / path).is_file(), path


@pytest.mark.slow
def test_registered_version_carries_the_metrics_of_its_evaluation(delivered: Delivered) -> None:
    assert delivered.metrics == pytest.approx(delivered.report)
    assert delivered.inputs == ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]


@pytest.mark.slow
def test_registered_model_passes_every_gate(delivered: Delivered, spec: ProjectSpec) -> None:
    verdicts = judge(spec.release.gates, evidence(1, delivered.metrics), None)
    assert [verdict.reason for verdict in verdicts if verdict.outcome is not Outcome.PASSED] == []
    assert {verdict.segment for verdict in verdicts} == {None, "1", "2"}


@pytest.mark.slow
def test_worse_model_fails_every_gate(delivered: Delivered, spec: ProjectSpec) -> None:
    verdicts = judge(spec.release.gates, evidence(2, delivered.worse), evidence(1, delivered.metrics))
    assert [verdict.reason for verdict in verdicts if verdict.outcome is not Outcome.FAILED] == []


@pytest.mark.slow
def test_three_patients_were_held_out_and_are_told_apart(delivered: Delivered) -> None:
    """Their measured values rise from 64 over 175 to 241."""
    request = json.loads((EXAMPLE / "requests/three-patients.json").read_text())["input_data"]
    rows = [line.split(",") for line in (EXAMPLE / "data/diabetes.csv").read_text().splitlines()[1:]]
    assert request["data"] == [[float(cell) for cell in rows[index][:-1]] for index in request["index"]]
    held_out = (delivered.splits / "test.csv").read_text().splitlines()
    assert all(",".join(rows[index]) in held_out for index in request["index"])
    low, middle, high = delivered.predictions
    assert low < middle < high


@pytest.mark.slow
def test_numbers_in_the_readme_are_the_ones_that_come_out(delivered: Delivered) -> None:
    rows = (EXAMPLE / "README.md").read_text()
    for metric, decimals in (("rmse", 1), ("mae", 1), ("r2", 2)):
        ours, worse = (f"{metrics[metric]:.{decimals}f}" for metrics in (delivered.metrics, delivered.worse))
        assert re.search(rf"\| `{metric}` \| {ours} \|.*\| {worse} \|", rows), (metric, ours, worse)
    for index, predicted in zip((277, 400, 273), delivered.predictions, strict=True):
        assert f"| {index} | {predicted:.0f} |" in rows
