"""
Rows of Table storage: keys, a record's JSON in them, and every documented limit, kept before Azure would refuse.

A record's JSON is divided among text properties, so nothing needs a second place to be kept.
Source of the limits: https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model
"""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from mlops_core.domain.errors import PermanentError, TemporaryError, TooLargeError
from mlops_core.domain.limits import ROW_BYTES, checked_row, pieces, text_units

Row = dict[str, Any]
Operation = tuple[str, Row] | tuple[str, Row, Mapping[str, Any]]

SCHEMA = 1
"""Of the rows that this version writes. It reads all up to it; one that is newer waits for an upgrade of the reader."""
# Not allowed in keys, besides control characters; the percent sign since it marks those that were replaced.
_FORBIDDEN = frozenset("/\\#?%")
_ASCII_CONTROL, _DELETE, _LAST_CONTROL = 0x1F, 0x7F, 0x9F
_KEYS = ("PartitionKey", "RowKey")
_KEY_UNITS = 512
_PROPERTY_BYTES = 65_536
_PROPERTIES = 252
_TRANSACTION_ROWS = 100
_TRANSACTION_BYTES = 4 * 1024 * 1024
# Of the request around a transaction's rows: headers and separators per row.
_PER_ROW_ON_THE_WIRE = 1_024
# What a property and an entity take besides names and values.
_PER_PROPERTY, _PER_TEXT, _PER_ENTITY, _NUMBER = 8, 4, 4, 8
_LATEST = 10**16
# Compressed records: bytes per property, and properties per row, which stays below 1 MiB with them.
_CHUNK, _CHUNKS_PER_ROW = 60_000, 15


def key(text: str) -> str:
    """Write a text as a key: characters that keys may not have are replaced by their number, reversibly."""
    return "".join(f"%{ord(letter):04x}" if _is_forbidden(letter) else letter for letter in text)


def _is_forbidden(letter: str) -> bool:
    number = ord(letter)
    return letter in _FORBIDDEN or number <= _ASCII_CONTROL or _DELETE <= number <= _LAST_CONTROL


def check_transaction(table: str, operations: Sequence[Operation]) -> None:
    """Refuse what Azure would refuse, and what it would take for something else. Raises PermanentError."""
    rows = [operation[1] for operation in operations]
    if len(rows) > _TRANSACTION_ROWS:
        raise PermanentError(f"A transaction of table '{table}' has {len(rows)} rows; at most 100 are taken.")
    if len({row["PartitionKey"] for row in rows}) > 1:
        raise PermanentError(f"A transaction of table '{table}' has rows of several partitions; it takes those of one.")
    sizes = [_checked_size(row) for row in rows]
    # JSON in ASCII takes three times the bytes of UTF-16 at most.
    if sum(sizes) * 3 < _TRANSACTION_BYTES:
        return
    size = sum(_bytes_on_the_wire(row) for row in rows)
    if size > _TRANSACTION_BYTES:
        raise TooLargeError(
            f"A transaction of '{str(rows[0]['PartitionKey'])[:100]}' has {size} bytes; at most 4 MiB are taken."
        )


def _checked_size(row: Row) -> int:
    for name in _KEYS:
        _check_key(str(row[name]))
    if len(row) - len(_KEYS) > _PROPERTIES:
        raise TooLargeError(f"Row '{row['RowKey'][:100]}' has {len(row)} properties; at most 252 are taken.")
    size = _PER_ENTITY
    for name, value in row.items():
        own = _size(value)
        if own > _PROPERTY_BYTES:
            raise TooLargeError(f"'{name}' of row '{row['RowKey'][:100]}' has {own} bytes; at most 65536 are taken.")
        size += _PER_PROPERTY + _PER_TEXT + 2 * len(name) + own
    if size > ROW_BYTES:
        raise TooLargeError(f"Row '{row['RowKey'][:100]}' has {size} bytes; at most 1 MiB is taken.")
    return size


def _check_key(text: str) -> None:
    if text_units(text) > _KEY_UNITS or any(_is_forbidden(letter) and letter != "%" for letter in text):
        raise PermanentError(f"'{text[:100]}' cannot be a key: at most 1 KiB of UTF-16, without / \\ # ? and controls.")


def _size(value: object) -> int:
    if isinstance(value, str):
        return 2 * text_units(value)
    return len(value) if isinstance(value, bytes) else _NUMBER


def _bytes_on_the_wire(row: Row) -> int:
    binary = sum(len(value) * 4 // 3 + 4 for value in row.values() if isinstance(value, bytes))
    return _PER_ROW_ON_THE_WIRE + binary + len(json.dumps({k: v for k, v in row.items() if not isinstance(v, bytes)}))


def with_body(row: Row, record_id: str, body: str) -> Row:
    """Put a record's JSON into a row, divided among as many text properties as it takes. Raises TooLargeError."""
    parts = pieces(checked_row(record_id, body))
    return {
        **row,
        "schema": SCHEMA,
        "parts": len(parts),
        **{f"body{number}": part for number, part in enumerate(parts)},
    }


def body_of(row: Row) -> str:
    """
    Read a record's JSON out of a row.

    Raises: TemporaryError: A newer version of Headrace wrote it; an instance of that version can read it.
    """
    if row.get("schema", SCHEMA) > SCHEMA:
        raise TemporaryError(
            f"Row '{row['PartitionKey']}' has schema {row['schema']}, this version of Headrace reads up to {SCHEMA}. "
            "An upgrade is under way; the delivery is repeated.",
            retry_after_seconds=30,
        )
    return "".join(str(row[f"body{number}"]) for number in range(int(row["parts"])))


def compressed_rows(partition: str, prefix: str, body: str) -> Iterator[Row]:
    """Divide a text that is too long for one row among rows of its own, compressed."""
    data = zlib.compress(body.encode())
    step = _CHUNK * _CHUNKS_PER_ROW
    for number, start in enumerate(range(0, len(data), step)):
        part = data[start : start + step]
        chunks = {f"data{place}": part[at : at + _CHUNK] for place, at in enumerate(range(0, len(part), _CHUNK))}
        yield {"PartitionKey": partition, "RowKey": f"{prefix}{number:02d}", "schema": SCHEMA, **chunks}


def decompressed(rows: Sequence[Row]) -> str:
    """Put a text together again out of its rows, which are in their order."""
    data = b"".join(row[name] for row in rows for place in range(_CHUNKS_PER_ROW) if (name := f"data{place}") in row)
    return zlib.decompress(data).decode()


def newest_first(moment: datetime) -> str:
    """Write a time so that later ones sort before earlier ones: microseconds, counted down, in 16 digits."""
    return f"{_LATEST - round(moment.timestamp() * 1_000_000):016d}"


def token() -> str:
    """Make up a token for one write."""
    return uuid.uuid4().hex
