"""
The public pipelines of Azure ML, each planned or refused with its reasons: what docs/azureml-examples.md lists.

They are not part of this project. Name a checkout of github.com/Azure/azureml-examples in HEADRACE_AZUREML_EXAMPLES
and one of github.com/Azure/mlops-project-template in HEADRACE_MLOPS_TEMPLATE; without them these tests are skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlops_core.pipelines.loader import LoadRequest, load_plan
from mlops_core.pipelines.survey import survey, to_markdown

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NESTED = "pipelines-with-components/pipeline_with_pipeline_component/pipeline_with_train_eval_pipeline_component"
# Those that must run as they are, with the names of their steps.
RUNNING = {
    "basics/hello-pipeline-io.yml": ("hello_job", "world_job"),
    "basics/hello-pipeline-customize-output-file.yml": ("hello_world",),
    "basics/hello-pipeline-default-artifacts.yml": ("hello_job", "world_job"),
    "pipelines-with-components/basics/1a_e2e_local_components/pipeline.yml": (
        "train_job",
        "score_job",
        "evaluate_job",
    ),
    "pipelines-with-components/basics/3b_pipeline_with_data/pipeline.yml": (
        "component_a",
        "component_b",
        "component_c",
    ),
    f"{NESTED}/pipeline.yml": (
        "train_and_evaluate_model1/train_job",
        "train_and_evaluate_model2/train_job",
        "train_and_evaluate_model1/score_job",
        "train_and_evaluate_model2/score_job",
        "train_and_evaluate_model1/evaluate_job",
        "train_and_evaluate_model2/evaluate_job",
        "compare",
    ),
    "pipelines-with-components/nyc_taxi_data_regression/pipeline.yml": (
        "prep_job",
        "transform_job",
        "train_job",
        "predict_job",
        "score_job",
    ),
}


def checkout(variable: str) -> Path:
    folder = os.environ.get(variable)  # noqa: TID251 - a setting of this test, not of the product
    if not folder:
        pytest.skip(f"{variable} names no checkout, so its pipelines are not planned.")
    return Path(folder)


@pytest.fixture(scope="module")
def examples() -> Path:
    return checkout("HEADRACE_AZUREML_EXAMPLES") / "cli"


@pytest.mark.parametrize("name", RUNNING)
def test_a_pipeline_of_the_examples_is_planned_unchanged(examples: Path, name: str) -> None:
    plan = load_plan(LoadRequest(examples / "jobs" / name, examples))
    assert tuple(step.name for step in plan.steps) == RUNNING[name]


def test_every_pipeline_of_the_examples_runs_or_says_why_not_and_the_page_lists_it(examples: Path) -> None:
    surveyed = survey(examples)
    assert len(surveyed) == 95
    assert all(entry.detail for entry in surveyed)
    page = (ROOT / "docs" / "azureml-examples.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in to_markdown(surveyed).splitlines() if line.startswith("| `")]
    # A checkout without its large files lacks data that the page was made with.
    assert [row for row in rows if row not in page and "does not exist" not in row] == []


@pytest.mark.parametrize(
    "bindings", [{}, {"azureml:taxi-data@latest": "data/taxi-data.csv"}], ids=["declared", "bound"]
)
def test_the_taxi_project_of_the_template_is_planned_unchanged(bindings: dict[str, str]) -> None:
    project = checkout("HEADRACE_MLOPS_TEMPLATE") / "classical" / "aml-cli-v2"
    plan = load_plan(LoadRequest(project / "mlops/azureml/train/pipeline.yml", project, bindings=bindings))
    assert [step.name for step in plan.steps] == ["prep_data", "train_model", "evaluate_model", "register_model"]
    source = plan.inputs["input"].source
    assert getattr(source, "path", None) == "data/taxi-data.csv"
    assert plan.step("train_model").environment.python_version == "3.11"
