"""
The hint queue in SQLite, in a file of its own.

Messages are hints: what is pending is in the run's own record, and reconciling puts lost ones again. So this file need
not survive a power cut (`synchronous=OFF`; a killed process loses nothing), and putting a message costs no sync of the
disk. Messages that failed too often are put among the dead letters.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops_core.adapters.local.host.loops import Message
from mlops_core.domain.errors import TemporaryError
from mlops_core.ports import DeadLetter, DeadLetters

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    id TEXT PRIMARY KEY, queue TEXT NOT NULL, body TEXT NOT NULL, visible_at REAL NOT NULL,
    dequeue_count INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS messages_due ON messages (queue, visible_at);
CREATE INDEX IF NOT EXISTS messages_same ON messages (queue, body);
"""


class SqliteEffectQueue:
    """
    The `EffectQueue` of the local backend, and the host's source of queue messages.

    Args:
        dead_letters: Take the messages that failed too often.
        name: The queue that `put` writes to.
        wake: Called after each put, so that a waiting host looks at once.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        path: Path,
        dead_letters: DeadLetters,
        *,
        name: str = "headrace-effects",
        wake: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.wake = wake
        self._name = name
        self._dead_letters = dead_letters
        self._now = now
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")
        weakref.finalize(self, self._connection.close)
        self._connection.executescript(_SCHEMA)

    def put(self, message: str, *, delay_seconds: float = 0) -> None:
        """Add a message; the same text that waits already is not added twice."""
        due = self._now() + delay_seconds
        self._write(
            "INSERT INTO messages (id, queue, body, visible_at, dequeue_count) SELECT ?, ?, ?, ?, 0 WHERE NOT EXISTS"
            " (SELECT 1 FROM messages WHERE queue = ? AND body = ? AND dequeue_count = 0)",
            (uuid.uuid4().hex, self._name, message, due, self._name, message),
        )
        self.wake()

    def lease(self, queue: str, *, limit: int, seconds: float) -> Sequence[Message]:
        """Take messages that nobody else sees for a while."""
        now = self._now()
        rows = self._write(
            "UPDATE messages SET visible_at = ?, dequeue_count = dequeue_count + 1 WHERE id IN"
            " (SELECT id FROM messages WHERE queue = ? AND visible_at <= ? ORDER BY visible_at LIMIT ?)"
            " RETURNING id, body, dequeue_count",
            (now + seconds, queue, now, limit),
        )
        return [Message(message_id=row[0], body=row[1], dequeue_count=row[2]) for row in rows]

    def delete(self, message: Message) -> None:
        """Forget a message that was worked off."""
        self._write("DELETE FROM messages WHERE id = ?", (message.message_id,))

    def release(self, message: Message, *, delay_seconds: float) -> None:
        """Let a message be seen again after a pause."""
        self._write(
            "UPDATE messages SET visible_at = ? WHERE id = ?", (self._now() + delay_seconds, message.message_id)
        )

    def release_all(self) -> None:
        """Let every leased message be seen now: whoever had leased them in an earlier life of the host is gone."""
        self._write("UPDATE messages SET visible_at = MIN(visible_at, ?)", (self._now(),))

    def poison(self, message: Message, reason: str) -> None:
        """Put a message that failed too often among the dead letters."""
        letter = DeadLetter(
            letter_id=f"message-{message.message_id}",
            kind="effect",
            subject="message of the effect queue",
            reason=f"Given up after {message.dequeue_count} attempts: {reason}",
            body=message.body,
            created_at=datetime.fromtimestamp(self._now(), UTC),
        )
        self._dead_letters.put(letter)
        self.delete(message)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _write(self, sql: str, parameters: tuple[object, ...]) -> list[Any]:
        try:
            with self._lock:
                return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError as error:
            raise TemporaryError(f"The effect queue could not be used: {error}. It is tried again.") from error
