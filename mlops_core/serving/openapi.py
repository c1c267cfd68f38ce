"""`/schema`: OpenAPI 3.1 from the model's signature, and the example request that the page and the docs show."""

from __future__ import annotations

from typing import Any

from mlops_core.serving.signature import ColumnSpec, Signature, TensorSpec

_COLUMN_SCHEMAS: dict[str, dict[str, Any]] = {
    "double": {"type": ["number", "null"]},
    "float": {"type": ["number", "null"]},
    "long": {"type": "integer", "format": "int64"},
    "integer": {"type": "integer", "format": "int32"},
    "boolean": {"type": "boolean"},
    "string": {"type": ["string", "null"]},
    "datetime": {"type": ["string", "null"], "description": "UTC without a zone, like 2024-05-31T12:00:00"},
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
_STATUSES = {
    "400": "The body is no JSON or has no known form",
    "413": "The body is too large",
    "415": "The body is not declared as JSON",
    "422": "The data does not fit the signature; `problems` names rows and columns",
    "500": "The model raised; the log has the reason under `error_id`",
    "503": "Not ready, or too many requests wait; see Retry-After",
    "504": "The model took too long",
}


def example_request(signature: Signature | None) -> Any:
    """Give a body in Azure ML's form that the signature takes; made-up values of the right types."""
    if signature is None:
        return {"input_data": {"columns": ["a", "b"], "data": [[1, 2]]}}
    if signature.columns:
        data = [[_EXAMPLES.get(column.type) for column in signature.columns]]
        if not signature.is_named:
            return {"input_data": data}
        return {"input_data": {"columns": [column.name for column in signature.columns], "index": [0], "data": data}}
    if signature.tensors[0].name:
        return {"input_data": {tensor.name: _example_tensor(tensor) for tensor in signature.tensors}}
    return {"input_data": _example_tensor(signature.tensors[0])}


def openapi(name: str, version: str, signature: Signature | None) -> dict[str, Any]:
    """Describe `POST /score` of this model."""
    data = _data_schema(signature)
    request = {
        "oneOf": [
            {"type": "object", "properties": {"input_data": data}, "required": ["input_data"]},
            {"type": "object", "description": "MLflow: one of dataframe_split, dataframe_records, instances, inputs"},
            {"type": "array", "description": "records, or rows by position"},
        ]
    }
    error = {"$ref": "#/components/schemas/Error"}
    responses: dict[str, Any] = {
        status: {"description": text, "content": {"application/json": {"schema": error}}}
        for status, text in _STATUSES.items()
    }
    responses["200"] = _good_response(signature)
    media = {"schema": request if signature is not None else {}, "example": example_request(signature)}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Scoring of {name}", "version": version or "0", "description": _description(signature)},
        "paths": {
            "/score": {
                "post": {
                    "operationId": "score",
                    "summary": "Predict for rows or tensors",
                    "requestBody": {"required": True, "content": {"application/json": media}},
                    "responses": responses,
                }
            }
        },
        "components": {"schemas": {"Error": _error_schema()}},
        "x-headrace-signature": signature is not None,
    }


def _description(signature: Signature | None) -> str:
    if signature is None:
        return (
            "The model has no signature, so requests are handed to it unchecked. Log it with one to have them checked."
        )
    return "Requests are checked against the model's signature."


def _good_response(signature: Signature | None) -> dict[str, Any]:
    items = _record_schema(signature.output_columns) if signature is not None and signature.output_columns else {}
    if signature is not None and len(signature.output_columns) == 1 and not signature.output_columns[0].name:
        items = _COLUMN_SCHEMAS.get(signature.output_columns[0].type, {})
    headers = {
        "x-headrace-prediction-id": {"schema": {"type": "string"}},
        "x-headrace-model-version": {"schema": {"type": "string"}},
    }
    description = "A list with a prediction per row; wrapped in {predictions} for MLflow's forms and with ?details=true"
    return {
        "description": description,
        "headers": headers,
        "content": {"application/json": {"schema": {"anyOf": [{"type": "array", "items": items}, {"type": "object"}]}}},
    }


def _data_schema(signature: Signature | None) -> dict[str, Any]:
    if signature is None:
        return {}
    if not signature.columns:
        tensors = {tensor.name: _tensor_schema(tensor) for tensor in signature.tensors}
        if not signature.tensors[0].name:
            return tensors[""]
        return {"type": "object", "properties": tensors, "required": list(tensors)}
    row = {
        "type": "array",
        "prefixItems": [_cell_schema(column) for column in signature.columns],
        "minItems": len(signature.columns),
    }
    names = [column.name for column in signature.columns]
    split = {
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": {"type": "string"}, "example": names},
            "index": {"type": "array"},
            "data": {"type": "array", "items": row},
        },
        "required": ["columns", "data"],
    }
    return {
        "oneOf": [split, {"type": "array", "items": _record_schema(signature.columns)}, {"type": "array", "items": row}]
    }


def _record_schema(columns: tuple[ColumnSpec, ...]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {column.name: _cell_schema(column) for column in columns},
        "required": [column.name for column in columns if column.required],
    }


def _cell_schema(column: ColumnSpec) -> dict[str, Any]:
    return dict(_COLUMN_SCHEMAS.get(column.type, {}))


def _tensor_schema(tensor: TensorSpec) -> dict[str, Any]:
    integers, booleans = tensor.dtype.startswith(("int", "uint")), tensor.dtype == "bool"
    schema: dict[str, Any] = {"type": "integer" if integers else "boolean" if booleans else "number"}
    if tensor.dtype in {"str", "object"} or tensor.dtype.startswith("<U"):
        schema = {}
    for length in reversed(tensor.shape):
        schema = {"type": "array", "items": schema}
        if length >= 0:
            schema.update(minItems=length, maxItems=length)
    return schema


def _example_tensor(tensor: TensorSpec) -> Any:
    value: Any = 1 if tensor.dtype.startswith(("int", "uint")) else True if tensor.dtype == "bool" else 0.5
    if tensor.dtype in {"str", "object"} or tensor.dtype.startswith("<U"):
        value = "text"
    for position, length in reversed(list(enumerate(tensor.shape))):
        free = 1 if position == 0 else _LONGEST_EXAMPLE
        value = [value] * (free if length < 0 else length)
    return value


def _error_schema() -> dict[str, Any]:
    place = {
        "row": {"type": ["integer", "null"]},
        "column": {"type": ["string", "null"]},
        "message": {"type": "string"},
    }
    return {
        "type": "object",
        "properties": {
            "error": {"type": "string"},
            "kind": {"type": "string"},
            "problems": {"type": "array", "items": {"type": "object", "properties": place}},
        },
        "required": ["error", "kind"],
    }
