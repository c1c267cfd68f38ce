"""
Dead letters in Table storage: what could not be taken, kept whole until a person replays it.

Rows: the letter in the order of time, its place by its id, and for a letter that is too long for a row (an event has up
to 1 MiB, JSON in a letter takes several times of that) its text compressed in rows of its own. All of them are written
and removed in one transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from pydantic import TypeAdapter

from mlops_core.adapters.azure.rows import (
    Operation,
    Row,
    body_of,
    compressed_rows,
    decompressed,
    newest_first,
    with_body,
)
from mlops_core.adapters.azure.tables import ConflictError, Tables, unchanged
from mlops_core.domain.errors import BadInputError, NotFoundError, TemporaryError, TooLargeError
from mlops_core.ports import DeadLetter, Page

_LETTERS = "Letters"
_PARTITION = "letters"
_LETTER = TypeAdapter(DeadLetter)
_MAX_CONFLICTS = 20


class TableDeadLetters:
    """The `DeadLetters` of the Azure backend."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def put(self, letter: DeadLetter) -> None:
        """Keep a letter; the same id again changes nothing. Raises TooLargeError: Not even compressed it fits 4 MiB."""
        name = _name(letter.letter_id)
        place = f"list:{newest_first(letter.created_at)}:{name}"
        pointer = {"PartitionKey": _PARTITION, "RowKey": f"id:{name}", "place": place}
        try:
            self._tables.write(_LETTERS, [("create", row) for row in [pointer, *_rows(letter, place, name)]])
        except ConflictError:
            return

    def get(self, letter_id: str) -> DeadLetter:
        """Read a letter. Raises NotFoundError."""
        pointer = self._pointer(letter_id)
        row = self._tables.get(_LETTERS, _PARTITION, pointer["place"]) if pointer else None
        letter = self._letter(row) if row else None
        if letter is None:
            raise NotFoundError("dead letter", letter_id, advice="List them: headrace dead-letters list.")
        return letter

    def _letter(self, row: Row) -> DeadLetter | None:
        if "long" not in row:
            return _LETTER.validate_json(body_of(row))
        parts = self._long_rows(row["long"])
        # Gone where somebody removed it between the two reads.
        return _LETTER.validate_json(decompressed(parts)) if parts else None

    def _long_rows(self, name: str) -> list[Row]:
        return self._tables.query(
            _LETTERS,
            "PartitionKey eq @partition and RowKey ge @first and RowKey lt @last",
            {"partition": _PARTITION, "first": f"long:{name}:", "last": f"long:{name};"},
        )

    def list(self, *, cursor: str | None = None, limit: int = 50) -> Page[DeadLetter]:
        """Read letters, newest first. Raises BadInputError: The cursor is none."""
        if cursor and not cursor.startswith("list:"):
            raise BadInputError(
                f"'{cursor[:50]}' is no cursor of a list of dead letters. Take it from the page before."
            )
        rows = self._tables.query(
            _LETTERS,
            "PartitionKey eq @partition and RowKey gt @after and RowKey lt 'list;'",
            {"partition": _PARTITION, "after": cursor or "list:"},
            limit=limit + 1,
        )
        letters = [letter for row in rows[:limit] if (letter := self._letter(row)) is not None]
        return Page(letters, rows[limit - 1]["RowKey"] if len(rows) > limit else None)

    def remove(self, letter_id: str) -> None:
        """Forget a letter that was replayed."""
        for _ in range(_MAX_CONFLICTS):
            pointer = self._pointer(letter_id)
            if pointer is None:
                return
            letter = self._tables.get(_LETTERS, _PARTITION, pointer["place"], only=["long", "schema"])
            found = [letter | {"RowKey": pointer["place"]}] if letter else []
            long = self._long_rows(letter["long"]) if letter and letter.get("long") else []
            try:
                self._tables.write(_LETTERS, [_deletion(row) for row in [pointer, *found, *long]])
            except ConflictError:
                continue
            return
        raise TemporaryError(f"Dead letter '{letter_id}' was changed by others {_MAX_CONFLICTS} times in a row.")

    def _pointer(self, letter_id: str) -> Row | None:
        return self._tables.get(_LETTERS, _PARTITION, f"id:{_name(letter_id)}")


def _rows(letter: DeadLetter, place: str, name: str) -> Iterator[Row]:
    row = {"PartitionKey": _PARTITION, "RowKey": place}
    body = _LETTER.dump_json(letter).decode()
    try:
        yield with_body(row, f"dead letter {letter.letter_id}", body)
    except TooLargeError:
        yield row | {"long": name}
        yield from compressed_rows(_PARTITION, f"long:{name}:", body)


def _deletion(row: Row) -> Operation:
    return "delete", {"PartitionKey": _PARTITION, "RowKey": row["RowKey"]}, unchanged(row["etag"])


def _name(letter_id: str) -> str:
    """Name a letter's rows: ids come from outside, so they are of any length and have any characters."""
    return hashlib.sha256(letter_id.encode()).hexdigest()
