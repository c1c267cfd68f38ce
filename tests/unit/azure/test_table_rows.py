"""Rows of Table storage: what Azure would refuse is refused before, with a sentence; what it takes is taken."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import pytest
from fakes import START

from mlops_core.adapters.azure.rows import (
    Operation,
    Row,
    body_of,
    check_transaction,
    compressed_rows,
    decompressed,
    key,
    newest_first,
    with_body,
)
from mlops_core.domain.errors import PermanentError, TemporaryError, TooLargeError

ROW: Row = {"PartitionKey": "diabetes-0001", "RowKey": "run"}
HALF = "x" * 32_768  # a text property's 64 KiB


def check(*rows: Row) -> None:
    operations: list[Operation] = [("create", row) for row in rows]
    check_transaction("Runs", operations)


TAKEN = {
    "a key of 1 KiB": ROW | {"RowKey": "x" * 512},
    "a key of 1 KiB in letters beyond the basic plane": ROW | {"RowKey": "🚀" * 256},
    "a text of 64 KiB": ROW | {"text": HALF},
    "a text of 64 KiB in letters beyond the basic plane": ROW | {"text": "🚀" * 16_384},
    "bytes of 64 KiB": ROW | {"data": b"x" * 65_536},
    "252 properties": ROW | {f"p{number}": number for number in range(252)},
    "nearly 1 MiB": ROW | {f"p{number}": HALF for number in range(15)} | {"rest": "x" * 32_000},
}
REFUSED = {
    "a key over 1 KiB": (ROW | {"RowKey": "x" * 513}, "cannot be a key"),
    "a key over 1 KiB in letters beyond the basic plane": (ROW | {"RowKey": "🚀" * 257}, "cannot be a key"),
    "a slash in a key": (ROW | {"PartitionKey": "a/b"}, "cannot be a key"),
    "a question mark in a key": (ROW | {"RowKey": "a?b"}, "cannot be a key"),
    "a control character in a key": (ROW | {"RowKey": "a\x7fb"}, "cannot be a key"),
    "a text over 64 KiB": (ROW | {"text": HALF + "x"}, "'text' of row 'run' has 65538 bytes"),
    "a text over 64 KiB in letters beyond the basic plane": (ROW | {"text": "🚀" * 16_385}, "has 65540 bytes"),
    "bytes over 64 KiB": (ROW | {"data": b"x" * 65_537}, "'data' of row 'run' has 65537 bytes"),
    "253 properties": (ROW | {f"p{number}": number for number in range(253)}, "at most 252"),
    "over 1 MiB": (ROW | {f"p{number}": HALF for number in range(16)}, "at most 1 MiB"),
}


@pytest.mark.parametrize("row", TAKEN.values(), ids=TAKEN)
def test_what_azure_takes_passes(row: Row) -> None:
    check(row)


@pytest.mark.parametrize(("row", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_azure_would_refuse_is_refused_before(row: Row, sentence: str) -> None:
    with pytest.raises(PermanentError, match=sentence):
        check(row)


def test_a_transaction_has_at_most_a_hundred_rows() -> None:
    rows = [ROW | {"RowKey": str(number)} for number in range(101)]
    check(*rows[:100])

    with pytest.raises(PermanentError, match="101 rows; at most 100"):
        check(*rows)


def test_a_transaction_has_rows_of_one_partition() -> None:
    with pytest.raises(PermanentError, match="several partitions"):
        check(ROW, ROW | {"PartitionKey": "other"})


def test_a_transaction_has_at_most_four_megabytes_on_the_wire() -> None:
    """A letter outside of ASCII takes two bytes of a row, but six of the request."""
    plain = ROW | {f"p{number}": HALF for number in range(15)}
    wide = ROW | {f"p{number}": "ü" * 32_768 for number in range(15)}
    check(*[plain | {"RowKey": str(number)} for number in range(8)])

    with pytest.raises(TooLargeError, match="at most 4 MiB"):
        check(wide, wide | {"RowKey": "2"})


def test_a_body_comes_out_of_its_row_as_it_went_in() -> None:
    body = '"' + "ü🚀x" * 40_000 + '"'
    row = with_body(ROW, "run", body)
    check(row)

    assert body_of(row) == body


def test_a_row_of_a_newer_version_is_left_to_an_instance_of_that_version() -> None:
    with pytest.raises(TemporaryError, match="has schema 2, this version of Headrace reads up to 1"):
        body_of(with_body(ROW, "run", "{}") | {"schema": 2})


def test_a_compressed_text_comes_out_of_its_rows_as_it_went_in() -> None:
    random = Random(1)
    text = "".join(chr(random.randrange(0x4E00, 0x9FFF)) for _ in range(700_000))
    rows = list(compressed_rows("letters", "long:x:", text))
    check(*rows)

    assert len(rows) > 1
    assert decompressed(rows) == text


@pytest.mark.parametrize("text", ["a/b", "a%002fb", "C:\\x #1?", "\n\x85", "läuft 🚀"])
def test_any_text_becomes_a_key_that_no_other_text_becomes(text: str) -> None:
    others = {"a/b", "a%002fb", "a%2fb", "C:\\x #1?", "\n\x85", "läuft 🚀"} - {text}
    check(ROW | {"RowKey": key(text)})

    assert key(text) not in {key(other) for other in others}


def test_later_times_sort_before_earlier_ones() -> None:
    times = [START + timedelta(microseconds=number * 999) for number in range(50)]

    assert sorted(map(newest_first, times)) == [newest_first(moment) for moment in reversed(times)]
