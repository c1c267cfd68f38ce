"""What Azure ML can run and a laptop cannot is refused before anything starts, step by step, in one message."""

from typing import Any

import pytest

from mlops_core.pipelines.errors import PipelineInvalidError, PipelineNotLocalError
from mlops_core.pipelines.loader import check_pipeline

STEPS = {
    "spark": ("  big: {type: spark, entry: {file: a.py}}\n", "no Spark here"),
    "parallel": ("  big: {type: parallel, mini_batch_size: 5}\n", "parallel step"),
    "automl": ("  big: {type: automl, task: regression}\n", "automl step"),
    "import": ("  big: {type: import, source: {}}\n", "import step"),
    "data transfer": ("  big: {type: data_transfer, task: copy_data}\n", "data transfer step"),
    "condition": ("  big: {type: if_else, condition: x}\n", "condition step"),
    "registry component": (
        "  big: {component: 'azureml://registries/azureml/components/x/versions/1'}\n",
        "is in the registry 'azureml'",
    ),
    "component of the workspace": ("  big: {component: 'azureml:trian@latest'}\n", "registered in the workspace only"),
    "component that is spark": ("  big: {component: spark.yml}\n", "no Spark here"),
    "datastore": (
        "  big: {command: 'true', environment: {image: python}, inputs: {d: {path: 'azureml://datastores/a/paths/b'}}}\n",
        "is not on this machine",
    ),
    "web address": (
        "  big: {command: 'true', environment: {image: python}, inputs: {d: {type: uri_file, path: 'https://h/a.csv'}}}\n",
        "is not on this machine",
    ),
    "asset of the workspace": (
        "  big: {command: 'true', environment: {image: python}, inputs: {d: {path: 'azureml:tides:1'}}}\n",
        "declares the data asset 'azureml:tides:1'",
    ),
    "code elsewhere": ("  big: {command: 'true', environment: {image: python}, code: 'git+https://h/r'}\n", "its code"),
    "unknown image": ("  big: {command: 'true', environment: {image: 'own/image:1'}}\n", "packages are unknown"),
    "container context": ("  big: {command: 'true', environment: {build: {path: docker}}}\n", "no container engine"),
    "environment of the workspace": ("  big: {command: 'true', environment: 'azureml:own:1'}\n", "'azureml:own:1'"),
    "curated for CUDA": (
        "  big: {command: 'true', environment: 'azureml://registries/azureml/environments/acpt-pytorch-2.8-cuda12.6'}\n",
        "is not in the repository",
    ),
}


@pytest.mark.parametrize(("text", "words"), STEPS.values(), ids=STEPS)
def test_a_step_that_cannot_run_here_is_refused_with_its_name_and_reason(
    project: Any, add_step: Any, text: str, words: str
) -> None:
    project.write("spark.yml", "type: spark\nname: spark\nentry: {file: a.py}\n")
    add_step(text)
    (refusal,) = project.refusals()
    assert refusal.step == "big"
    assert words in refusal.message


def test_all_steps_are_in_one_message_with_what_to_do(project: Any, add_step: Any) -> None:
    add_step(STEPS["spark"][0] + STEPS["web address"][0].replace("big", "far"))
    with pytest.raises(PipelineNotLocalError) as caught:
        check_pipeline(project.request())
    message = str(caught.value)
    assert "nothing was started" in message
    assert "step 'big' (pipeline.yml line 20)" in message
    assert "step 'far'" in message
    assert '--bind "https://h/a.csv=PATH"' in message


def test_a_step_that_reads_from_a_refused_one_is_not_told_to_be_wrong(project: Any, add_step: Any) -> None:
    reader = "  small: {command: 'true', environment: {image: python}, inputs: {d: '${{parent.jobs.big.outputs.o}}'}}\n"
    add_step(STEPS["registry component"][0] + reader)
    assert {refusal.step for refusal in project.refusals()} == {"big"}


def test_problems_are_told_before_refusals_and_with_them(project: Any, add_step: Any) -> None:
    add_step(STEPS["spark"][0] + "  odd: {comand: x}\n")
    with pytest.raises(PipelineInvalidError, match="no Spark here"):
        check_pipeline(project.request())


@pytest.mark.parametrize("name", ["datastore", "web address", "asset of the workspace"])
def test_data_that_the_user_binds_is_not_refused(project: Any, add_step: Any, name: str) -> None:
    project.write("a.csv", "x\n")
    add_step(STEPS[name][0])
    bindings = {"azureml://datastores/a/paths/b": "data", "https://h/a.csv": "a.csv", "azureml:tides:1": "data"}
    check_pipeline(project.request(bindings=bindings))


@pytest.mark.parametrize(
    "key", ["azureml://registries/azureml/environments/acpt-pytorch-2.8-cuda12.6", "*"], ids=["by name", "any"]
)
def test_an_environment_that_the_user_replaces_is_not_refused(project: Any, add_step: Any, key: str) -> None:
    add_step(STEPS["curated for CUDA"][0])
    check_pipeline(project.request(environments={key: "current"}))


def test_a_version_that_is_not_declared_is_refused_with_those_that_are(project: Any, add_step: Any) -> None:
    project.change("train.yml", "name: train", "name: train\nversion: 2")
    add_step("  big: {component: 'azureml:train:3'}\n")
    (refusal,) = project.refusals()
    assert "(declared: 2)" in refusal.message
