"""
The search of a sweep step, from azure-ai-ml's objects to the plan's values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from mlops_core.pipelines.search_space import EarlyTermination, Objective, SearchDistribution, Sweep, SweepLimits

_DISTRIBUTION: TypeAdapter[Any] = TypeAdapter(SearchDistribution)
_EARLY_TERMINATION: TypeAdapter[Any] = TypeAdapter(EarlyTermination)
# Without a limit Azure ML goes on to a thousand trials.
_TRIALS_WITHOUT_LIMIT = 1000

_T = TypeVar("_T")
Reads = Callable[[object, tuple[str, ...]], _T | None]


class SweepInvalidError(Exception):
    """Some value of the search means nothing; `key` is below the step. Does not leave this package."""

    def __init__(self, key: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.key = key
        self.message = message


def read_sweep(node: Any, seconds: Reads[float], count: Reads[int]) -> Sweep:
    """
    Read the search of a node.

    Args:
        node: The sweep as azure-ai-ml loaded it.
        seconds: Reads a time, which may be bound to an input of the pipeline; gets the key for its error.
        count: Reads a whole number in the same way.
    Raises:
        SweepInvalidError: A value is missing or out of range.
    """
    algorithm, limits = node.sampling_algorithm, node.limits
    kind = algorithm if isinstance(algorithm, str) else getattr(algorithm, "type", "")
    return Sweep(
        algorithm=_algorithm(str(kind).lower()),
        seed=getattr(algorithm, "seed", None),
        rule=getattr(algorithm, "rule", None),
        logbase=_logbase(getattr(algorithm, "logbase", None)),
        objective=_objective(node.objective),
        limits=SweepLimits(
            max_total_trials=count(getattr(limits, "max_total_trials", None), ("limits", "max_total_trials"))
            or _TRIALS_WITHOUT_LIMIT,
            max_concurrent_trials=count(
                getattr(limits, "max_concurrent_trials", None), ("limits", "max_concurrent_trials")
            ),
            timeout_seconds=seconds(getattr(limits, "timeout", None), ("limits", "timeout")),
            trial_timeout_seconds=seconds(getattr(limits, "trial_timeout", None), ("limits", "trial_timeout")),
        ),
        search_space=_search_space(node.search_space),
        early_termination=_early_termination(node.early_termination),
    )


def _algorithm(kind: str) -> Any:
    if kind not in {"random", "grid", "bayesian"}:
        raise SweepInvalidError(("sampling_algorithm",), f"'{kind}' is none of random, grid, bayesian.")
    return kind


def _logbase(value: object) -> float | None:
    if value is None or value == "e":
        return None
    try:
        base = float(str(value))
    except ValueError:
        base = 0.0
    if base <= 0:
        message = f"'{value}' is no base of a logarithm. Write a number above 0, or e."
        raise SweepInvalidError(("sampling_algorithm", "logbase"), message)
    return base


def _objective(objective: Any) -> Objective:
    goal = str(getattr(objective, "goal", "")).lower()
    metric = str(getattr(objective, "primary_metric", "") or "")
    if goal not in {"minimize", "maximize"} or not metric:
        message = "the objective needs 'goal' (minimize or maximize) and 'primary_metric' (a metric that trials log)."
        raise SweepInvalidError(("objective",), message)
    return Objective(goal=goal, primary_metric=metric)


def _search_space(space: Any) -> dict[str, Any]:
    if not space:
        raise SweepInvalidError(("search_space",), "the search space is empty. Write at least one parameter.")
    return {str(name): _distribution(name, expression) for name, expression in space.items()}


def _distribution(name: str, expression: Any) -> Any:
    values = _plain(expression)
    try:
        return _DISTRIBUTION.validate_python(values)
    except ValidationError as error:
        raise SweepInvalidError(("search_space", name), _words(error)) from error


def _early_termination(policy: Any) -> Any:
    if policy is None:
        return None
    # azure-ai-ml writes 0 for what was not given; a slack of 0 is none.
    values = {key: value for key, value in _plain(policy).items() if value is not None}
    for key in ("slack_factor", "slack_amount", "evaluation_interval"):
        if values.get(key) == 0:
            del values[key]
    try:
        return _EARLY_TERMINATION.validate_python(values)
    except ValidationError as error:
        raise SweepInvalidError(("early_termination",), _words(error)) from error


def _plain(thing: Any) -> dict[str, Any]:
    """Give the public attributes of one of azure-ai-ml's value objects, those inside a choice too."""
    values = {key: _nested(value) for key, value in vars(thing).items() if not key.startswith("_")}
    return {**values, "type": str(values.get("type", "")).lower()}


def _nested(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_nested(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _nested(item) for key, item in value.items()}
    return _plain(value) if type(value).__module__.startswith("azure.") else value


def _words(error: ValidationError) -> str:
    found = [
        f"{'.'.join(str(part) for part in detail['loc'][1:]) or 'value'}: {detail['msg'].removeprefix('Value error, ')}"
        for detail in error.errors(include_url=False)
    ]
    return "; ".join(found) + "."
