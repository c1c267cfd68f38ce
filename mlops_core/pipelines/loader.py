"""
From Azure ML v2 pipeline YAML to a `PipelinePlan`, or to one error with everything that is in the way.

The cheap half, without azure-ai-ml, comes first: it reads all files, finds everything that is wrong or cannot run here,
and ends there. Only a pipeline that passed is loaded by azure-ai-ml, as the judge of its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlops_core.pipelines.assets import AssetIndex, kind_of
from mlops_core.pipelines.builder import Traced, build
from mlops_core.pipelines.checks import check_code, check_command, check_order
from mlops_core.pipelines.data_sources import DataResolver
from mlops_core.pipelines.documents import Document, Reader, read_or_raise
from mlops_core.pipelines.environment_specs import EnvironmentResolver
from mlops_core.pipelines.findings import Findings
from mlops_core.pipelines.known_keys import check_keys
from mlops_core.pipelines.outputs import OutputMap
from mlops_core.pipelines.plan import EnvironmentSpec, PipelinePlan, Scalar
from mlops_core.pipelines.source_tree import ScopeSource, StepSource, TreeReader
from mlops_core.pipelines.wiring import Wiring

# Raise it when the same files give another plan: cached plans of an older version are not used.
LOADER_VERSION = 2


@dataclass(frozen=True)
class LoadRequest:
    """A pipeline and what the user says about it."""

    yaml_path: Path
    project_root: Path
    """Assets are searched below it, and paths of the plan start at it."""
    inputs: Mapping[str, Scalar] = field(default_factory=dict)
    """Values for inputs of the pipeline; for data, a path from the project's root or a reference."""
    bindings: Mapping[str, str] = field(default_factory=dict)
    """Paths from the project's root by what the YAML names: `azureml:taxi-data@latest`, a datastore path, a URL."""
    environments: Mapping[str, str] = field(default_factory=dict)
    """
    What replaces an environment, by its reference, image or build path: a conda file, a requirements file, an
    environment's YAML, or `current`. The key `*` stands for each one that could not be met otherwise.
    """
    declared: tuple[Path, ...] = ()
    """Asset files that the search would not find, such as those outside the project's root."""


def load_plan(request: LoadRequest, reader: Reader | None = None) -> PipelinePlan:
    """
    Make the plan of a pipeline.

    Args:
        request: What to plan.
        reader: Keeps a record of the files that were read, for the cache.
    Raises:
        PipelineInvalidError: Something is wrong wherever it runs; all problems are listed with file, line and key.
        PipelineNotLocalError: Some steps cannot run here; each is listed with what to do.
    """
    reader = reader or Reader(request.project_root)
    traced, tree = _trace(request, reader)
    # Imported here, since a cached plan needs none of it.
    from mlops_core.pipelines.azure_job import load

    return build(traced, load(request.yaml_path, tree, reader))


def check_pipeline(request: LoadRequest) -> None:
    """
    Find what is wrong with a pipeline or cannot run here, without azure-ai-ml and within milliseconds.

    Raises: As `load_plan`.
    """
    _trace(request, Reader(request.project_root))


def _trace(request: LoadRequest, reader: Reader) -> tuple[Traced, ScopeSource]:
    findings = Findings()
    document = read_or_raise(reader, request.yaml_path)
    _check_is_pipeline(document, findings)
    assets = AssetIndex(reader, request.declared)
    scope, wrapped = TreeReader(reader, assets, findings).read(document)
    check_keys(document, scope, findings)
    outputs = OutputMap(document, scope, wrapped, findings)
    wiring = Wiring(DataResolver(reader, assets, findings, request.bindings), outputs, findings)
    wiring.connect(document, scope, wrapped, request.inputs)
    resolver = EnvironmentResolver(reader, assets, findings, request.environments)
    steps = {step.name: step for step in scope.all_steps() if step.name in wiring.step_inputs}
    environments: dict[str, EnvironmentSpec] = {}
    code: dict[str, str | None] = {}
    for name, step in steps.items():
        check_command(step, wiring.step_inputs[name], outputs.of_step(step), findings)
        code[name] = check_code(step, reader, findings)
        environment = _environment(step, resolver)
        if environment is not None:
            environments[name] = environment
    check_order(wiring.step_inputs, document, findings)
    findings.raise_if_any(document.label)
    return Traced(document.label, steps, wiring, outputs, environments, code), scope


def _check_is_pipeline(document: Document, findings: Findings) -> None:
    if kind_of(document.data) == "component":
        message = "this is a component, not a job: its inputs have no values. Name it as 'component' in a pipeline job."
        findings.problem(document, ("type",), message)
    elif str(document.data.get("type", "pipeline")) != "pipeline":
        message = f"this is a job of type '{document.data['type']}', not a pipeline. Write 'type: pipeline' and 'jobs'."
        findings.problem(document, ("type",), message)
    findings.raise_if_any(document.label)


def _environment(step: StepSource, resolver: EnvironmentResolver) -> EnvironmentSpec | None:
    """The step's own word counts more than its component's."""
    component = step.component
    if component is None:
        return None
    if "environment" in step.data:
        return resolver.resolve(step.data["environment"], step.document, (*step.at, "environment"), step.name)
    key = (*component.at, "environment")
    return resolver.resolve(component.data.get("environment"), component.document, key, step.name)
