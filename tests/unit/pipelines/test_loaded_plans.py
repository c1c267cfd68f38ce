"""A whole project as azure-ai-ml reads it: every kind of step, input and output in one plan."""

from pathlib import Path
from typing import Any

import pytest

from mlops_core.pipelines.errors import PipelineInvalidError
from mlops_core.pipelines.loader import LoadRequest, load_plan
from mlops_core.pipelines.plan import (
    LiteralSource,
    PathSource,
    PipelineInputSource,
    PipelineOutput,
    PipelinePlan,
    Step,
    StepOutputSource,
)

# The import of azure-ai-ml takes seconds, once for this file.
pytestmark = pytest.mark.slow

HARBOUR = Path(__file__).parent / "fixtures" / "harbour"
REQUEST = LoadRequest(HARBOUR / "azureml" / "pipeline.yml", HARBOUR)


@pytest.fixture(scope="module")
def plan() -> PipelinePlan:
    return load_plan(REQUEST)


def value_of(step: Step, name: str) -> Any:
    source = step.inputs[name].source
    assert isinstance(source, LiteralSource)
    return source.value


def test_nested_pipelines_are_flattened_in_an_order_that_can_run(plan: PipelinePlan) -> None:
    assert [step.name for step in plan.steps] == ["prepare", "tune", "assess/score", "assess/judge", "publish"]
    assert plan.step("publish").depends_on == ("assess/judge", "tune")


def test_the_pipeline_keeps_its_settings_and_names(plan: PipelinePlan) -> None:
    assert (plan.name, plan.experiment, plan.tags) == ("harbour_tides", "harbour", {"owner": "pilots"})
    assert plan.continue_on_step_failure
    assert plan.force_rerun
    assert plan.source_file == "azureml/pipeline.yml"


def test_pipeline_inputs_keep_type_value_and_the_asset_that_they_came_from(plan: PipelinePlan) -> None:
    assert plan.inputs["tides"].source == PathSource(path="data/tides", asset="azureml:tides@latest", asset_version="4")
    assert plan.inputs["gauges"].source == PathSource(path="data/gauges.csv")
    assert plan.inputs["previous"].type == "mlflow_model"
    assert [plan.inputs[name].type for name in ("rate", "rounds", "verbose", "method")] == [
        "number",
        "integer",
        "boolean",
        "string",
    ]


def test_inputs_of_steps_are_bound_to_inputs_and_outputs_of_other_steps(plan: PipelinePlan) -> None:
    assert plan.step("prepare").inputs["tides"].source == PipelineInputSource(name="tides")
    assert plan.step("tune").inputs["clean"].source == StepOutputSource(step="prepare", output="clean")
    assert plan.step("publish").inputs["report"].source == StepOutputSource(step="assess/judge", output="report")


def test_bindings_go_through_the_nested_pipeline_to_where_the_value_is(plan: PipelinePlan) -> None:
    judge = plan.step("assess/judge")
    assert judge.inputs["threshold"].source == PipelineInputSource(name="rate")
    assert plan.source_of(judge.inputs["threshold"]) == LiteralSource(value=0.5)
    assert value_of(judge, "title") == "tides"


def test_defaults_are_what_azure_ai_ml_makes_of_them(plan: PipelinePlan) -> None:
    assert value_of(plan.step("tune"), "tolerance") == 0.001
    assert value_of(plan.step("tune"), "shrink") is False


def test_an_optional_input_that_is_not_given_has_no_source(plan: PipelinePlan) -> None:
    start = plan.step("tune").inputs["start"]
    assert (start.optional, start.source) == (True, None)


def test_text_around_a_binding_is_kept(plan: PipelinePlan) -> None:
    assert value_of(plan.step("prepare"), "label") == "harbour-ridge"
    assert plan.step("prepare").environment_variables == {"METHOD": "ridge", "PORT": "7"}


def test_outputs_know_type_registered_name_and_file_name(plan: PipelinePlan) -> None:
    model = plan.step("tune").outputs["model"]
    assert (model.type, model.registered_name) == ("mlflow_model", "tide-model")
    report = plan.step("assess/judge").outputs["report"]
    assert (report.type, report.file_name) == ("uri_file", "report.json")
    assert plan.outputs["report"] == PipelineOutput(step="assess/judge", output="report")


def test_a_search_keeps_its_space_objective_limits_and_policy(plan: PipelinePlan) -> None:
    tune = plan.step("tune")
    assert tune.sweep is not None
    assert [space.type for space in tune.sweep.search_space.values()] == ["loguniform", "randint", "choice"]
    assert tune.sweep.search_space["kernel"].values == ("rbf", "linear", 3, 0.5)  # type: ignore[union-attr]  # a choice
    assert (tune.sweep.objective.goal, tune.sweep.objective.primary_metric) == ("minimize", "rmse")
    assert (tune.sweep.limits.max_total_trials, tune.sweep.limits.trial_timeout_seconds) == (6, 300.0)
    assert tune.sweep.early_termination is not None
    assert tune.sweep.early_termination.type == "bandit"
    assert "rate" not in tune.inputs


def test_components_are_found_by_path_and_by_the_name_that_the_repository_declares(plan: PipelinePlan) -> None:
    assert plan.step("assess/score").code == "azureml/components/score"
    assert not plan.step("assess/score").deterministic
    assert (plan.step("publish").component, plan.step("publish").code) == ("publish_tides", "src")


def test_limits_are_read_also_where_they_are_bound_to_an_input(plan: PipelinePlan) -> None:
    assert plan.step("prepare").timeout_seconds == 120
    assert plan.step("publish").timeout_seconds == 600


def test_what_runs_as_one_process_here_is_said_so(plan: PipelinePlan) -> None:
    publish = plan.step("publish")
    assert publish.distribution is not None
    assert (publish.instance_count, publish.distribution.process_count) == (2, 2)
    assert len(publish.notes) == 2


def test_a_plan_goes_through_json_unchanged(plan: PipelinePlan) -> None:
    again = PipelinePlan.model_validate_json(plan.model_dump_json())
    assert (again, again.digest) == (plan, plan.digest)


def test_values_that_the_user_gives_count_more_than_those_of_the_file() -> None:
    plan = load_plan(LoadRequest(REQUEST.yaml_path, HARBOUR, inputs={"rounds": 7, "tides": "data", "method": "lasso"}))
    assert plan.inputs["rounds"].source == LiteralSource(value=7)
    assert plan.inputs["tides"].source == PathSource(path="data")
    assert plan.step("prepare").environment_variables["METHOD"] == "lasso"


def test_bound_data_counts_more_than_declared_data() -> None:
    plan = load_plan(LoadRequest(REQUEST.yaml_path, HARBOUR, bindings={"azureml:tides@latest": "src"}))
    assert plan.inputs["tides"].source == PathSource(path="src", asset="azureml:tides@latest")


def test_what_azure_ai_ml_refuses_is_told_with_its_place(project: Any) -> None:
    project.change("pipeline.yml", "    code: src\n", "    code: src\n    limits: {timeout: soon}\n")
    with pytest.raises(PipelineInvalidError) as caught:
        load_plan(project.request())
    (problem,) = caught.value.problems
    assert (problem.key, problem.line) == ("jobs.prepare.limits.timeout", 10)
    assert "Not a valid integer" in problem.message


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("pipeline.yml", "      clean:\n", "      clean: .inf\n"),
        ("train.yml", "max: 1", "max: much"),
        ("train.yml", "optional: true", "optional: {a: b}"),
        ("pipeline.yml", "rate: 0.5", "rate: .inf"),
    ],
)
def test_values_of_no_meaning_are_told_and_never_crash(project: Any, file: str, old: str, new: str) -> None:
    project.change(file, old, new)
    with pytest.raises(PipelineInvalidError):
        load_plan(project.request())


def test_the_workers_of_tensorflow_are_said_to_be_one(project: Any) -> None:
    project.change("train.yml", "code: src", "code: src\ndistribution: {type: tensorflow, worker_count: 3}")
    train = load_plan(project.request()).step("train")
    assert train.distribution is not None
    assert (train.distribution.process_count, len(train.notes)) == (3, 1)


EVERY_SPACE = """\
  tune:
    type: sweep
    trial: train.yml
    inputs: {clean: "${{parent.jobs.prepare.outputs.clean}}"}
    sampling_algorithm: {type: random, seed: 7, rule: sobol}
    objective: {goal: maximize, primary_metric: r2}
    limits: {max_total_trials: 2}
    early_termination: POLICY
    search_space: {rate: SPACE}
"""


def swept(project: Any, space: str, policy: str = "{type: median_stopping}") -> Any:
    text = (project.root / "pipeline.yml").read_text()
    project.write("pipeline.yml", text + EVERY_SPACE.replace("SPACE", space).replace("POLICY", policy))
    sweep = load_plan(project.request()).step("tune").sweep
    assert sweep is not None
    return sweep


@pytest.mark.parametrize(
    "space",
    [
        {"type": "choice", "values": [0.1, 0.2]},
        {"type": "uniform", "min_value": 0.0, "max_value": 1.0},
        {"type": "loguniform", "min_value": -3.0, "max_value": 0.0},
        {"type": "quniform", "min_value": 0.0, "max_value": 1.0, "q": 0.25},
        {"type": "qloguniform", "min_value": -3.0, "max_value": 0.0, "q": 0.1},
        {"type": "normal", "mu": 0.5, "sigma": 0.1},
        {"type": "lognormal", "mu": -1.0, "sigma": 0.1},
        {"type": "qnormal", "mu": 0.5, "sigma": 0.1, "q": 0.1},
        {"type": "qlognormal", "mu": -1.0, "sigma": 0.1, "q": 0.1},
        {"type": "randint", "upper": 2},
    ],
    ids=lambda space: space["type"],
)
def test_every_kind_of_search_space_is_read(project: Any, space: dict[str, Any]) -> None:
    sweep = swept(project, str(space).replace("'", ""))
    assert sweep.search_space["rate"].model_dump(mode="json") == space
    assert (sweep.algorithm, sweep.seed, sweep.rule) == ("random", 7, "sobol")


@pytest.mark.parametrize(
    "policy",
    [
        {"type": "bandit", "slack_amount": 0.2, "evaluation_interval": 2},
        {"type": "median_stopping", "delay_evaluation": 3},
        {"type": "truncation_selection", "truncation_percentage": 20, "evaluation_interval": 1},
    ],
    ids=lambda policy: policy["type"],
)
def test_every_kind_of_early_termination_is_read(project: Any, policy: dict[str, Any]) -> None:
    sweep = swept(project, "{type: uniform, min_value: 0, max_value: 1}", str(policy).replace("'", ""))
    assert sweep.early_termination.model_dump(mode="json") | policy == sweep.early_termination.model_dump(mode="json")


def test_a_search_space_that_means_nothing_is_told(project: Any) -> None:
    with pytest.raises(PipelineInvalidError, match=r"max_value 1\.0 is below min_value 2\.0"):
        swept(project, "{type: uniform, min_value: 2, max_value: 1}")
