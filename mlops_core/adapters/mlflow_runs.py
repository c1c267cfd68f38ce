"""
What MLflow's REST API says of a run: its tags, the latest of each metric, what they were measured on.

The same for an MLflow server and for an Azure ML workspace, which speaks that API too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

DATA_TAG = "headrace.data"
"""The tag of a run that names the data which its metrics were measured on."""
_EVALUATION_CONTEXTS = ("eval", "evaluation", "test", "testing", "validation", "holdout")

Json = Mapping[str, Any]


def pairs(entries: Sequence[Json]) -> dict[str, str]:
    """Read a list of keys and values."""
    return {entry["key"]: entry.get("value", "") for entry in entries}


def latest(measured: Sequence[Json]) -> dict[str, float]:
    """
    Keep the latest value of each metric; of equals the later in the list, which is the logged model's own.

    MLflow writes what JSON has no number for as text ("NaN", "Infinity"); gates refuse those, so they are kept.
    """
    ordered = sorted(measured, key=lambda entry: (int(entry.get("timestamp", 0)), int(entry.get("step", 0))))
    return {entry["key"]: float(entry.get("value", math.nan)) for entry in ordered}


def data_version(run: Json) -> str | None:
    """Say what the metrics were measured on: the run's own tag, else the digests of its evaluation or all inputs."""
    tags = pairs(run.get("data", {}).get("tags", []))
    if tags.get(DATA_TAG):
        return tags[DATA_TAG]
    inputs = run.get("inputs", {}).get("dataset_inputs", [])
    named = {_name_of_input(entry): pairs(entry.get("tags", [])).get("mlflow.data.context", "") for entry in inputs}
    evaluated = sorted(name for name, context in named.items() if context.lower() in _EVALUATION_CONTEXTS)
    return ",".join(evaluated or sorted(named)) or None


def _name_of_input(entry: Json) -> str:
    dataset = entry.get("dataset", {})
    return f"{dataset.get('name', '')}@{dataset.get('digest', '')}"
