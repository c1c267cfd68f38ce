"""
The rules for one cell of a table: which JSON values a column type takes.

They follow MLflow's schema enforcement, where JSON says the type as well: no cast that changes a value (1.5 is no
long, true is no double), missing values only where numpy can hold them (double, float, string, datetime, binary). A
whole number written as 1.0 counts as 1, since JSON does not tell the two apart.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
from collections.abc import Callable
from typing import Any

from mlops_core.serving.parsing import NonFinite
from mlops_core.serving.signature import ColumnSpec

_LARGEST_DOUBLE = 1.7976931348623157e308
_LARGEST_FLOAT = 3.4028234663852886e38
_DATETIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?")
_ZONE = re.compile(r"(Z|[+-]\d\d:?\d\d)$")
_SECONDS_LENGTH = len("2024-05-31T12:00:00")
_FIRST_YEAR, _LAST_YEAR = 1678, 2261  # what 64 bits of nanoseconds hold

Cell = Callable[[Any], Any]


class WrongCellError(ValueError):
    """A value does not fit its column; the text says what to send instead."""


def cell_rule(column: ColumnSpec) -> Cell:
    """
    Give the function that takes a cell's JSON value and returns what the table holds, or raises `WrongCellError`.

    What is in a column that is no scalar, MLflow judges.
    """
    rule = _RULES.get(column.type)
    if rule is None:
        return lambda value: _typed_numbers(value, column.inside)
    if not column.takes_null:
        return lambda value: rule(_present(value))
    if column.required or column.type != "boolean":
        return rule
    return lambda value: None if value is None else rule(value)  # MLflow keeps optional booleans as objects


def _present(value: Any) -> Any:
    if value is None:
        raise WrongCellError("null is not allowed: the model was tried at its start and raises on it. Send a number.")
    return value


def plain_types(column: ColumnSpec) -> frozenset[type]:
    """Give the exact Python types that need no look at the value (infinite floats are looked for elsewhere)."""
    plain: dict[str, frozenset[type]] = {
        "double": frozenset({float, type(None)}),
        "string": frozenset({str, type(None)}),
        "boolean": frozenset({bool}),
    }
    found = plain.get(column.type, frozenset())
    return found if column.takes_null else found - {type(None)}


def _real(value: Any, largest: float, name: str) -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise WrongCellError(f"{_shown(value)} is no number, and the column is '{name}'. Send a number, or null.")
    if not -largest <= value <= largest:
        raise WrongCellError(f"{_shown(value)} is out of the range of '{name}'. Send a finite number, or null.")
    return value


def _double(value: Any) -> Any:
    return _real(value, _LARGEST_DOUBLE, "double")


def _float(value: Any) -> Any:
    return _real(value, _LARGEST_FLOAT, "float")


def _whole(value: Any, bits: int, name: str) -> int:
    if value is None:
        raise WrongCellError(f"null is not allowed, since the column is '{name}'. Send a whole number.")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise WrongCellError(f"{_shown(value)} is no whole number, and the column is '{name}'. Send a whole number.")
    if isinstance(value, float) and not value.is_integer():
        raise WrongCellError(
            f"{_shown(value)} is no whole number, and the column is '{name}'. Round it as the training did."
        )
    number = int(value)
    if not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
        raise WrongCellError(
            f"{_shown(value)} does not fit into {bits} bits, and the column is '{name}'. Send a smaller one."
        )
    return number


def _long(value: Any) -> int:
    return _whole(value, 64, "long")


def _integer(value: Any) -> int:
    return _whole(value, 32, "integer")


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WrongCellError(f"{_shown(value)} is no boolean. Send true or false.")
    return value


def _string(value: Any) -> Any:
    if value is not None and not isinstance(value, str):
        raise WrongCellError(f"{_shown(value)} is no text, and the column is 'string'. Put it in quotes.")
    return value


def _datetime(value: Any) -> Any:
    if value is None:
        return None
    advice = "Send UTC without a zone, like '2024-05-31T12:00:00'."
    if not isinstance(value, str):
        raise WrongCellError(f"{_shown(value)} is no date and time. {advice}")
    if "T" in value and _ZONE.search(value):
        raise WrongCellError(f"{_shown(value)} has a time zone, which the model's column has not. {advice}")
    if not _DATETIME.fullmatch(value):
        raise WrongCellError(f"{_shown(value)} is no date and time. {advice}")
    try:
        moment = dt.datetime.fromisoformat(value[:_SECONDS_LENGTH])
    except ValueError as error:
        raise WrongCellError(f"{_shown(value)} is no date and time: {error}. {advice}") from error
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise WrongCellError(
            f"{_shown(value)} is outside the years {_FIRST_YEAR} to {_LAST_YEAR}. Send a later or earlier one."
        )
    return value


def _binary(value: Any) -> Any:
    if value is None:
        return None
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise WrongCellError(f"{_shown(value)} is no base64. Encode the bytes as base64 text.") from error


def _typed_numbers(value: Any, inside: Any) -> Any:
    """Make the numbers in arrays, objects and maps what the signature says, since JSON does not tell 1 from 1.0."""
    if isinstance(value, NonFinite):
        raise WrongCellError(f"{value.text} is no JSON value. Send null for a missing one.")
    described: dict[str, Any] = inside if isinstance(inside, dict) else {}
    kind = described.get("type")
    if isinstance(value, list):
        return [_typed_numbers(item, described.get("items")) for item in value]
    if isinstance(value, dict):
        properties = described.get("properties") or {}
        return {
            name: _typed_numbers(item, properties.get(name, described.get("values"))) for name, item in value.items()
        }
    if kind in ("double", "float") and type(value) is int and abs(value) <= _LARGEST_DOUBLE:
        return float(value)
    if kind in ("long", "integer") and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _shown(value: Any) -> str:
    text = f"'{value}'" if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - long enough to recognise a value


_RULES: dict[str, Cell] = {
    "double": _double,
    "float": _float,
    "long": _long,
    "integer": _integer,
    "boolean": _boolean,
    "string": _string,
    "datetime": _datetime,
    "binary": _binary,
}
