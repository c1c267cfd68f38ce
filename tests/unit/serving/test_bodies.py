"""Bodies as clients send them: packed, cut, huge, mislabelled; and what goes back with each answer."""

from __future__ import annotations

import gzip
import json

import httpx
import pytest
from scoring_asgi import JSON, ask, score, scorer_of

from mlops_core.serving.signature import ColumnSpec, Signature, TensorSpec

NUMBERS = Signature(columns=(ColumnSpec("a", "double"),))
TENSOR = Signature(tensors=(TensorSpec("", "float32", (-1, 2)),))
GOOD = json.dumps({"input_data": [[1.5], [2.5]]}).encode()
LIMIT = 1_000


def one(body: bytes, signature: Signature | None = NUMBERS, **headers: str) -> httpx.Response:
    fields = {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return ask(scorer_of(signature), score(body, fields), max_body_bytes=LIMIT)[0]


@pytest.mark.parametrize("declared", ["gzip", "GZIP", "x-gzip"])
def test_a_gzip_body_is_unpacked(declared: str) -> None:
    assert one(gzip.compress(GOOD), content_encoding=declared).json() == [{"a": 1.5}, {"a": 2.5}]


def test_a_small_gzip_that_is_large_inside_is_refused_at_the_limit() -> None:
    answer = one(gzip.compress(b" " * 50_000_000)[: LIMIT - 1], content_encoding="gzip")
    assert (answer.status_code, answer.json()["kind"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("body", "words"), [(GOOD, "declared as gzip and is none"), (gzip.compress(GOOD)[:-9], "too early")]
)
def test_a_broken_gzip_is_told(body: bytes, words: str) -> None:
    answer = one(body, content_encoding="gzip")
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_another_packing_is_named() -> None:
    answer = one(GOOD, content_encoding="br")
    assert (answer.status_code, answer.json()["kind"]) == (415, "content_type")
    assert "'br'" in answer.json()["error"]


@pytest.mark.parametrize("declared", ["application/json; charset=utf-8", "text/json", "APPLICATION/JSON"])
def test_json_may_be_declared_in_several_ways(declared: str) -> None:
    assert one(GOOD, content_type=declared).status_code == 200


@pytest.mark.parametrize("body", [GOOD, b"{", b"[" * 100])
def test_the_callers_own_id_comes_back_with_every_answer(body: bytes) -> None:
    answer = one(body, x_request_id="abc-1")
    assert answer.headers["x-request-id"] == "abc-1"
    assert answer.headers["x-headrace-model-version"] == "7"


def test_an_endless_id_does_not_come_back() -> None:
    assert "x-request-id" not in one(GOOD, x_request_id="a" * 201).headers


@pytest.mark.parametrize(
    ("signature", "body", "words"),
    [
        (None, b'{"input_data": [[1, 2], [NaN, 4]]}', "NaN at [1][0]"),
        (None, b'[{"a": 1, "b": [-Infinity]}]', "-Infinity at [0]['b'][0]"),
        (TENSOR, b'{"input_data": [[1, Infinity]]}', "Infinity at [0][1]"),
        (TENSOR, b'{"input_data": [[1, 1e39]]}', "in range"),
        (None, b"[]", "has no rows"),
        (None, b'{"input_data": {"columns": ["a"], "data": []}}', "has no rows"),
        (NUMBERS, b"[[1], [1, 2]]", "Row 1 has 2 values for 1 columns"),
    ],
)
def test_what_is_no_data_is_refused_with_its_place(signature: Signature | None, body: bytes, words: str) -> None:
    answer = one(body, signature)
    assert answer.status_code == 422
    assert words in answer.json()["error"]


def test_whole_numbers_in_an_array_of_doubles_are_doubles() -> None:
    """JSON does not tell 1 from 1.0, and MLflow would refuse the list for its first item."""
    inside = {"type": "array", "items": {"type": "double"}}
    signature = Signature(
        columns=(ColumnSpec("v", "array", inside=inside), ColumnSpec("n", "map", inside={"values": {"type": "long"}}))
    )
    (answer,) = ask(scorer_of(signature), score(b'[{"v": [1, 0.5], "n": {"k": 2.0}}]'))
    assert answer.text == '[{"v": [1.0, 0.5], "n": {"k": 2}}]'
