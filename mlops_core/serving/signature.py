"""
A model's signature, read from its `MLmodel` file by ourselves.

So validation and `/schema` work without importing mlflow (2.7 s). Types of columns keep MLflow's names: double,
float, long, integer, boolean, string, binary, datetime; anything else (array, object, map, any) is passed on for
MLflow to judge.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_core.serving.errors import ModelLoadError

SCALAR_TYPES = frozenset({"double", "float", "long", "integer", "boolean", "string", "binary", "datetime"})


@dataclass(frozen=True)
class ColumnSpec:
    """
    A column of a table. `name` is empty where the signature has no names; then the position counts.

    `inside` is MLflow's own description of what an array, an object or a map holds. `takes_null` is False where the model
    was tried and raised on a missing value.
    """

    name: str
    type: str
    required: bool = True
    inside: dict[str, Any] = field(default_factory=dict, compare=False)
    takes_null: bool = True


@dataclass(frozen=True)
class TensorSpec:
    """A tensor: numpy's name of its type, and its shape with -1 for any length. `name` may be empty."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ParamSpec:
    """A parameter that a request may give beside its data."""

    name: str
    type: str
    default: Any = None


@dataclass(frozen=True)
class Signature:
    """What the model takes and gives: either columns or tensors, never both."""

    columns: tuple[ColumnSpec, ...] = ()
    tensors: tuple[TensorSpec, ...] = ()
    params: tuple[ParamSpec, ...] = ()
    output_columns: tuple[ColumnSpec, ...] = ()
    output_tensors: tuple[TensorSpec, ...] = ()

    @property
    def is_named(self) -> bool:
        """Whether the columns have names."""
        return any(column.name for column in self.columns)


def read_mlmodel(folder: Path) -> dict[str, Any]:
    """
    Read a model folder's `MLmodel` file.

    Raises:
        ModelLoadError: It is missing or no YAML mapping, or there is no YAML reader in the environment.
    """
    path = folder / "MLmodel"
    try:
        import yaml
    except ImportError as error:
        message = (
            "The model's environment has no 'pyyaml', which reads its MLmodel file. Add mlflow to its requirements."
        )
        raise ModelLoadError(message) from error
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        message = f"'{folder}' has no MLmodel file. Give an MLflow model's folder, or a score.py with --code."
        raise ModelLoadError(message) from error
    except yaml.YAMLError as error:
        message = f"'{path}' is no YAML: {error}. Log the model again."
        raise ModelLoadError(message) from error
    if not isinstance(content, dict):
        message = f"'{path}' holds no mapping. Log the model again."
        raise ModelLoadError(message)
    return content


def signature_from_mlmodel(mlmodel: dict[str, Any]) -> Signature | None:
    """Take the signature out of an `MLmodel` mapping; None where the model was logged without inputs."""
    raw = mlmodel.get("signature") or {}
    inputs, outputs, params = (_json_list(raw, key) for key in ("inputs", "outputs", "params"))
    if not inputs:
        return None
    return Signature(
        columns=_columns(inputs),
        tensors=_tensors(inputs),
        params=tuple(ParamSpec(entry["name"], entry.get("type", "any"), entry.get("default")) for entry in params),
        output_columns=_columns(outputs),
        output_tensors=_tensors(outputs),
    )


def _json_list(raw: dict[str, Any], key: str) -> list[dict[str, Any]]:
    text = raw.get(key)
    if not text:
        return []
    try:
        entries = json.loads(text) if isinstance(text, str) else text
    except ValueError as error:
        message = f"The '{key}' of the signature in the MLmodel file is no JSON: {error}. Log the model again."
        raise ModelLoadError(message) from error
    return [entry for entry in entries if isinstance(entry, dict)]


def _columns(entries: list[dict[str, Any]]) -> tuple[ColumnSpec, ...]:
    return tuple(
        ColumnSpec(
            str(entry.get("name", "")),
            str(entry.get("type", "any")),
            bool(entry.get("required", not entry.get("optional", False))),
            {} if entry.get("type") in SCALAR_TYPES else entry,
        )
        for entry in entries
        if entry.get("type") != "tensor"
    )


def _tensors(entries: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(str(entry.get("name", "")), entry["tensor-spec"]["dtype"], tuple(entry["tensor-spec"]["shape"]))
        for entry in entries
        if entry.get("type") == "tensor"
    )
