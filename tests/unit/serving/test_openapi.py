"""What `/schema` says is OpenAPI, and true: its example and every good body are valid by it, and so are the answers."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from scoring_asgi import ask, get, score, scorer_of

from mlops_core.serving.openapi import openapi
from mlops_core.serving.schemas import example_request
from mlops_core.serving.script import ScriptScorer
from mlops_core.serving.signature import ColumnSpec, ParamSpec, Signature, TensorSpec

TYPES = ("double", "float", "long", "integer", "boolean", "string", "datetime", "binary")
SCALARS = tuple(ColumnSpec(name, name) for name in TYPES)
TWO = (ColumnSpec("a", "double"), ColumnSpec("b", "long"))
NESTED = (
    ColumnSpec("list", "array", inside={"type": "array", "items": {"type": "double"}}),
    ColumnSpec("thing", "object", inside={"type": "object", "properties": {"p": {"type": "string", "required": True}}}),
    ColumnSpec("map", "map", inside={"type": "map", "values": {"type": "long"}}),
    ColumnSpec("any", "any"),
)
SIGNATURES = {
    "all types": Signature(columns=SCALARS, output_columns=SCALARS),
    "optional": Signature(columns=tuple(ColumnSpec(name, name, required=False) for name in TYPES)),
    "two columns": Signature(columns=TWO, output_columns=TWO, params=(ParamSpec("k", "long", 3),)),
    "one column": Signature(columns=TWO[:1], output_columns=TWO[:1]),
    "without names": Signature(columns=(ColumnSpec("", "double"), ColumnSpec("", "long"))),
    "nested": Signature(columns=NESTED),
    "one tensor": Signature(tensors=(TensorSpec("", "float32", (-1, 2)),)),
    "a named tensor": Signature(tensors=(TensorSpec("x", "int64", (-1, 2)),)),
    "named tensors": Signature(tensors=(TensorSpec("x", "float64", (-1, 2)), TensorSpec("y", "bool", (-1,)))),
    "text tensor": Signature(tensors=(TensorSpec("", "str", (-1,)),), output_tensors=(TensorSpec("", "str", (-1,)),)),
    "none": None,
}
SPLIT = {"columns": ["b", "a", "c"], "data": [[1, 0.5, "x"], [2, None, None]]}
ROWS = [[0.5, 1], [1, 2]]
RECORDS = [{"a": 0.5, "b": 1}, {"b": 2, "a": None, "c": []}]
LISTS = {"a": [0.5, 1], "b": [1, 2]}
GOOD = {
    "two columns": [
        *({key: form} for key in ("input_data", "instances", "inputs") for form in (ROWS, RECORDS, LISTS, [0.5, 1])),
        *({key: SPLIT} for key in ("input_data", "dataframe_split")),
        {"dataframe_records": RECORDS},
        {"input_data": {"data": ROWS}},
        {"input_data": {"columns": ["a", "b"], "index": [7, 8], "data": RECORDS}},
        {"input_data": {"a": 1, "b": 2}},
        {"a": 1, "b": 2.0},
        ROWS,
        RECORDS,
        [0.5, 1],
        SPLIT,
    ],
    "one column": [{"input_data": [1, 2]}, [[1], [2]], {"input_data": {"columns": ["a"], "data": [[1]]}}],
    "without names": [{"input_data": ROWS}, ROWS, [0.5, 1], {"instances": ROWS}],
    "optional": [{"input_data": [{"boolean": None, "double": 1}]}, {"dataframe_records": [{"string": None}]}],
    "nested": [{"input_data": [{"list": [1, 0.5], "thing": {"p": "x"}, "map": {"k": 1}, "any": [{}]}]}],
    "one tensor": [{"input_data": ROWS}, {"inputs": ROWS}, {"instances": ROWS}, {"input_data": {"data": ROWS}}, ROWS],
    "a named tensor": [{"input_data": {"x": [[1, 2]]}}, {"inputs": [[1, 2]]}, {"instances": [{"x": [1, 2]}]}],
    "named tensors": [{"inputs": {"x": ROWS, "y": [True, False]}}, {"instances": [{"x": [1, 2], "y": True}]}],
}
BAD = {
    "all types": [
        {name: wrong} for name, wrong in zip(TYPES, ("1", 1e39, 1.5, 1 << 31, 1, 1, "31.5.2024", 1), strict=True)
    ],
    "two columns": [{"input_data": {"a": 1}}, {"input_data": {"columns": ["a"], "data": [[1]]}}, [], [[1]], {}, 1, "x"],
    "nested": [{"input_data": [{"list": ["x"], "thing": {"p": "x"}, "map": {}, "any": 1}]}],
    "one tensor": [{"input_data": [[1]]}, {"inputs": [["x", "y"]]}],
    "named tensors": [{"inputs": {"x": ROWS}}],
}


def document(name: str) -> dict[str, Any]:
    (answer,) = ask(scorer_of(SIGNATURES[name]), get("/schema"))
    found: dict[str, Any] = answer.json()
    return found


def request_of(described: dict[str, Any]) -> Draft202012Validator:
    media = described["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]
    return Draft202012Validator(media["schema"])


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_schema_is_openapi_and_its_example_is_answered(name: str) -> None:
    described = document(name)
    validate(described)
    example = described["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]["example"]
    request_of(described).validate(example)
    (answer,) = ask(scorer_of(SIGNATURES[name]), score(example))
    assert answer.status_code == 200 or name == "nested", answer.text  # MLflow itself judges what is nested
    assert example == example_request(SIGNATURES[name])


@pytest.mark.parametrize(("name", "body"), [(name, body) for name, bodies in GOOD.items() for body in bodies], ids=str)
def test_what_the_app_takes_is_valid_and_so_is_its_answer(name: str, body: Any) -> None:
    described = document(name)
    request_of(described).validate(body)
    plain, detailed = ask(scorer_of(SIGNATURES[name]), score(body), score(body, path="/score?details=true"))
    assert (plain.status_code, detailed.status_code) == (200, 200), plain.text
    response = described["paths"]["/score"]["post"]["responses"]["200"]
    for answer in (plain, detailed):
        Draft202012Validator(response["content"]["application/json"]["schema"]).validate(answer.json())
        assert set(response["headers"]) - set(answer.headers) == {"x-request-id"}


@pytest.mark.parametrize(("name", "body"), [(name, body) for name, bodies in BAD.items() for body in bodies], ids=str)
def test_what_the_app_refuses_for_its_types_is_not_valid(name: str, body: Any) -> None:
    if name == "all types":
        row = dict.fromkeys(TYPES)
        body = {"input_data": [{**row, "long": 1, "integer": 1, "boolean": True, **body}]}
    described = document(name)
    assert not request_of(described).is_valid(body)
    if name == "nested":
        return  # MLflow itself judges what is nested
    (answer,) = ask(scorer_of(SIGNATURES[name]), score(body))
    assert answer.status_code in (400, 422), answer.text
    Draft202012Validator({**described, "$ref": "#/components/schemas/Error"}).validate(answer.json())


def test_a_script_that_reads_the_body_itself_takes_any_type() -> None:
    def run(raw_data: str) -> str:
        return raw_data

    described, answer = ask(ScriptScorer(run), get("/schema"), score(b"a,b\n1,2\n", {"content-type": "text/csv"}))
    validate(described.json())
    operation = described.json()["paths"]["/score"]["post"]
    assert list(operation["requestBody"]["content"]) == ["*/*"]
    assert "default" in operation["responses"]
    assert answer.json() == "a,b\n1,2\n"


def test_a_decorated_script_is_described_by_its_own_decorators(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what `inference_schema` answers about it; the library itself is the script's, not ours."""
    takes = {"type": "object", "properties": {"data": {"type": "array"}}, "example": {"data": [[1, 2]]}}
    library = SimpleNamespace(
        is_schema_decorated=lambda run: True,
        get_input_schema=lambda run: takes,
        get_output_schema=lambda run: {"type": "array"},
    )
    monkeypatch.setitem(sys.modules, "inference_schema.schema_util", library)

    def run(data: Any) -> Any:
        return data

    described, answer, refused = ask(ScriptScorer(run), get("/schema"), score({"data": [[1, 2]]}), score({"x": 1}))
    validate(described.json())
    operation = described.json()["paths"]["/score"]["post"]
    media = operation["requestBody"]["content"]["application/json"]
    assert media == {
        "schema": {"type": "object", "properties": {"data": {"type": "array"}}},
        "example": takes["example"],
    }
    assert operation["responses"]["200"]["content"]["application/json"]["schema"] == {"type": "array"}
    assert answer.json() == [[1, 2]]
    assert (refused.status_code, refused.json()["problems"][0]["column"]) == (422, "data")


def test_a_model_without_a_signature_is_said_to_be_one() -> None:
    assert "has no signature" in openapi("m", "", None)["info"]["description"]
