"""Dead letters in SQLite: what could not be taken, kept whole until a person replays it."""

from __future__ import annotations

from pydantic import TypeAdapter

from mlops_core.adapters.local.database import Database
from mlops_core.domain.errors import BadInputError, NotFoundError
from mlops_core.ports import DeadLetter, Page

_LETTER = TypeAdapter(DeadLetter)
# Of a number that SQLite takes.
_LONGEST_CURSOR = 18


class SqliteDeadLetters:
    """The `DeadLetters` of the local backend."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, letter: DeadLetter) -> None:
        """Keep a letter; the same id again changes nothing."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO dead_letters (id, body) VALUES (?, ?) ON CONFLICT (id) DO NOTHING",
                (letter.letter_id, _LETTER.dump_json(letter).decode()),
            )

    def get(self, letter_id: str) -> DeadLetter:
        """Read a letter. Raises NotFoundError."""
        rows = self._database.read("SELECT body FROM dead_letters WHERE id = ?", (letter_id,))
        if not rows:
            raise NotFoundError("dead letter", letter_id, advice="List them: headrace dead-letters list.")
        return _LETTER.validate_json(rows[0]["body"])

    def list(self, *, cursor: str | None = None, limit: int = 50) -> Page[DeadLetter]:
        """Read letters, newest first. Raises BadInputError: The cursor is none."""
        if cursor and not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= _LONGEST_CURSOR):
            raise BadInputError(
                f"'{cursor[:50]}' is no cursor of a list of dead letters. Take it from the page before."
            )
        before = int(cursor) if cursor else 2**62
        rows = self._database.read(
            "SELECT sequence, body FROM dead_letters WHERE sequence < ? ORDER BY sequence DESC LIMIT ?",
            (before, limit + 1),
        )
        letters = [_LETTER.validate_json(row["body"]) for row in rows[:limit]]
        return Page(letters, str(rows[limit - 1]["sequence"]) if len(rows) > limit else None)

    def remove(self, letter_id: str) -> None:
        """Forget a letter that was replayed."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM dead_letters WHERE id = ?", (letter_id,))
