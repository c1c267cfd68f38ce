"""
What every value of the domain has in common: frozen, strict about unknown keys, times always aware and in UTC.

The types `Duration` and `Fraction` read the spellings that people write in mlops.yaml (`10m`, `1%`) and hold plain
numbers.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_SECONDS = 366 * 86400
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")


class Value(BaseModel):
    """A frozen value: replaced, never edited."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def parse_duration(value: object) -> object:
    """Turn `90s`, `10m`, `2h` or `7d` into seconds; numbers are refused, since their unit is unknown."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"'{value}' is no duration. Write a number and s, m, h or d, such as 90s, 10m, 2h or 7d.")  # noqa: TRY004 - as below
    if isinstance(value, (int, float)):
        raise ValueError(f"'{value}' has no unit. Write a duration such as 90s, 10m, 2h or 7d.")  # noqa: TRY004 - pydantic wants ValueError
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"'{value}' is no duration. Write a number and s, m, h or d, such as 90s, 10m, 2h or 7d.")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > _LONGEST_SECONDS:
        raise ValueError(f"'{value[:40]}' is longer than a year. Write a duration such as 90s, 10m, 2h or 7d.")
    return seconds


def parse_fraction(value: object) -> object:
    """Turn `1%` into 0.01; a plain number is a fraction already."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise ValueError(f"'{value}' is no share. Write a percentage such as 1%, or a fraction such as 0.01.") from None


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(gt=0, allow_inf_nan=False),
    # Stored with its unit, so that it can be read back by the same rule.
    PlainSerializer(lambda seconds: f"{seconds}s", return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?\s*[smhd]$", "examples": ["90s", "10m", "2h", "7d"]}),
]
Fraction = Annotated[
    float,
    BeforeValidator(parse_fraction),
    Field(ge=0, allow_inf_nan=False),
    WithJsonSchema({"type": ["string", "number"], "examples": ["1%", 0.01]}),
]
Timestamp = Annotated[AwareDatetime, AfterValidator(_utc)]
