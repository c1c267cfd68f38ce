"""
JSON Schemas and made-up examples of what a signature takes: cells, rows, tables in each of their forms, tensors.

They say no less than the checks in `validation.py` and `arrays.py` take; what JSON Schema cannot say, such as that a
row is as long as the columns before it, only the checks know.
"""

from __future__ import annotations

from typing import Any

from mlops_core.serving.signature import ColumnSpec, Signature, TensorSpec

Schema = dict[str, Any]

_LARGEST_FLOAT = 3.4028234663852886e38
_DATETIME = r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?)?$"
_CELLS: dict[str, Schema] = {
    "double": {"type": ["number", "null"]},
    "float": {"type": ["number", "null"], "minimum": -_LARGEST_FLOAT, "maximum": _LARGEST_FLOAT},
    "long": {"type": "integer", "format": "int64", "minimum": -(1 << 63), "maximum": (1 << 63) - 1},
    "integer": {"type": "integer", "format": "int32", "minimum": -(1 << 31), "maximum": (1 << 31) - 1},
    "boolean": {"type": "boolean"},
    "string": {"type": ["string", "null"]},
    "datetime": {
        "type": ["string", "null"],
        "pattern": _DATETIME,
        "description": "UTC without a zone, like 2024-05-31T12:00:00",
    },
    "binary": {"type": ["string", "null"], "contentEncoding": "base64"},
}
_EXAMPLES: dict[str, Any] = {
    "double": 0.5,
    "float": 0.5,
    "long": 1,
    "integer": 1,
    "boolean": True,
    "string": "text",
    "datetime": "2024-05-31T12:00:00",
    "binary": "AAEC",
}
_LONGEST_EXAMPLE = 4


def example_request(signature: Signature | None) -> Any:
    """Give a body in Azure ML's form that the signature takes; made-up values of the right types."""
    if signature is None:
        return {"input_data": {"columns": ["a", "b"], "data": [[1, 2]]}}
    if signature.columns:
        data = [[_example_cell(column.type, column.inside) for column in signature.columns]]
        if not signature.is_named:
            return {"input_data": data}
        return {"input_data": {"columns": [column.name for column in signature.columns], "index": [0], "data": data}}
    if signature.tensors[0].name:
        return {"input_data": {tensor.name: _example_tensor(tensor) for tensor in signature.tensors}}
    return {"input_data": _example_tensor(signature.tensors[0])}


def cell_schema(column: ColumnSpec) -> Schema:
    """Describe what a cell takes."""
    schema = _content_schema(column.type, column.inside)
    if column.type == "boolean" and not column.required:
        schema["type"] = ["boolean", "null"]
    if not column.takes_null:
        schema["type"] = "number"
    return schema


def record_schema(columns: tuple[ColumnSpec, ...]) -> Schema:
    """Describe a row by names; more names than these are ignored."""
    return {
        "type": "object",
        "properties": {column.name: cell_schema(column) for column in columns},
        "required": [column.name for column in columns if column.required],
    }


def split_schema(signature: Signature) -> Schema:
    """Describe a table as columns and data."""
    required = [column.name for column in signature.columns if column.required]
    columns: Schema = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    if signature.is_named and required:
        columns["allOf"] = [{"contains": {"const": name}} for name in required]
    row: Schema = {"type": "array", "minItems": len(required)}
    forms = [row, {"type": "object"}, *([cell_schema(signature.columns[0])] if len(signature.columns) == 1 else [])]
    data = {"type": "array", "minItems": 1, "items": {"anyOf": forms}}
    properties = {"columns": columns, "index": {"type": ["array", "null"], "minItems": 1}, "data": data}
    return {"type": "object", "properties": properties, "required": ["data"], "additionalProperties": False}


def table_schemas(signature: Signature) -> list[Schema]:
    """Describe the forms of a table that are no columns and data: records, rows by position, one row, lists by name."""
    cells = [cell_schema(column) for column in signature.columns]
    row: Schema = {"type": "array", "prefixItems": cells, "minItems": len(cells), "maxItems": len(cells)}
    by_position: list[Schema] = [{"type": "array", "items": row, "minItems": 1}, row]
    if len(cells) == 1:
        by_position.append({"type": "array", "items": cells[0], "minItems": 1})
    if not signature.is_named:
        return by_position
    record = record_schema(signature.columns)
    lists = {
        column.name: {"anyOf": [cell_schema(column), {"type": "array", "items": cell_schema(column), "minItems": 1}]}
        for column in signature.columns
    }
    return [
        {"type": "array", "items": record, "minItems": 1},
        *by_position,
        {"type": "object", "properties": lists, "required": record["required"], "minProperties": 1},
    ]


def tensor_schemas(signature: Signature) -> list[Schema]:
    """Describe the forms of the tensors: one array, or an object with an array for each name."""
    tensors = {tensor.name: _tensor_schema(tensor) for tensor in signature.tensors}
    if "" in tensors:
        return [tensors[""]]
    named: Schema = {"type": "object", "properties": tensors, "required": list(tensors)}
    return [named, *tensors.values()] if len(tensors) == 1 else [named]


def tensor_records_schema(signature: Signature) -> Schema:
    """Describe tensors row by row: an object per row, with what the row holds of each tensor under its name."""
    rows: dict[str, Schema] = {tensor.name: _tensor_schema(tensor).get("items", {}) for tensor in signature.tensors}
    record: Schema = (
        {"type": "object"} if "" in rows else {"type": "object", "properties": rows, "required": list(rows)}
    )
    return {"type": "array", "items": record, "minItems": 1}


def answer_schema(signature: Signature | None) -> Schema:
    """Describe a good answer, as far as the signature tells: it is not held against what the model returns."""
    if signature is None or not (signature.output_columns or signature.output_tensors):
        return {}
    outputs = signature.output_columns
    # A column of output may come as plain values or as records, whatever the model returned when it was logged.
    items: Schema = {"anyOf": [_nullable(outputs[0]), {"type": "object"}]} if len(outputs) == 1 else {}
    return {"anyOf": [{"type": "array", "items": items}, {"type": "object"}]}


def _nullable(column: ColumnSpec) -> Schema:
    kind = _content_schema(column.type, column.inside).get("type")
    if kind is None:
        return {}
    # A class that was logged as an integer may be predicted as a number; text stays text.
    kinds = {kind} if isinstance(kind, str) else set(kind)
    if kinds & {"integer", "number", "boolean"}:
        kinds |= {"integer", "number", "boolean"}
    return {"type": sorted({*kinds, "null"})}


def _content_schema(kind: str, inside: Any) -> Schema:
    """Describe a cell, also what MLflow's arrays, objects and maps hold."""
    described: dict[str, Any] = inside if isinstance(inside, dict) else {}
    if kind == "array":
        items = described.get("items") or {}
        return {"type": "array", "items": _content_schema(items.get("type", "any"), items)}
    if kind == "object":
        properties: dict[str, Any] = described.get("properties") or {}
        return {
            "type": "object",
            "properties": {name: _content_schema(each.get("type", "any"), each) for name, each in properties.items()},
            "required": [name for name, each in properties.items() if each.get("required", True)],
        }
    if kind == "map":
        values = described.get("values") or {}
        return {"type": "object", "additionalProperties": _content_schema(values.get("type", "any"), values)}
    return dict(_CELLS.get(kind, {}))


def _example_cell(kind: str, inside: Any) -> Any:
    described: dict[str, Any] = inside if isinstance(inside, dict) else {}
    if kind == "array":
        items = described.get("items") or {}
        return [_example_cell(items.get("type", "any"), items)]
    if kind == "object":
        properties: dict[str, Any] = described.get("properties") or {}
        return {name: _example_cell(each.get("type", "any"), each) for name, each in properties.items()}
    if kind == "map":
        values = described.get("values") or {}
        return {"key": _example_cell(values.get("type", "any"), values)}
    return _EXAMPLES.get(kind, "text")


def _tensor_schema(tensor: TensorSpec) -> Schema:
    schema: Schema = {}
    if tensor.dtype.startswith(("int", "uint")):
        schema = {"type": "integer"}
    elif tensor.dtype == "bool":
        schema = {"type": "boolean"}
    elif tensor.dtype.startswith("float"):
        schema = {"type": "number"}
    for length in reversed(tensor.shape):
        schema = {"type": "array", "items": schema}
        if length >= 0:
            schema.update(minItems=length, maxItems=length)
    if tensor.shape and tensor.shape[0] < 0:
        schema["minItems"] = 1
    return schema


def _example_tensor(tensor: TensorSpec) -> Any:
    value: Any = 1 if tensor.dtype.startswith(("int", "uint")) else True if tensor.dtype == "bool" else 0.5
    if tensor.dtype in {"str", "object"} or tensor.dtype.startswith("<U"):
        value = "text"
    for position, length in reversed(list(enumerate(tensor.shape))):
        free = 1 if position == 0 else _LONGEST_EXAMPLE
        value = [value] * (free if length < 0 else length)
    return value
