"""Dead letters in Table storage: what could not be taken, kept whole until a person replays it."""

from __future__ import annotations

from pydantic import TypeAdapter

from mlops_core.adapters.azure.tables import ConflictError, Tables, body_of, key, newest_first, with_body
from mlops_core.domain.errors import NotFoundError
from mlops_core.ports import DeadLetter, Page

_LETTERS = "Letters"
_PARTITION = "letters"
_LETTER = TypeAdapter(DeadLetter)


class TableDeadLetters:
    """The `DeadLetters` of the Azure backend. Two rows each: the letter in the order of time, and its place by its id."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def put(self, letter: DeadLetter) -> None:
        """Keep a letter; the same id again changes nothing."""
        place = f"list:{newest_first(letter.created_at)}:{key(letter.letter_id)}"
        row = {"PartitionKey": _PARTITION, "RowKey": place}
        full = with_body(row, f"dead letter {letter.letter_id}", _LETTER.dump_json(letter).decode())
        pointer = {"PartitionKey": _PARTITION, "RowKey": f"id:{key(letter.letter_id)}", "place": place}
        try:
            self._tables.write(_LETTERS, [("create", pointer), ("create", full)])
        except ConflictError:
            return

    def get(self, letter_id: str) -> DeadLetter:
        """Read a letter. Raises NotFoundError."""
        row = self._tables.get(_LETTERS, _PARTITION, self._place(letter_id) or "id:")
        if row is None:
            raise NotFoundError("dead letter", letter_id, advice="List them: headrace dead-letters list.")
        return _LETTER.validate_json(body_of(row))

    def list(self, *, cursor: str | None = None, limit: int = 50) -> Page[DeadLetter]:
        """Read letters, newest first."""
        rows = self._tables.query(
            _LETTERS,
            "PartitionKey eq @partition and RowKey gt @after and RowKey lt 'list;'",
            {"partition": _PARTITION, "after": cursor or "list:"},
            limit=limit + 1,
        )
        letters = [_LETTER.validate_json(body_of(row)) for row in rows[:limit]]
        return Page(letters, rows[limit - 1]["RowKey"] if len(rows) > limit else None)

    def remove(self, letter_id: str) -> None:
        """Forget a letter that was replayed."""
        place = self._place(letter_id)
        rows = [f"id:{key(letter_id)}"]
        self._tables.delete(_LETTERS, _PARTITION, [place, *rows] if place else rows)

    def _place(self, letter_id: str) -> str | None:
        row = self._tables.get(_LETTERS, _PARTITION, f"id:{key(letter_id)}")
        return str(row["place"]) if row else None
