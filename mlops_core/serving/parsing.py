"""
From the bytes of a request to a table or tensors, whatever convention the client speaks.

Azure ML wraps its data in `input_data`, MLflow in `dataframe_split`, `dataframe_records`, `instances` or `inputs`; a
bare list (or one bare record) is taken too. Nothing is checked against a signature here, except where only it can
tell a table from a tensor.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from mlops_core.serving.errors import BadBodyError
from mlops_core.serving.signature import Signature

_SPLIT_KEYS = frozenset({"columns", "index", "data"})
_MLFLOW_KEYS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_FORMS = (
    'Send {"input_data": {"columns": [...], "data": [[...]]}}, {"input_data": [...]}, a list of records, or one of '
    "dataframe_split, dataframe_records, instances, inputs."
)


class NonFinite:
    """Stands for a NaN or Infinity in the body, which JSON does not have, until validation can name its place."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Table:
    """
    Rows as the client sent them.

    `columns` is None where the rows have no names (then by position); `records` says that rows are mappings, not lists.
    """

    rows: list[Any]
    columns: list[Any] | None = None
    records: bool = False
    index: list[Any] | None = None


@dataclass(frozen=True)
class Parsed:
    """A body: a table or tensors (the other is None), the parameters beside it, and whose convention it follows."""

    table: Table | None = None
    tensors: Any = None
    params: dict[str, Any] | None = None
    wraps_answer: bool = False


_DECODER = json.JSONDecoder(parse_constant=NonFinite)


def decode_json(body: bytes) -> Any:
    """
    Decode a body as JSON in UTF-8.

    Raises:
        BadBodyError: It is something else; says where.
    """
    try:
        return _DECODER.decode(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        message = f"The body is no UTF-8 at byte {error.start}. Encode the JSON as UTF-8."
        raise BadBodyError(message) from error
    except json.JSONDecodeError as error:
        message = f"The body is no JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        raise BadBodyError(message) from error
    except (RecursionError, ValueError) as error:
        message = "The body is nested too deep or holds a number with too many digits. Send plain rows."
        raise BadBodyError(message) from error


def first_non_finite(value: Any, place: str = "") -> str | None:
    """Say where decoded data has its first NaN or Infinity, like `NaN at [0]['age']`; None where it has none."""
    if isinstance(value, NonFinite):
        return f"{value.text} at {place or 'its top'}"
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return next((found for key, item in items if (found := first_non_finite(item, f"{place}[{key!r}]"))), None)


def parse_body(body: bytes, signature: Signature | None) -> Parsed:
    """
    Tell which convention the body follows and take the data out of it.

    Raises:
        BadBodyError: It follows none; names the keys found and the forms allowed.
    """
    content = decode_json(body)
    if isinstance(content, list):
        return _from_value(content, signature, params=None, wraps=False)
    if not isinstance(content, dict):
        raise BadBodyError(f"The body is a single {_json_kind(content)}. {_FORMS}")
    keys = [key for key in ("input_data", *_MLFLOW_KEYS) if key in content]
    if len(keys) > 1:
        raise BadBodyError(f"The body has {' and '.join(keys)} at once. Send one of them.")
    params = content.get("params") if keys else None
    if params is not None and not isinstance(params, dict):
        raise BadBodyError(f"'params' is a {_json_kind(params)}. Send an object of names and values.")
    if not keys:
        return _from_bare_record(content, signature)
    key, value = keys[0], content[keys[0]]
    wraps = key != "input_data"
    if key == "dataframe_split":
        return Parsed(table=_split(value, key), params=params, wraps_answer=wraps)
    if key == "dataframe_records":
        return Parsed(table=_records(value, key), params=params, wraps_answer=wraps)
    if key == "input_data" and isinstance(value, dict) and "data" in value and _SPLIT_KEYS.issuperset(value):
        return _from_split(value, signature, params)
    return _from_value(value, signature, params=params, wraps=wraps)


def _from_split(value: dict[str, Any], signature: Signature | None, params: dict[str, Any] | None) -> Parsed:
    if signature is not None and signature.tensors and "columns" not in value and not _names_tensor(signature, "data"):
        return Parsed(tensors=value["data"], params=params)
    return Parsed(table=_split(value, "input_data"), params=params)


def _names_tensor(signature: Signature, name: str) -> bool:
    return any(tensor.name == name for tensor in signature.tensors)


def _from_bare_record(content: dict[str, Any], signature: Signature | None) -> Parsed:
    known = {column.name for column in signature.columns} if signature is not None else set()
    if known.intersection(content):
        return Parsed(table=Table(rows=[content], records=True))
    if _SPLIT_KEYS.issuperset(content) and "data" in content:
        return Parsed(table=_split(content, "body"))
    found = ", ".join(f"'{key}'" for key in list(content)[:10]) or "nothing"
    raise BadBodyError(f"The body has {found} in it, which is no known form. {_FORMS}")


def _from_value(value: Any, signature: Signature | None, *, params: dict[str, Any] | None, wraps: bool) -> Parsed:
    takes_tensors = bool(signature.tensors) if signature is not None else False
    if isinstance(value, dict):
        if signature is None or takes_tensors:
            return Parsed(tensors=value, params=params, wraps_answer=wraps)
        return Parsed(table=_from_columns(value), params=params, wraps_answer=wraps)
    if not isinstance(value, list):
        raise BadBodyError(f"The data is a single {_json_kind(value)}. {_FORMS}")
    if value and all(isinstance(item, dict) for item in value):
        return Parsed(table=_records(value, "body"), params=params, wraps_answer=wraps)
    if signature is None or takes_tensors:
        return Parsed(tensors=value, params=params, wraps_answer=wraps)
    if value and not any(isinstance(item, list) for item in value):
        value = [[item] for item in value] if len(signature.columns) == 1 else [value]
    return Parsed(table=Table(rows=value), params=params, wraps_answer=wraps)


def _split(value: Any, key: str) -> Table:
    if not isinstance(value, dict) or "data" not in value:
        raise BadBodyError(f"'{key}' needs an object with 'data' and, as a rule, 'columns'. {_FORMS}")
    unknown = [name for name in value if name not in _SPLIT_KEYS]
    if unknown:
        raise BadBodyError(f"'{key}' has the unknown keys {unknown}. Known are columns, index and data.")
    for name in ("columns", "index", "data"):
        if value.get(name) is not None and not isinstance(value[name], list):
            raise BadBodyError(f"'{name}' in '{key}' is a {_json_kind(value[name])}. Send a list.")
    rows, index = value["data"] or [], value.get("index")
    if index is not None and len(index) != len(rows):
        raise BadBodyError(
            f"'index' has {len(index)} entries and 'data' {len(rows)} rows. Make them equal or leave it out."
        )
    if rows and all(isinstance(row, dict) for row in rows):
        return Table(rows=rows, records=True, index=index)
    columns = value.get("columns")
    if columns is not None and len(columns) == 1:
        rows = [row if isinstance(row, list) else [row] for row in rows]
    return Table(rows=rows, columns=columns, index=index)


def _records(value: Any, key: str) -> Table:
    if not isinstance(value, list):
        raise BadBodyError(f"'{key}' is a {_json_kind(value)}. Send a list of records.")
    for number, record in enumerate(value):
        if not isinstance(record, dict):
            raise BadBodyError(
                f"Row {number} of '{key}' is a {_json_kind(record)}. Send an object of column names and values."
            )
    return Table(rows=value, records=True)


def _from_columns(value: dict[str, Any]) -> Table:
    columns = {name: items if isinstance(items, list) else [items] for name, items in value.items()}
    lengths = {name: len(items) for name, items in columns.items()}
    if len(set(lengths.values())) > 1:
        raise BadBodyError(f"The columns differ in length: {lengths}. Give each the same number of values.")
    count = next(iter(lengths.values()), 0)
    rows = [[items[number] for items in columns.values()] for number in range(count)]
    return Table(rows=rows, columns=list(columns))


def _json_kind(value: Any) -> str:
    kinds = {dict: "object", list: "list", str: "text", bool: "boolean", int: "number", float: "number"}
    return "null" if value is None else kinds.get(type(value), "number")
