"""A pipeline whose steps use MLflow as on Azure ML, unchanged, against a real server."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from mlops_core.adapters.local.mlflow_server import MlflowServer
from mlops_core.adapters.local.model_registry import MlflowModelRegistry
from mlops_core.adapters.mlflow_api import MlflowApi
from mlops_core.domain.ids import JobName, ModelName
from mlops_core.pipelines.environments import EnvironmentMaker
from mlops_core.pipelines.executor import Execution, run_pipeline
from mlops_core.pipelines.plan import EnvironmentSpec, PipelinePlan, Step, StepInput, StepOutput, StepOutputSource
from mlops_core.pipelines.results import PipelineResult
from mlops_core.pipelines.search_space import Sweep
from mlops_core.pipelines.step_process import StepProcesses, allowed
from mlops_core.pipelines.tracking import MlflowTracking

pytestmark = pytest.mark.slow

CURRENT = EnvironmentSpec(name="current", current=True)
INHERITED = allowed(os.environ)  # noqa: TID251 - of the test

SCRIPTS = {
    "train.py": """
        import sys
        import mlflow
        from sklearn.linear_model import Ridge
        mlflow.sklearn.autolog(log_models=False)
        with mlflow.start_run() as run:
            model = Ridge(alpha=0.5).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.5])
            mlflow.log_metric("rmse", 2.0, step=0)
            mlflow.log_metric("rmse", 1.5, step=1)
            mlflow.sklearn.log_model(model, "model", pip_requirements=[])
        mlflow.sklearn.save_model(model, sys.argv[1] + "/model", pip_requirements=[])
        open(sys.argv[1] + "/run", "w").write(run.info.run_id)
    """,
    "log.py": """
        import sys
        import mlflow
        model = mlflow.sklearn.load_model(sys.argv[1] + "/model")
        with mlflow.start_run() as run:
            mlflow.sklearn.log_model(model, "model", pip_requirements=[])
            mlflow.register_model(f"runs:/{run.info.run_id}/model", "by-run")
    """,
    "other.py": """
        import sys
        import mlflow
        mlflow.register_model(f"runs:/{open(sys.argv[1] + '/run').read()}/model", "by-another")
    """,
    "after_fit.py": """
        import mlflow
        from sklearn.linear_model import Ridge
        mlflow.sklearn.autolog(log_models=False)
        model = Ridge(alpha=0.5).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.5])
        mlflow.sklearn.log_model(model, "model", registered_model_name="after-fit", pip_requirements=[])
    """,
    "trial.py": """
        import sys
        import mlflow
        # Written otherwise than it was drawn.
        mlflow.log_param("x", f"{float(sys.argv[1]):.3f}")
        mlflow.log_metric("rmse", abs(float(sys.argv[1]) - 2))
        mlflow.log_metric("odd", float("nan"))
    """,
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"), environment=INHERITED)
    server.start()
    yield server.wait_until_ready()
    server.stop()


@pytest.fixture
def execution(address: str, tmp_path: Path) -> Iterator[Execution]:
    (tmp_path / "src").mkdir()
    for name, text in SCRIPTS.items():
        (tmp_path / "src" / name).write_text(textwrap.dedent(text))
    tracking = MlflowTracking(address, tmp_path.name)
    yield Execution(
        folder=tmp_path / "job-1",
        project_root=tmp_path,
        job_name=f"{tmp_path.name}-1",
        environments=EnvironmentMaker(folder=tmp_path / "environments", inherited={}),
        inherited=INHERITED,
        tracking=tracking,
        cache=tmp_path / "cache",
    )
    tracking.close()


def step(name: str, command: str, *, reads: str | None = None, **more: object) -> Step:
    source = StepOutputSource(step=reads or "", output="out")
    return Step(
        name=name,
        kind="sweep" if "sweep" in more else "command",
        command=f"python {command}",
        code="src",
        environment=CURRENT,
        inputs={"model": StepInput(type="uri_folder", source=source)} if reads else {},
        depends_on=(reads,) if reads else (),
        **{"outputs": {"out": StepOutput()}, **more},  # type: ignore[arg-type] - named by the tests
    )


def run(execution: Execution, number: int, *steps: Step) -> PipelineResult:
    plan = PipelinePlan(name="p", experiment=execution.project_root.name, steps=steps, source_file="p.yml")
    folder = execution.project_root / f"job-{number}"
    job = f"{execution.project_root.name}-{number}"
    return run_pipeline(plan, replace(execution, folder=folder, job_name=job, processes=StepProcesses()))


class Server:
    """Reads what is on record."""

    def __init__(self, address: str) -> None:
        self._address = address

    def run(self, run_id: str) -> dict[str, dict[str, object]]:
        answer = httpx.get(f"{self._address}/api/2.0/mlflow/runs/get", params={"run_id": run_id})
        data = answer.raise_for_status().json()["run"]["data"]
        return {
            kind: {pair["key"]: pair["value"] for pair in data.get(kind, [])} for kind in ("tags", "params", "metrics")
        }

    def status(self, run_id: str) -> str:
        answer = httpx.get(f"{self._address}/api/2.0/mlflow/runs/get", params={"run_id": run_id})
        return str(answer.raise_for_status().json()["run"]["info"]["status"])

    def versions(self, model: str) -> list[dict[str, object]]:
        query = {"filter": f"name='{model}'"}
        answer = httpx.get(f"{self._address}/api/2.0/mlflow/model-versions/search", params=query)
        return list(answer.raise_for_status().json().get("model_versions", []))


TRAIN = step("train", "train.py ${{outputs.out}}")


def test_metrics_autolog_and_registration_work_unchanged_in_runs_of_their_own(
    execution: Execution, address: str
) -> None:
    result = run(execution, 1, TRAIN, step("log", "log.py ${{inputs.model}}", reads="train"))
    assert result.outcome == "succeeded", result.log_tail
    trained = Server(address).run(result.steps["train"].run_id)
    parent = str(trained["tags"]["mlflow.parentRunId"])

    assert trained["tags"]["headrace.job"] == execution.job_name
    assert trained["params"]["alpha"] == "0.5"
    assert result.steps["train"].metrics["rmse"] == 1.5
    assert "training_r2_score" in result.steps["train"].metrics
    assert [version["run_id"] for version in Server(address).versions("by-run")] == [result.steps["log"].run_id]
    assert Server(address).status(parent) == Server(address).status(result.steps["train"].run_id) == "FINISHED"


def test_what_registered_a_model_runs_again_and_what_did_not_is_reused(execution: Execution, address: str) -> None:
    register = step("register", "other.py ${{inputs.model}}", reads="train")
    states = []
    for number in (1, 2):
        result = run(execution, number, TRAIN, register)
        assert result.outcome == "succeeded", result.log_tail
        states.append({name: each.state for name, each in result.steps.items()})

    assert states == [{"train": "succeeded", "register": "succeeded"}, {"train": "reused", "register": "succeeded"}]
    # The version names the run that has the model, not the one that registered it.
    assert len(Server(address).versions("by-another")) == 2


def test_what_ran_without_a_server_is_not_taken_over_where_there_is_one(execution: Execution) -> None:
    """Nobody knows of it whether it would have registered a model: a delivery would find nothing registered."""
    alone = replace(execution, tracking=None)
    plain = step("plain", "-c 'print(1)'")
    states = [run(each, number, plain).steps["plain"].state for number, each in enumerate((alone, alone, execution), 1)]

    assert states == ["succeeded", "reused", "succeeded"]


def test_a_model_that_is_logged_after_a_fit_under_autolog_still_leads_to_the_job(
    execution: Execution, address: str
) -> None:
    result = run(execution, 1, step("train", "after_fit.py"))
    assert result.outcome == "succeeded", result.log_tail
    with closing(MlflowApi(lambda: address)) as api:
        found = MlflowModelRegistry(api).versions_of_job(ModelName("after-fit"), JobName(execution.job_name))

    assert [version.version for version in found] == ["1"]


def test_an_output_with_a_name_is_registered_each_time_also_where_its_step_is_reused(
    execution: Execution, address: str
) -> None:
    output = StepOutput(type="custom_model", registered_name="by-output")
    named = step("train", "train.py ${{outputs.out}}", outputs={"out": output})
    states = [run(execution, number, named).steps["train"].state for number in (1, 2)]

    assert states == ["succeeded", "reused"]
    jobs = {
        tag["value"]
        for version in Server(address).versions("by-output")
        for tag in version["tags"]  # type: ignore[attr-defined]
        if tag["key"] == "headrace.job"
    }
    assert jobs == {f"{execution.project_root.name}-{number}" for number in (1, 2)}


def test_a_trial_may_log_its_parameters_itself_and_the_sweep_has_those_of_the_best(
    execution: Execution, address: str
) -> None:
    sweep = Sweep.model_validate(
        {
            "algorithm": "grid",
            "objective": {"goal": "minimize", "primary_metric": "rmse"},
            "search_space": {"x": {"type": "choice", "values": (1, 2.25, 3.5)}},
            "limits": {},
        }
    )
    result = run(execution, 1, step("tune", "trial.py ${{search_space.x}}", sweep=sweep))
    assert result.outcome == "succeeded", result.log_tail
    tuned = Server(address).run(result.steps["tune"].run_id)

    assert tuned["params"] == {"x": "2.25"}
    assert tuned["metrics"]["rmse"] == 0.25
    assert result.steps["tune"].metrics["rmse"] == 0.25


def test_a_pipeline_that_fails_leaves_no_run_that_seems_to_go_on(execution: Execution, address: str) -> None:
    absent = step("train", "absent.py")
    broken = absent.model_copy(
        update={"environment": EnvironmentSpec(name="e", pip_requirements=("absent @ file:///nowhere",))}
    )
    for number, each in enumerate((absent, broken)):
        assert run(execution, number, each).outcome == "failed"
    tracking = execution.tracking
    assert isinstance(tracking, MlflowTracking)
    body = {"experiment_ids": [tracking.experiment_id]}
    found = httpx.post(f"{address}/api/2.0/mlflow/runs/search", json=body).raise_for_status().json()["runs"]

    assert [each["info"]["status"] for each in found] == ["FAILED"] * 3
