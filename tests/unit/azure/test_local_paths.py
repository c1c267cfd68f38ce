"""What a commit's YAML may name on the controller's disk: nothing but the commit, whose files go to the project's jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_core.adapters.azure.local_paths import check_paths
from mlops_core.domain.errors import BadInputError

PIPELINE = """
type: pipeline
inputs:
  rows: {type: uri_file, path: ../data/rows.csv}
  place: {type: string, path: ./rows.csv}
  file: /a/text/that/is/no/path
jobs:
  train:
    component: train.yml
    environment_variables: {path: /usr/bin}
  nested: {type: pipeline, component: file:deeper/nested.yml}
  elsewhere: {component: azureml:other@latest, inputs: {x: {path: "https://example.com/../../x"}}}
"""
COMPONENT = """
type: command
command: ls ../../..
description: ../../.. is the root
code: ../src
environment: {image: x, conda_file: conda.yml}
"""


@pytest.fixture
def commit(tmp_path: Path) -> Path:
    root = tmp_path / "commit"
    (root / "azureml" / "deeper").mkdir(parents=True)
    (root / "azureml" / "pipeline.yml").write_text(PIPELINE)
    (root / "azureml" / "train.yml").write_text(COMPONENT)
    (root / "azureml" / "deeper" / "nested.yml").write_text("jobs: {a: {component: ../train.yml}}")
    return root


def refusal(root: Path, file: str = "azureml/pipeline.yml") -> str:
    with pytest.raises(BadInputError) as refused:
        check_paths(root, [("mlops.yaml, train.pipeline", root / file)])
    return str(refused.value)


def test_what_is_in_the_repository_may_be_named_from_anywhere_in_it(commit: Path) -> None:
    check_paths(commit, [("mlops.yaml, train.pipeline", commit / "azureml" / "pipeline.yml")])


@pytest.mark.parametrize(
    ("file", "written", "place"),
    [
        ("azureml/pipeline.yml", "jobs: {a: {component: /etc/passwd}}", "line 1: jobs.a.component: '/etc/passwd'"),
        ("azureml/pipeline.yml", "inputs: {a: {path: /proc/self/environ}}", "inputs.a.path: '/proc/self/environ'"),
        ("azureml/pipeline.yml", "inputs: {a: {path: ../../secrets}}", "inputs.a.path: '../../secrets'"),
        ("azureml/pipeline.yml", "jobs: {a: {environment: 'file:/etc/x.yml'}}", "'file:/etc/x.yml' leads out"),
        ("azureml/pipeline.yml", "jobs: {a: {inputs: {code: 'file:/etc/x.yml'}}}", "'file:/etc/x.yml' leads out"),
        ("azureml/train.yml", "code: /proc/self", "azureml/train.yml line 1: code: '/proc/self'"),
        ("azureml/train.yml", "code: ../..", "azureml/train.yml line 1: code: '../..'"),
        ("azureml/train.yml", "additional_includes: [../src, /home]", "additional_includes.1: '/home'"),
        ("azureml/train.additional_includes", "../src\n/home\n", "azureml/train.additional_includes line 2: '/home'"),
        ("azureml/train.yml", "environment: {conda_file: /proc/self/environ}", "conda_file: '/proc/self/environ'"),
        ("azureml/train.yml", "environment: {build: {path: ../../..}}", "environment.build.path: '../../..'"),
        ("azureml/train.yml", "type: spark\nentry: {file: /etc/x.py}\njars: [/opt/x.jar]", "jars.0: '/opt/x.jar'"),
        ("azureml/deeper/nested.yml", "jobs: {a: {trial: {code: /root}}}", "nested.yml line 1: jobs.a.trial.code: '/root'"),
        ("azureml/train.yml", "a: &a [1]\nb: [" + "*a, " * 60_000 + "]", "expands to more than"),
    ],
)  # fmt: skip
def test_what_leads_out_of_the_repository_is_refused_with_its_place(
    commit: Path, file: str, written: str, place: str
) -> None:
    (commit / file).write_text(written)

    assert place in refusal(commit)


def test_a_pipeline_outside_of_the_repository_is_not_even_read(commit: Path) -> None:
    (commit.parent / "pipeline.yml").write_text("secret: 1")

    text = refusal(commit, "../pipeline.yml")

    assert "mlops.yaml, train.pipeline: 'pipeline.yml' is not in the repository." in text
    assert "secret" not in text
