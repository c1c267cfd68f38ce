# ruff: noqa: E501 - one slip a line reads as a table
"""What is wrong wherever a pipeline runs is told with file, line, key and what to do."""

from typing import Any

import pytest

from mlops_core.pipelines.errors import PipelineInvalidError
from mlops_core.pipelines.loader import check_pipeline

# file, old text, new text, key that is named, words of the message
SLIPS = {
    "misspelt key of the pipeline": ("pipeline.yml", "type: pipeline", "type: pipeline\ndisplayname: x", "displayname", "Did you mean 'display_name'?"),
    "misspelt key of the settings": ("pipeline.yml", "jobs:", "settings: {default_datestore: a}\njobs:", "settings.default_datestore", "Did you mean 'default_datastore'?"),
    "misspelt key of a step": ("pipeline.yml", "    code: src", "    codes: src", "jobs.prepare.codes", "Did you mean 'code'?"),
    "misspelt key of a component": ("train.yml", "code: src", "codes: src", "codes", "Did you mean 'code'?"),
    "misspelt key of an input": ("pipeline.yml", "path: data}", "pth: data}", "inputs.data.pth", "Did you mean 'path'?"),
    "misspelt key of an environment": ("train.yml", "conda_file:", "conda_fil:", "environment.conda_fil", "Did you mean 'conda_file'?"),
    "no jobs": ("pipeline.yml", "jobs:", "tags:", "jobs", "there are no jobs"),
    "unknown type of step": ("pipeline.yml", "    component: train.yml", "    type: comand\n    component: train.yml", "jobs.train.type", "Did you mean 'command'?"),
    "missing code": ("pipeline.yml", "code: src", "code: sources", "jobs.prepare.code", "does not exist (sources)"),
    "missing data": ("pipeline.yml", "path: data}", "path: dta}", "inputs.data.path", "does not exist (dta)"),
    "missing component": ("pipeline.yml", "component: train.yml", "component: trian.yml", "jobs.train.component", "No such file"),
    "missing conda file": ("pipeline.yml", "conda_file: conda.yml", "conda_file: cnda.yml", "jobs.prepare.environment.conda_file", "No such file"),
    "file instead of folder": ("pipeline.yml", "path: data}", "path: conda.yml}", "inputs.data.path", "is a file, but the type is uri_folder"),
    "folder instead of file": ("pipeline.yml", "uri_folder, path: data", "uri_file, path: data", "inputs.data.path", "is a folder, but the type is uri_file"),
    "no model in the folder": ("pipeline.yml", "uri_folder, path: data", "mlflow_model, path: data", "inputs.data.path", "holds no file 'MLmodel'"),
    "no table in the folder": ("pipeline.yml", "uri_folder, path: data", "mltable, path: data", "inputs.data.path", "holds no file 'MLTable'"),
    "unbound input of a component": ("pipeline.yml", "      rate: ${{parent.inputs.rate}}\n", "", "jobs.train.inputs.rate", "required and has no value"),
    "input that the component has not": ("pipeline.yml", "      rate:", "      rat: 1\n      rate:", "jobs.train.inputs.rat", "Did you mean 'rate'?"),
    "output that the component has not": ("pipeline.yml", "      rate: ${{parent.inputs.rate}}\n", "      rate: 0.1\n    outputs: {modl: }\n", "jobs.train.outputs.modl", "Did you mean 'model'?"),
    "output of the pipeline that is not there": ("pipeline.yml", "      clean:\n  train", "      clean: ${{parent.outputs.clean}}\n  train", "jobs.prepare.outputs.clean", "no output 'clean'"),
    "binding to an unknown input": ("pipeline.yml", "parent.inputs.rate", "parent.inputs.rte", "jobs.train.inputs.rate", "Did you mean 'rate'?"),
    "binding to an unknown step": ("pipeline.yml", "parent.jobs.prepare", "parent.jobs.prepar", "jobs.train.inputs.clean", "Did you mean 'prepare'?"),
    "binding to an unknown output": ("pipeline.yml", "outputs.clean}}\n      rate", "outputs.clan}}\n      rate", "jobs.train.inputs.clean", "Did you mean 'clean'?"),
    "binding of the wrong form": ("pipeline.yml", "${{parent.inputs.rate}}", "${{inputs.rate}}", "jobs.train.inputs.rate", "no binding that an input can have"),
    "data where a number is due": ("pipeline.yml", "${{parent.inputs.rate}}", "${{parent.inputs.data}}", "jobs.train.inputs.rate", "is of type uri_folder"),
    "text where data is due": ("pipeline.yml", "${{parent.jobs.prepare.outputs.clean}}", "data", "jobs.train.inputs.clean", "'type: uri_folder'"),
    "text where a number is due": ("pipeline.yml", "${{parent.inputs.rate}}", "${{parent.inputs.name}}", "jobs.train.inputs.rate", "'tides' is no number"),
    "number above its limit": ("pipeline.yml", "rate: 0.5", "rate: 1.5", "jobs.train.inputs.rate", "above its largest value 1"),
    "fraction for an integer": ("pipeline.yml", "      rate:", "      rounds: 2.5\n      rate:", "jobs.train.inputs.rounds", "no integer"),
    "none of the choices": ("pipeline.yml", "      rate:", "      kind: linear\n      rate:", "jobs.train.inputs.kind", "ridge, lasso"),
    "unknown type of input": ("train.yml", "type: uri_folder}", "type: uri_dir}", "jobs.train.inputs.clean", "'uri_dir' is no type of an input"),
    "placeholder without input": ("pipeline.yml", "${{inputs.data}}", "${{inputs.dat}}", "jobs.prepare.command", "Did you mean 'data'?"),
    "placeholder of the wrong form": ("pipeline.yml", "${{inputs.data}}", "${{parent.inputs.data}}", "jobs.prepare.command", "is no placeholder"),
    "optional input outside brackets": ("train.yml", "$[[--start ${{inputs.start}}]]", "--start ${{inputs.start}}", "command", "Put it into '$[[...]]'"),
    "no command": ("train.yml", "command: python", "description: python", "command", "there is no command"),
    "no environment": ("train.yml", "environment: {image: python, conda_file: conda.yml}", "", "environment", "has no environment"),
    "input without a value": ("pipeline.yml", "{type: uri_folder, path: data}", "{type: uri_folder}", "inputs.data", "--input NAME=VALUE"),
    "job that is no pipeline": ("pipeline.yml", "type: pipeline", "type: command", "type", "not a pipeline"),
}  # fmt: skip


@pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS)
def test_a_slip_is_told_with_its_key_and_a_way_out(project: Any, slip: Any) -> None:
    file, old, new, key, words = slip
    project.change(file, old, new)
    found = [problem for problem in project.problems() if problem.key == key]
    assert found, project.problems()
    assert words in found[0].message
    assert found[0].line is not None


def test_the_pipeline_that_the_slips_are_made_in_is_right(project: Any) -> None:
    check_pipeline(project.request())


def test_a_plain_value_may_be_written_as_a_mapping_with_value(project: Any) -> None:
    project.change("pipeline.yml", "rate: 0.5", "rate: {value: 0.5}")
    project.change("pipeline.yml", "      rate: ${{parent.inputs.rate}}", "      rate: {value: 0.1}")
    check_pipeline(project.request())


def test_the_type_from_before_v2_counts_as_a_folder(project: Any) -> None:
    project.change("train.yml", "clean: {type: uri_folder}", "clean: {type: path}")
    check_pipeline(project.request())


def test_the_line_is_that_of_the_key_in_the_file_that_holds_it(project: Any) -> None:
    project.change("train.yml", "code: src", "codes: src")
    (problem,) = project.problems()
    assert (problem.file, problem.line) == ("train.yml", 12)


def test_all_problems_are_told_at_once(project: Any) -> None:
    project.change("pipeline.yml", "code: src", "code: sources")
    project.change("pipeline.yml", "parent.inputs.rate", "parent.inputs.rte")
    with pytest.raises(PipelineInvalidError, match=r"has 2 problems; nothing was started") as caught:
        check_pipeline(project.request())
    assert [problem.step for problem in caught.value.problems] == ["train", "prepare"]


def test_steps_that_wait_for_each_other_are_named_in_order(project: Any) -> None:
    project.change(
        "pipeline.yml", "      data: ${{parent.inputs.data}}", "      data: ${{parent.jobs.train.outputs.model}}"
    )
    (problem,) = project.problems()
    assert "prepare -> train -> prepare" in problem.message or "train -> prepare -> train" in problem.message


def test_a_component_that_contains_itself_is_told(project: Any) -> None:
    project.write(
        "loop.yml", "type: pipeline\nname: loop\njobs:\n  again:\n    component: loop.yml\n    type: pipeline\n"
    )
    project.change("pipeline.yml", "component: train.yml", "component: loop.yml")
    assert any("contains itself" in problem.message for problem in project.problems())


def test_a_component_is_no_job(project: Any) -> None:
    project.change(
        "pipeline.yml", "type: pipeline", "$schema: x/pipelineComponent.schema.json\ntype: pipeline\nname: a"
    )
    (problem,) = project.problems()
    assert "a component, not a job" in problem.message


def test_a_value_for_an_input_that_is_not_there_is_told(project: Any) -> None:
    (problem,) = project.problems(inputs={"rat": 1})
    assert "Did you mean 'rate'?" in problem.message


def test_a_value_that_does_not_fit_is_told(project: Any) -> None:
    (problem,) = project.problems(inputs={"rate": "much"})
    assert "'much' is no number" in problem.message


SWEEP = """\
  tune:
    type: sweep
    trial: train.yml
    inputs:
      clean: ${{parent.jobs.prepare.outputs.clean}}
    sampling_algorithm: random
    search_space:
      rate: {type: uniform, min_value: 0, max_value: 1}
    objective: {goal: minimize, primary_metric: rmse}
    limits: {max_total_trials: 2}
"""


def test_the_search_gives_the_value_of_a_required_input(project: Any, add_step: Any) -> None:
    add_step(SWEEP)
    check_pipeline(project.request())


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        ("type: uniform", "type: unifrm", "jobs.tune.search_space.rate.type", "Did you mean 'uniform'?"),
        ("max_value: 1", "max: 1", "jobs.tune.search_space.rate.max", "Known keys: max_value"),
        ("      rate:", "      depth: {type: randint, upper: 3}\n      rate:", "jobs.tune.search_space.depth", "does not use 'depth'"),
        ("primary_metric", "metric", "jobs.tune.objective.metric", "Did you mean 'primary_metric'?"),
        ("    trial: train.yml\n", "", "jobs.tune", "needs the key 'trial'"),
    ],
)  # fmt: skip
def test_a_slip_in_a_search_is_told(project: Any, add_step: Any, old: str, new: str, key: str, words: str) -> None:
    add_step(SWEEP.replace(old, new))
    found = [problem for problem in project.problems() if problem.key == key]
    assert found, project.problems()
    assert words in found[0].message
