"""`/schema`: OpenAPI 3.1 from the model's signature."""

from __future__ import annotations

from typing import Any

from mlops_core.serving.schemas import (
    Schema,
    answer_schema,
    example_request,
    record_schema,
    split_schema,
    table_schemas,
    tensor_records_schema,
    tensor_schemas,
)
from mlops_core.serving.scorers import Declared
from mlops_core.serving.signature import Signature

_STATUSES = {
    "400": "The body is no JSON or has no known form",
    "413": "The body is too large",
    "415": "The body is not declared as JSON, or is packed by something else than gzip",
    "422": "The data does not fit the signature; `problems` names rows and columns",
    "500": "The model raised; the log has the reason under `error_id`",
    "503": "Not ready, or too many requests wait; see Retry-After",
    "504": "The model took too long",
}
_HEADERS = ("x-headrace-prediction-id", "x-headrace-model", "x-headrace-model-version", "x-request-id")


def openapi(
    name: str,
    version: str,
    signature: Signature | None,
    *,
    takes_any_body: bool = False,
    declared: Declared | None = None,
) -> dict[str, Any]:
    """
    Describe `POST /score` of this model.

    Args:
        takes_any_body: The model is a script that reads the body itself, and may answer as it likes.
        declared: What a script says of itself.
    """
    media = {"schema": _request_schema(signature), "example": example_request(signature)}
    if declared is not None:
        media = {"schema": {key: value for key, value in (declared.request or {}).items() if key != "example"}}
        media |= {"example": declared.request["example"]} if declared.request and "example" in declared.request else {}
    content: dict[str, Any] = {"*/*": {"schema": {}}} if takes_any_body else {"application/json": media}
    operation = {
        "operationId": "score",
        "summary": "Predict for rows or tensors",
        "parameters": [_details()],
        "requestBody": {"required": True, "content": content},
        "responses": _responses(
            answer_schema(signature) if declared is None else declared.answer or {}, takes_any_body=takes_any_body
        ),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Scoring of {name}",
            "version": version or "0",
            "description": _description(signature, declared, takes_any_body=takes_any_body),
        },
        "paths": {"/score": {"post": operation}},
        "components": {"schemas": {"Error": _error_schema()}},
        "x-headrace-signature": signature is not None,
    }


def _description(signature: Signature | None, declared: Declared | None, *, takes_any_body: bool) -> str:
    if declared is not None:
        return "The model is a script, and this is what its decorators say that it takes and gives."
    if takes_any_body:
        return "The model is a script, which gets the body as text and says itself what it takes."
    if signature is None:
        return (
            "The model has no signature, so requests are handed to it unchecked. Log it with one to have them checked."
        )
    return "Requests are checked against the model's signature."


def _details() -> dict[str, Any]:
    text = "With 'true', the answer is an object with predictions, prediction_id and model."
    return {"name": "details", "in": "query", "description": text, "schema": {"type": "string"}, "example": "true"}


def _request_schema(signature: Signature | None) -> Schema:
    if signature is None:
        return {}
    params: Schema = {
        "params": {"type": ["object", "null"], "properties": {param.name: {} for param in signature.params}}
    }

    def under(key: str, *forms: Schema) -> Schema:
        data: Schema = {"anyOf": list(forms)} if len(forms) > 1 else forms[0]
        return {"title": key, "type": "object", "properties": {key: data, **params}, "required": [key]}

    if not signature.columns:
        forms = tensor_schemas(signature)
        arrays = [form for form in forms if form.get("type") == "array"]
        records = tensor_records_schema(signature)
        in_data = [{"type": "object", "properties": {"data": form}, "required": ["data"]} for form in arrays]
        keys = [
            under("input_data", *forms, *in_data, records),
            under("inputs", *forms),
            under("instances", *forms, records),
        ]
        return {"anyOf": [*keys, *arrays]}
    forms, split = table_schemas(signature), split_schema(signature)
    arrays = [form for form in forms if form.get("type") == "array"]
    keys = [
        under("input_data", split, *forms),
        under("dataframe_split", split),
        under("instances", *forms),
        under("inputs", *forms),
    ]
    if signature.is_named:
        record = {**record_schema(signature.columns), "title": "one record", "minProperties": 1}
        keys += [under("dataframe_records", forms[0]), record]
    return {"anyOf": [*keys, {**split, "title": "columns and data"}, *arrays]}


def _responses(good: Schema, *, takes_any_body: bool) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    responses: dict[str, Any] = {status: {"description": text, "content": error} for status, text in _STATUSES.items()}
    description = "A list with a prediction per row; wrapped in {predictions} for MLflow's forms and with ?details=true"
    headers = {name: {"schema": {"type": "string"}} for name in _HEADERS}
    answer = {"application/json": {"schema": good}}
    responses["200"] = {"description": description, "headers": headers, "content": answer}
    if takes_any_body:
        responses["default"] = {"description": "What the script answers itself"}
    return responses


def _error_schema() -> Schema:
    place: Schema = {
        "row": {"type": ["integer", "null"]},
        "column": {"type": ["string", "null"]},
        "message": {"type": "string"},
    }
    return {
        "type": "object",
        "properties": {
            "error": {"type": "string"},
            "kind": {"type": "string"},
            "error_id": {"type": "string"},
            "problems": {"type": "array", "items": {"type": "object", "properties": place}},
        },
        "required": ["error", "kind"],
    }
