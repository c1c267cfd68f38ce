"""
Join what was traced in the raw YAML with what azure-ai-ml says about it: the plan.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from mlops_core.pipelines.azure_job import LoadedJob, LoadedStep
from mlops_core.pipelines.checks import dependencies, notes_of_resources, order_of
from mlops_core.pipelines.errors import PipelineInvalidError
from mlops_core.pipelines.outputs import OutputMap
from mlops_core.pipelines.plan import (
    Distribution,
    EnvironmentSpec,
    LiteralSource,
    PipelinePlan,
    Step,
    StepInput,
)
from mlops_core.pipelines.ports import input_values
from mlops_core.pipelines.references import bound_value
from mlops_core.pipelines.source_tree import StepSource
from mlops_core.pipelines.sweeps import SweepInvalidError, read_sweep
from mlops_core.pipelines.wiring import Wiring

_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Traced:
    """Everything that was found without azure-ai-ml."""

    source_file: str
    steps: Mapping[str, StepSource]
    """Those that run a command, by name."""
    wiring: Wiring
    outputs: OutputMap
    environments: Mapping[str, EnvironmentSpec]
    code: Mapping[str, str | None]


def build(traced: Traced, loaded: LoadedJob) -> PipelinePlan:
    """
    Make the plan.

    Raises:
        PipelineInvalidError: A timeout, a count or a search space has a value that means nothing.
    """
    steps = tuple(_step(traced, loaded, name) for name in order_of(traced.wiring.step_inputs))
    source = PurePosixPath(traced.source_file)
    label = loaded.name or loaded.display_name or source.parent.name or source.stem
    unbound = traced.outputs.unbound()
    notes = (f"No step writes the pipeline's outputs {', '.join(unbound)}.",) if unbound else ()
    return PipelinePlan(
        name=_NOT_A_NAME.sub("_", label),
        display_name=loaded.display_name,
        description=loaded.description,
        experiment=loaded.experiment or _NOT_A_NAME.sub("_", label),
        tags=dict(loaded.tags),
        inputs=traced.wiring.pipeline_inputs,
        outputs=traced.outputs.of_pipeline(),
        steps=steps,
        continue_on_step_failure=loaded.continue_on_step_failure,
        force_rerun=loaded.force_rerun,
        notes=notes,
        source_file=traced.source_file,
    )


def _step(traced: Traced, loaded: LoadedJob, name: str) -> Step:
    source, facts = traced.steps[name], loaded.steps[name]
    scope_name = name.rpartition("/")[0]
    inputs = _with_loaded_values(traced.wiring.step_inputs[name], source, facts)
    settings = _Settings(traced, source, scope_name)
    step = Step(
        name=name,
        kind="sweep" if source.kind == "sweep" else "command",
        display_name=facts.display_name,
        description=facts.description,
        tags=dict(facts.tags),
        command=facts.command,
        code=traced.code[name],
        environment=traced.environments[name],
        environment_variables={
            key: traced.wiring.expand(value, scope_name) for key, value in facts.environment_variables.items()
        },
        inputs=inputs,
        outputs=traced.outputs.of_step(source),
        depends_on=dependencies(inputs),
        # The timeout of a sweep is the whole search's; each trial has its own.
        timeout_seconds=None if facts.sweep is not None else settings.seconds(facts.timeout, ("limits", "timeout")),
        instance_count=settings.count(facts.instance_count, ("resources", "instance_count")) or 1,
        distribution=_distribution(facts.distribution, settings),
        sweep=settings.sweep(facts.sweep) if facts.sweep is not None else None,
        deterministic=facts.deterministic,
        component=facts.component,
    )
    return step.model_copy(update={"notes": notes_of_resources(step)})


def _with_loaded_values(inputs: Mapping[str, StepInput], source: StepSource, facts: LoadedStep) -> dict[str, StepInput]:
    """Take plain values as azure-ai-ml reads them: `default: 1024` of a number is 1024.0, `1e-3` is 0.001."""
    given, result = input_values(source.section("inputs")), dict(inputs)
    for name, traced in inputs.items():
        if not isinstance(traced.source, LiteralSource):
            continue
        written = bound_value(given.get(name))
        values = facts.defaults if written is None else facts.literals
        bound = isinstance(written, str) and "${{" in written
        if name in values and not bound:
            result[name] = traced.model_copy(update={"source": LiteralSource(value=values[name])})
    return result


def _distribution(distribution: Any, settings: _Settings) -> Distribution | None:
    if distribution is None:
        return None
    key = "worker_count" if hasattr(distribution, "worker_count") else "process_count_per_instance"
    count = settings.count(getattr(distribution, key, None), ("distribution", key))
    return Distribution(type=str(distribution.type).lower(), process_count=count or 1)


@dataclass(frozen=True)
class _Settings:
    """Reads a step's numbers, which may be bound to inputs of the pipeline around."""

    traced: Traced
    source: StepSource
    scope_name: str

    def seconds(self, value: object, key: tuple[str, ...]) -> float | None:
        if value is None:
            return None
        match = _DURATION.fullmatch(self.expand(value))
        if match is None or float(match[1]) <= 0:
            raise self._wrong(key, f"'{value}' is no time. Write seconds above 0.")
        return float(match[1]) * _SECONDS[match[2]]

    def count(self, value: object, key: tuple[str, ...]) -> int | None:
        if value is None:
            return None
        text = self.expand(value)
        if not text.isdigit() or int(text) < 1:
            raise self._wrong(key, f"'{value}' is no count. Write a whole number from 1.")
        return int(text)

    def expand(self, value: object) -> str:
        return self.traced.wiring.expand(str(value), self.scope_name)

    def sweep(self, node: Any) -> Any:
        try:
            return read_sweep(node, self.seconds, self.count)
        except SweepInvalidError as error:
            raise self._wrong(error.key, error.message) from error

    def _wrong(self, key: tuple[str, ...], message: str) -> PipelineInvalidError:
        problem = self.source.document.problem((*self.source.at, *key), message, step=self.source.name)
        return PipelineInvalidError(self.traced.source_file, (problem,))
