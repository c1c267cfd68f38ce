"""
A pipeline as values that a local executor can run: steps in a flat list, each input already traced to its source.

The loader makes a `PipelinePlan` from Azure ML v2 YAML; the executor, the plan cache and the survey read it. Nothing
here imports azure-ai-ml, and a plan goes through JSON unchanged, so that a plan made once is run without that import.

Nested pipelines are flattened: `train/score` is the step `score` of the pipeline component behind the step `train`, and
no binding to a parent pipeline is left. That is the decision a reader may question; it spares the executor scopes, and
the names keep the nesting visible.

Paths are as POSIX text, relative to the project's root where they lie in it and absolute elsewhere: a plan is the same
for each checkout of the same commit.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mlops_core.domain.values import Value
from mlops_core.pipelines.search_space import Sweep

LiteralType = Literal["string", "integer", "number", "boolean"]
AssetType = Literal["uri_file", "uri_folder", "mltable", "mlflow_model", "custom_model", "triton_model"]
Scalar = bool | int | float | str


class LiteralSource(Value):
    """A value written in the YAML, a component's default or an override."""

    kind: Literal["literal"] = "literal"
    value: Scalar

    @property
    def text(self) -> str:
        """The value as the step's command line gets it: `True`, `0.1`, `time-based`."""
        return str(self.value)


class PathSource(Value):
    """A file or folder that is there before the pipeline starts."""

    kind: Literal["path"] = "path"
    path: str
    """POSIX; relative to the project's root, or absolute. See `absolute`."""
    asset: str | None = None
    """The reference that led here, such as `azureml:taxi-data@latest`, for lineage; None for a plain path."""
    asset_version: str | None = None
    """The version declared in the asset's own YAML, where it has one."""

    def absolute(self, project_root: Path) -> Path:
        """Give the path on this machine."""
        return project_root / self.path


class PipelineInputSource(Value):
    """The value of an input of the pipeline itself; `PipelinePlan.source_of` resolves it."""

    kind: Literal["pipeline_input"] = "pipeline_input"
    name: str


class StepOutputSource(Value):
    """An output of an earlier step."""

    kind: Literal["step_output"] = "step_output"
    step: str
    output: str


Source = Annotated[
    LiteralSource | PathSource | PipelineInputSource | StepOutputSource,
    Field(discriminator="kind"),
]


class PipelineInput(Value):
    """An input of the pipeline with the value that it has in this plan."""

    type: LiteralType | AssetType
    source: Annotated[LiteralSource | PathSource, Field(discriminator="kind")] | None = None
    """None: an optional input that was not given."""


class PipelineOutput(Value):
    """An output of the pipeline: another name for an output of a step."""

    step: str
    output: str


class StepInput(Value):
    """An input of a step, `${{inputs.NAME}}` in its command."""

    type: LiteralType | AssetType
    source: Source | None = None
    """None: optional and not given, so each `$[[...]]` of the command that names it is left out."""
    optional: bool = False
    mode: str | None = None
    """As in the YAML (`ro_mount`, `download`, `direct`...): locally each is the path itself."""


class StepOutput(Value):
    """An output of a step, `${{outputs.NAME}}` in its command: a folder, or a file where the type is `uri_file`."""

    type: AssetType = "uri_folder"
    registered_name: str | None = None
    """Register the output under this name once the step succeeded: a model or data asset."""
    registered_version: str | None = None
    file_name: str | None = None
    """Of a `uri_file`, the last part of the declared path such as `hello_world.txt`; None: choose one."""
    holds_artifacts: bool = False
    """
    True for the implicit output: it is the folder that has the step's `./outputs` (and `./logs`) as subfolders,
    whatever the command does.
    """
    mode: str | None = None


class EnvironmentSpec(Value):
    """
    What a step's Python must hold.

    `current` asks for the interpreter at hand. Otherwise at most one of `conda` and `pip_requirements` is filled; with
    neither, a bare Python (and pip) is what the step declared.
    """

    name: str
    """How the YAML calls it, for the log: `azureml:taxi-train-env@latest`, `image python`."""
    current: bool = False
    python_version: str | None = None
    """
    From the conda file or the image's tag: a version such as `3.10`, of which each patch will do, or a range such as
    `>=3.11,<3.14`; None: any.
    """
    conda: dict[str, object] | None = None
    """The conda file as it is, parsed."""
    pip_requirements: tuple[str, ...] = ()
    image: str | None = None
    """The container image that the YAML names. It is not used locally."""
    note: str | None = None
    """What differs from Azure ML, in a sentence for the step's log."""


class Distribution(Value):
    """How Azure ML would start the processes of a step; locally a step has exactly one process."""

    type: Literal["mpi", "pytorch", "tensorflow", "ray"]
    process_count: int = 1
    """Per instance, or all workers of TensorFlow. The executor sets RANK=0 and WORLD_SIZE=1, which scripts read."""


class Step(Value):
    """One command, or one sweep over a command."""

    name: str
    """Unique in the plan; `parent/child` where pipelines are nested."""
    kind: Literal["command", "sweep"]
    display_name: str | None = None
    description: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    command: str
    """
    With `${{inputs.x}}`, `${{outputs.x}}`, `${{search_space.x}}` and optional parts `$[[...]]` still in it. A line for
    the shell (`bash -c` on Azure ML).
    """
    code: str | None = None
    """Folder, or single file, as in `PathSource.path`; None: the step has no code."""
    environment: EnvironmentSpec
    environment_variables: dict[str, str] = Field(default_factory=dict)
    """May hold the same placeholders as the command."""
    inputs: dict[str, StepInput] = Field(default_factory=dict)
    outputs: dict[str, StepOutput] = Field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    """Names of the steps whose outputs this one reads, sorted."""
    timeout_seconds: float | None = Field(default=None, gt=0)
    instance_count: int = 1
    """As declared; locally one process runs, `notes` says so."""
    distribution: Distribution | None = None
    sweep: Sweep | None = None
    """Given exactly where `kind` is `sweep`; the other fields then describe each trial."""
    deterministic: bool = True
    """False: the component asks not to be reused (`is_deterministic: false`)."""
    component: str | None = None
    """The component's own name, where the step comes from one."""
    notes: tuple[str, ...] = ()
    """What the YAML asks for and the laptop leaves out, in sentences for the step's log."""


class PipelinePlan(Value):
    """A pipeline, ready to be run locally."""

    name: str
    """The pipeline's `name`, else its display name, else the file's folder; for people, not unique."""
    display_name: str | None = None
    description: str | None = None
    experiment: str
    tags: dict[str, str] = Field(default_factory=dict)
    inputs: dict[str, PipelineInput] = Field(default_factory=dict)
    outputs: dict[str, PipelineOutput] = Field(default_factory=dict)
    steps: tuple[Step, ...] = Field(min_length=1)
    """In an order in which they can run one after the other."""
    continue_on_step_failure: bool = False
    """True: after a failure, steps that do not depend on the failed one still run."""
    force_rerun: bool = False
    """True: no step is reused from an earlier run."""
    notes: tuple[str, ...] = ()
    source_file: str
    """The YAML, as in `PathSource.path`."""

    @property
    def digest(self) -> str:
        """SHA-256 of the plan in hex: equal for equal plans on each machine. The contents of files are not in it."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def step(self, name: str) -> Step:
        """Give the step of that name. Raises KeyError where there is none."""
        return {step.name: step for step in self.steps}[name]

    def source_of(self, step_input: StepInput) -> LiteralSource | PathSource | StepOutputSource | None:
        """Give where the input's value comes from, with bindings to pipeline inputs resolved; None: not given."""
        source = step_input.source
        if isinstance(source, PipelineInputSource):
            return self.inputs[source.name].source
        return source
