"""
What a component or an inline step declares to take and to give: its ports, read from the raw YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlops_core.pipelines.plan import AssetType, LiteralType, Scalar
from mlops_core.pipelines.references import bound_value, parse_binding
from mlops_core.pipelines.source_tree import ComponentSource

LITERAL_TYPES: dict[str, LiteralType] = {
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
}
ASSET_TYPES: dict[str, AssetType] = {
    "uri_file": "uri_file",
    "uri_folder": "uri_folder",
    "mltable": "mltable",
    "mlflow_model": "mlflow_model",
    "custom_model": "custom_model",
    "triton_model": "triton_model",
    # The name from before v2, which azure-ai-ml still takes: a file or a folder.
    "path": "uri_folder",
}
_TRUTH = {"true", "false"}


@dataclass(frozen=True)
class InputPort:
    """One declared input."""

    type: LiteralType | AssetType | None
    """None: an inline step's binding, whose type is that of its source."""
    unknown_type: str | None = None
    """What is written where the type is none of Azure ML's."""
    optional: bool = False
    default: Scalar | None = None
    choices: tuple[str, ...] = ()
    min: float | None = None
    max: float | None = None

    @property
    def required(self) -> bool:
        """Whether a value must come from outside."""
        return not self.optional and self.default is None

    def rejects(self, value: Scalar) -> str | None:
        """Say why a literal does not fit, or None where it does. Texts that read as the type fit, as on Azure ML."""
        if self.type in ASSET_TYPES:
            return (
                f"it is '{value}', but the input is a {self.type}. Write 'type: {self.type}' and 'path: ...' below it."
            )
        text = str(value)
        if self.choices and text not in self.choices:
            return f"'{text}' is none of its choices: {', '.join(self.choices)}."
        if self.type == "boolean" and text.lower() not in _TRUTH:
            return f"'{text}' is no boolean. Write true or false."
        if self.type == "integer" and not _is_integer(value):
            return f"'{text}' is no integer. Write a whole number."
        return self._rejects_number(value) if self.type in {"integer", "number"} else None

    def _rejects_number(self, value: Scalar) -> str | None:
        number = _number(value)
        if number is None:
            return f"'{value}' is no number."
        if self.min is not None and number < self.min:
            return f"{value} is below its least value {self.min:g}."
        if self.max is not None and number > self.max:
            return f"{value} is above its largest value {self.max:g}."
        return None


def input_ports(component: ComponentSource) -> dict[str, InputPort]:
    """Give the inputs of a component's file, or of an inline step, whose own values declare them."""
    entries = component.section("inputs")
    if component.inline:
        entries = input_values(entries)
        return {name: _inline_port(entry) for name, entry in entries.items()}
    return {name: _declared_port(entry) for name, entry in entries.items()}


def input_values(entries: Mapping[str, object]) -> dict[str, object]:
    """Give the values under `inputs`, where `{value: 3}` is another way to write 3."""
    return {
        name: entry["value"] if isinstance(entry, dict) and "value" in entry and "path" not in entry else entry
        for name, entry in entries.items()
    }


def type_of_literal(value: Scalar) -> LiteralType:
    """Give the type that a value has where nothing declares one."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return "number" if isinstance(value, float) else "string"


def as_type(value: Scalar, type_: LiteralType | AssetType | None) -> Scalar:
    """Read a text as the declared type, where it can be: `1e-3` of YAML is a text."""
    if not isinstance(value, str):
        return value
    if type_ == "boolean" and value.lower() in _TRUTH:
        return value.lower() == "true"
    if type_ == "integer" and _is_integer(value):
        return int(value)
    number = _number(value) if type_ == "number" else None
    return value if number is None else number


def asset_type(entry: object) -> AssetType | None:
    """Give the asset type that a mapping declares, None where it declares none."""
    declared = entry.get("type") if isinstance(entry, dict) else None
    return ASSET_TYPES.get(str(declared).lower())


def _inline_port(entry: object) -> InputPort:
    if isinstance(entry, dict):
        declared = str(entry.get("type", "")).lower()
        kind = LITERAL_TYPES.get(declared) or ASSET_TYPES.get(declared)
        if kind is None and parse_binding(bound_value(entry)) is None and "type" not in entry:
            kind = "uri_folder"
        return InputPort(kind, unknown_type=declared if declared and kind is None else None)
    if entry is None or parse_binding(entry) is not None or not isinstance(entry, (bool, int, float, str)):
        return InputPort(None)
    return InputPort(type_of_literal(entry), default=entry)


def _declared_port(entry: object) -> InputPort:
    if not isinstance(entry, dict):
        return InputPort("string", default=entry if isinstance(entry, (bool, int, float, str)) else None)
    declared = str(entry.get("type", "string")).lower()
    kind = LITERAL_TYPES.get(declared) or ASSET_TYPES.get(declared)
    default = entry.get("default")
    enum = entry.get("enum")
    return InputPort(
        kind,
        unknown_type=declared if kind is None else None,
        optional=str(entry.get("optional")).lower() == "true",
        default=as_type(default, kind) if isinstance(default, (bool, int, float, str)) else None,
        choices=tuple(str(choice) for choice in enum) if isinstance(enum, list) else (),
        min=_number(entry.get("min")),
        max=_number(entry.get("max")),
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _is_integer(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, (int, float)):
        return float(value).is_integer()
    try:
        int(str(value))
    except ValueError:
        return False
    return True
