"""
What azure-ai-ml makes of a pipeline's YAML: the one place that imports it and knows the shape of its objects.

Its loader is the judge of meaning: what it refuses is refused, and commands, defaults, limits, distributions and search
spaces are taken from it. The import costs seconds, which is why plans are cached.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_core.pipelines.documents import Document, KeyPath, Reader
from mlops_core.pipelines.errors import PipelineInvalidError, Problem
from mlops_core.pipelines.plan import Scalar
from mlops_core.pipelines.source_tree import ScopeSource, StepSource

# Its messages repeat whole values.
_MAX_WORDS = 500


@dataclass(frozen=True)
class LoadedStep:
    """A step as azure-ai-ml reads it."""

    command: str
    display_name: str | None
    description: str | None
    tags: Mapping[str, str]
    environment_variables: Mapping[str, str]
    literals: Mapping[str, Scalar]
    """Plain values that the step gives to inputs."""
    defaults: Mapping[str, Scalar]
    """Plain values that the component gives to inputs."""
    timeout: object
    instance_count: object
    distribution: Any
    deterministic: bool
    component: str | None
    sweep: Any = None
    """The node of a sweep, for its search."""


@dataclass(frozen=True)
class LoadedJob:
    """A pipeline job as azure-ai-ml reads it."""

    name: str | None
    display_name: str | None
    description: str | None
    experiment: str | None
    tags: Mapping[str, str]
    continue_on_step_failure: bool
    force_rerun: bool
    steps: dict[str, LoadedStep] = field(default_factory=dict)
    """By their names in the plan, only those that run a command."""


def load(path: Path, scope: ScopeSource, reader: Reader) -> LoadedJob:
    """
    Load a pipeline job with azure-ai-ml.

    Raises:
        PipelineInvalidError: azure-ai-ml refuses it; its own words are in the message.
    """
    with _quiet():
        # The import is the costly part, so it is paid only by who gets here.
        from azure.ai.ml import load_component, load_job
        from azure.ai.ml.exceptions import MlException
        from marshmallow import ValidationError

        try:
            job: Any = _load_job(load_job, path, scope)
            loaded = LoadedJob(
                name=job.name,
                display_name=job.display_name,
                description=job.description,
                experiment=_experiment(scope, job),
                tags=_texts(job.tags),
                continue_on_step_failure=bool(getattr(job.settings, "continue_on_step_failure", None)),
                force_rerun=bool(getattr(job.settings, "force_rerun", None)),
            )
            _read_steps(job.jobs, scope, load_component, loaded.steps)
        # What it has no word for, such as a number where a mapping is due, leaves it as one of Python's own errors.
        except (MlException, ValidationError, AttributeError, KeyError, TypeError, ValueError) as error:
            document = reader.read(path)
            raise PipelineInvalidError(document.label, _problems(document, error)) from error
    return loaded


def _read_steps(jobs: Mapping[str, Any], scope: ScopeSource, load_component: Any, found: dict[str, LoadedStep]) -> None:
    for name, step in scope.steps.items():
        node = jobs[name]
        component = load_component(step.component_file) if step.component_file is not None else _component(node, step)
        if step.nested is not None:
            _read_steps(component.jobs, step.nested, load_component, found)
        else:
            found[step.name] = _read_step(node, component, step)


def _component(node: Any, step: StepSource) -> Any:
    return node.trial if step.kind == "sweep" else node.component


def _read_step(node: Any, component: Any, step: StepSource) -> LoadedStep:
    resources = _first(node, component, "resources")
    limits = getattr(node, "limits", None)
    inline = step.component is not None and step.component.inline
    return LoadedStep(
        command=component.command,
        display_name=_plain(node.display_name) or _plain(getattr(component, "display_name", None)),
        description=_plain(node.description) or _plain(getattr(component, "description", None)),
        tags=_texts(node.tags),
        environment_variables=_texts(
            {**(getattr(component, "environment_variables", None) or {}), **(_own(node, "environment_variables") or {})}
        ),
        # The node's values have no public reader: its inputs answer with bindings for the `dsl`.
        literals=_scalars({name: value._data for name, value in node.inputs.items()}),  # noqa: SLF001 - see above
        defaults=_scalars({name: getattr(port, "default", None) for name, port in component.inputs.items()}),
        timeout=getattr(limits, "timeout", None),
        instance_count=getattr(resources, "instance_count", None),
        distribution=_first(node, component, "distribution"),
        deterministic=component.is_deterministic is not False,
        component=None if inline else str(step.component.data.get("name", "")) or None if step.component else None,
        sweep=node if step.kind == "sweep" else None,
    )


def _own(thing: Any, name: str) -> Any:
    """Read an attribute; nodes answer an unknown one with an empty value of their own instead of an error."""
    value = getattr(thing, name, None)
    return None if type(value).__name__ == "_AttrDict" and not value else value


def _first(node: Any, component: Any, name: str) -> Any:
    return _own(node, name) or _own(component, name)


def _experiment(scope: ScopeSource, job: Any) -> str | None:
    # azure-ai-ml fills a missing experiment with the name of the current folder.
    return job.experiment_name if "experiment_name" in scope.data or scope.document.data is not scope.data else None


def _plain(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _texts(mapping: Mapping[str, object] | None) -> dict[str, str]:
    return {str(key): str(value) for key, value in (mapping or {}).items()}


def _scalars(mapping: Mapping[str, object]) -> dict[str, Scalar]:
    return {name: value for name, value in mapping.items() if isinstance(value, (bool, int, float, str))}


def _load_job(load_job: Any, path: Path, scope: ScopeSource) -> Any:
    """
    Load with the type of each step said.

    A step without a type is a command. Unsaid, a slip in it is answered with the complaints of all types of steps.
    """
    untyped = [
        step for step in scope.steps.values() if "type" not in step.data and step.document.path == path.resolve()
    ]
    override = [{f"jobs.{step.at[-1]}.type": step.kind} for step in untyped if "." not in str(step.at[-1])]
    return load_job(path, params_override=override or None)


def _problems(document: Document, error: Exception) -> tuple[Problem, ...]:
    """Give what azure-ai-ml complains of; its text holds a JSON object with the place of each complaint."""
    text = str(getattr(error, "message", None) or error)
    try:
        report, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
        complaints = [(str(entry.get("path", "")), str(entry["message"])) for entry in report["errors"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        complaints = [("", text)]
    # An inline step is also tried as one that names a component; that it names none is no news beside the real slip.
    telling = [(place, message) for place, message in complaints if not place.endswith(".component")]
    problems = []
    for place, message in telling or complaints:
        key: KeyPath = () if place in {"", "*"} else tuple(place.split("."))
        short = " ".join(message.split())[:_MAX_WORDS]
        problems.append(document.problem(key, f"azure-ai-ml refuses it: {short}"))
    return tuple(problems)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the loader's remarks about its own experimental classes out of the job's log."""
    # azure-ai-ml sets the level of its own loggers while it is imported, so a level set here would not last.
    logger = logging.getLogger("azure.ai.ml._utils._experimental")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before
