"""A small project with a pipeline that is right; each test breaks one thing of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_core.pipelines.errors import PipelineInvalidError, PipelineNotLocalError, Problem
from mlops_core.pipelines.loader import LoadRequest, check_pipeline

HARBOUR = Path(__file__).parent / "fixtures" / "harbour"

PIPELINE = """\
type: pipeline
inputs:
  data: {type: uri_folder, path: data}
  rate: 0.5
  name: tides
jobs:
  prepare:
    command: python prepare.py ${{inputs.data}} ${{outputs.clean}}
    code: src
    environment: {image: python, conda_file: conda.yml}
    inputs:
      data: ${{parent.inputs.data}}
    outputs:
      clean:
  train:
    component: train.yml
    inputs:
      clean: ${{parent.jobs.prepare.outputs.clean}}
      rate: ${{parent.inputs.rate}}
"""
COMPONENT = """\
type: command
name: train
inputs:
  clean: {type: uri_folder}
  rate: {type: number, min: 0, max: 1}
  rounds: {type: integer, default: 3}
  kind: {type: string, default: ridge, enum: [ridge, lasso]}
  start: {type: mlflow_model, optional: true}
outputs:
  model: {type: mlflow_model}
command: python train.py ${{inputs.clean}} ${{inputs.rate}} ${{outputs.model}} $[[--start ${{inputs.start}}]]
code: src
environment: {image: python, conda_file: conda.yml}
"""
CONDA = "dependencies: [python=3.11, pip, {pip: [pandas]}]\n"


class Project:
    """The project's folder, with what tests do to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "src").mkdir()
        (root / "data").mkdir()
        self.write("pipeline.yml", PIPELINE)
        self.write("train.yml", COMPONENT)
        self.write("conda.yml", CONDA)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def change(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text(encoding="utf-8")
        assert old in text
        self.write(name, text.replace(old, new, 1))

    def request(self, **extra: object) -> LoadRequest:
        return LoadRequest(self.root / "pipeline.yml", self.root, **extra)

    def problems(self, **extra: object) -> tuple[Problem, ...]:
        with pytest.raises(PipelineInvalidError) as caught:
            check_pipeline(self.request(**extra))
        return caught.value.problems

    def refusals(self, **extra: object) -> tuple[Problem, ...]:
        with pytest.raises(PipelineNotLocalError) as caught:
            check_pipeline(self.request(**extra))
        return caught.value.refusals


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def add_step(project: Project) -> Callable[[str], None]:
    """Append lines below `jobs`."""

    def add(text: str) -> None:
        project.write("pipeline.yml", PIPELINE + text)

    return add
