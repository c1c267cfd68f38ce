"""Bodies of every convention against a signature: what comes out, and how errors name their place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlops_core.serving.errors import BadBodyError, BadInputError
from mlops_core.serving.parsing import parse_body
from mlops_core.serving.signature import ColumnSpec, Signature
from mlops_core.serving.validation import Rows, TableReader

SIGNATURE = Signature(
    columns=(ColumnSpec("age", "double"), ColumnSpec("visits", "long"), ColumnSpec("note", "string", False))
)


def read(content: Any, signature: Signature = SIGNATURE, *, refuse_extra: bool = False) -> Rows:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    table = parse_body(body, signature).table
    assert table is not None
    return TableReader(signature, refuse_extra=refuse_extra).read(table)


def problems(content: Any, signature: Signature = SIGNATURE) -> list[tuple[Any, Any, str]]:
    with pytest.raises(BadInputError) as caught:
        read(content, signature)
    return [(found["row"], found["column"], found["message"]) for found in caught.value.details["problems"]]


RECORD = {"age": 1.5, "visits": 2, "note": "a"}
SPLIT = {"columns": ["note", "age", "visits"], "index": [7], "data": [["a", 1.5, 2]]}


@pytest.mark.parametrize(
    "content",
    [
        {"input_data": SPLIT},
        {"input_data": [RECORD]},
        {"input_data": [[1.5, 2, "a"]]},
        {"input_data": [1.5, 2, "a"]},
        {"input_data": {"age": [1.5], "visits": [2], "note": ["a"]}},
        {"dataframe_split": SPLIT},
        {"dataframe_records": [RECORD]},
        {"instances": [RECORD]},
        {"inputs": {"age": [1.5], "visits": [2], "note": ["a"]}},
        [RECORD],
        RECORD,
    ],
    ids=str,
)
def test_every_convention_gives_the_same_rows(content: Any) -> None:
    rows = read(content)
    assert (rows.columns, rows.rows) == (("age", "visits", "note"), [[1.5, 2, "a"]])


def test_an_optional_column_may_be_absent() -> None:
    assert read([{"age": 1, "visits": 2}]).columns == ("age", "visits")


def test_a_missing_column_is_named_with_the_one_it_may_be() -> None:
    [(row, column, message)] = problems({"input_data": {"columns": ["age", "visit"], "data": [[1, 2]]}})
    assert (row, column) == (None, "visits")
    assert "Did you mean it by 'visit'?" in message


def test_extra_columns_are_ignored_unless_refused() -> None:
    assert read([{**RECORD, "other": 1}]).rows == [[1.5, 2, "a"]]
    with pytest.raises(BadInputError, match="Row 0, column 'other'"):
        read([{**RECORD, "other": 1}], refuse_extra=True)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("age", "1.5", "no number"),
        ("age", True, "no number"),
        ("age", [1], "no number"),
        ("visits", 1.5, "no whole number"),
        ("visits", None, "null is not allowed"),
        ("visits", 2**63, "does not fit"),
        ("note", 3, "no text"),
    ],
)
def test_a_wrong_cell_is_named_by_row_and_column(column: str, value: Any, words: str) -> None:
    [(row, name, message)] = problems([RECORD, {**RECORD, column: value}])
    assert (row, name) == (1, column)
    assert words in message


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_json_lacks_is_named_by_row_and_column(text: str) -> None:
    assert problems(f'[{{"age": {text}, "visits": 1}}]'.encode())[0][:2] == (0, "age")


def test_missing_values_are_taken_where_the_type_holds_them() -> None:
    assert read([{"age": None, "visits": 1.0, "note": None}]).rows == [[None, 1, None]]


@pytest.mark.parametrize(
    ("kind", "value", "good"),
    [
        ("boolean", True, True),
        ("boolean", 1, False),
        ("integer", 2**31 - 1, True),
        ("integer", 2**31, False),
        ("float", 1e38, True),
        ("float", 1e39, False),
        ("datetime", "2024-05-31", True),
        ("datetime", "2024-05-31T12:00:00.123", True),
        ("datetime", "2024-05-31T12:00:00Z", False),
        ("datetime", "2024-02-30", False),
        ("datetime", "0001-01-01", False),
        ("datetime", 5, False),
        ("binary", "AAEC", True),
        ("binary", "?", False),
    ],
)
def test_each_type_takes_what_it_can_hold(kind: str, value: Any, good: bool) -> None:
    signature = Signature(columns=(ColumnSpec("c", kind),))
    if good:
        read([{"c": value}], signature)
    else:
        assert problems([{"c": value}], signature)[0][:2] == (0, "c")


def test_a_row_of_the_wrong_length_is_named() -> None:
    [(row, _, message)] = problems({"input_data": [[1, 2, "a"], [1, 2]]})
    assert row == 1
    assert "2 values for 3 columns" in message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "line 1, column 2"),
        (b"\xff", "no UTF-8 at byte 0"),
        (b'"x"', "single text"),
        (b'{"a": 1}', "no known form"),
        (b'{"inputs": [], "instances": []}', "at once"),
        (b'{"dataframe_split": {"columns": ["a"]}}', "needs an object with 'data'"),
        (b"[" * 100_000, "nested too deep"),
        (b"[" + b"9" * 5000 + b"]", "too many digits"),
    ],
)
def test_a_body_of_no_known_form_is_refused_with_its_reason(body: bytes, words: str) -> None:
    with pytest.raises(BadBodyError, match=words):
        parse_body(body, SIGNATURE)
