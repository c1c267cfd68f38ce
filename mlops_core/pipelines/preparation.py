"""What an execution sees to before its first step starts: whatever can fail without costing a step's work, fails here."""

from __future__ import annotations

import time

from mlops_core.domain.errors import BadInputError
from mlops_core.pipelines.environments import Environment, EnvironmentMaker
from mlops_core.pipelines.plan import EnvironmentSpec, PipelinePlan
from mlops_core.pipelines.results import Progress, length
from mlops_core.pipelines.tracking import Tracking


def check_sweeps(plan: PipelinePlan, tracking: Tracking | None) -> None:
    """
    Find sweeps that would end without an answer, before their trials cost an hour.

    Raises: BadInputError: There is a sweep, and nothing to log its metric to.
    """
    sweeps = [step.name for step in plan.steps if step.sweep is not None]
    if sweeps and tracking is None:
        raise BadInputError(
            f"The best trial of the sweep {', '.join(map(repr, sweeps))} is chosen by a metric, and there is no "
            "tracking server to log it to. Start one with 'headrace up'."
        )


def make_environments(plan: PipelinePlan, maker: EnvironmentMaker, progress: Progress) -> dict[str, Environment]:
    """
    Make each environment that the steps name, once.

    Returns: By `environment_key`.
    Raises: EnvironmentFailedError, PythonMissingError, EnvironmentStoppedError.
    """
    found: dict[str, Environment] = {}
    for step in plan.steps:
        key = environment_key(step.environment)
        if key in found:
            continue
        started = time.monotonic()
        made = found[key] = maker.make(step.environment, tell=lambda text: progress.tell("stage", text))
        took = "cached" if made.cached else f"made in {length(time.monotonic() - started)}"
        progress.tell("stage", f"environment '{step.environment.name}': {took}")
        for note in made.notes:
            progress.tell("log", note)
    return found


def environment_key(spec: EnvironmentSpec) -> str:
    """Give what tells one environment of a plan from another."""
    return spec.model_dump_json()
