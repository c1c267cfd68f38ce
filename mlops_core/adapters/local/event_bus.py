"""
Topics in SQLite: what is published is durable before it is answered, and is delivered to every subscription.

One file (`synchronous=FULL`) with a row per event and subscription; events of many publishers at once share a
transaction. The host's `TopicLoop` delivers; an event whose attempts are used up is put among the dead letters, first
there and then away from here. Twice is harmless, lost is not: so what was delivered is forgotten with the next look.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops_core.adapters.local.group_commit import GroupCommit
from mlops_core.adapters.local.host.loops import Delivery
from mlops_core.domain.errors import TemporaryError
from mlops_core.ports import DeadLetter, DeadLetters

_Row = tuple[str, str, str, str, str, float]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, subscription TEXT NOT NULL, function TEXT NOT NULL,
    event_id TEXT NOT NULL, body TEXT NOT NULL, due_at REAL NOT NULL, attempts INTEGER NOT NULL, outcome TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (due_at);
CREATE INDEX IF NOT EXISTS deliveries_once ON deliveries (topic, subscription, event_id);
"""


@dataclass(frozen=True)
class Subscription:
    """
    Who gets which events of a topic.

    Attributes:
        event_types: Full type names; empty for all.
    """

    name: str
    topic: str
    function: str
    event_types: tuple[str, ...] = ()

    def wants(self, event: Mapping[str, Any]) -> bool:
        """Tell whether an event, in either schema, is for this subscription."""
        kind = event.get("eventType") or event.get("type")
        return not self.event_types or kind in self.event_types


class SqliteEventBus:
    """
    The `EventBus` of the local backend, and the host's source of deliveries.

    Args:
        dead_letters: Take the events that were given up.
        topic: The controller's own topic, which `publish` writes to.
        topics: Names of all topics, the own one included.
        wake: Called after events were accepted, so that a waiting host looks at once.
    """

    def __init__(
        self,
        path: Path,
        subscriptions: Sequence[Subscription],
        dead_letters: DeadLetters,
        *,
        topic: str = "headrace",
        topics: Sequence[str] = ("headrace",),
        wake: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.wake = wake
        self._subscriptions = subscriptions
        self._dead_letters = dead_letters
        self._topic = topic
        self._topics = frozenset(topics)
        self._now = now
        self._lock = threading.Lock()
        self._delivered: list[int] = []
        self._forgetting = threading.Lock()
        self._publishing = GroupCommit(self._insert)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        weakref.finalize(self, self._connection.close)
        self._connection.executescript(_SCHEMA)

    def publish(
        self, *, event_id: str, event_type: str, subject: str, data: Mapping[str, object], at: datetime
    ) -> None:
        """Publish one event to the controller's own topic."""
        event = {
            "id": event_id,
            "eventType": event_type,
            "subject": subject,
            "eventTime": at.isoformat(),
            "data": data,
            "dataVersion": "1",
            "metadataVersion": "1",
            "topic": f"/topics/{self._topic}",
        }
        self.accept(self._topic, [event])

    def accept(self, topic: str, events: Sequence[Mapping[str, Any]]) -> None:
        """Store events for every subscription that wants them. Raises KeyError for a topic that is not there."""
        if topic not in self._topics:
            raise KeyError(topic)
        now = self._now()
        rows = [
            (topic, subscription.name, subscription.function, str(event.get("id", "")), json.dumps(event), now)
            for event in events
            for subscription in self._subscriptions
            if subscription.topic == topic and subscription.wants(event)
        ]
        if not rows:
            return
        self._publishing.submit(rows)
        self.wake()

    def _insert(self, groups: Sequence[Sequence[_Row]]) -> None:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany(
                    "INSERT INTO deliveries (topic, subscription, function, event_id, body, due_at, attempts, outcome)"
                    " VALUES (?, ?, ?, ?, ?, ?, 0, '')",
                    [row for rows in groups for row in rows],
                )
                self._connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise TemporaryError(f"The event could not be stored: {error}. Send it again.") from error

    def due(self, *, limit: int) -> Sequence[Delivery]:
        """Read deliveries whose time has come, oldest first."""
        self._forget_delivered()
        rows = self._run(
            "SELECT id, body, event_id, function, subscription, attempts FROM deliveries"
            " WHERE due_at <= ? ORDER BY due_at LIMIT ?",
            (self._now(), limit),
        )
        return [Delivery(*row) for row in rows]

    def done(self, delivery: Delivery) -> None:
        """Forget a delivery that was taken, on disk at the next look; after a crash before that it is made again."""
        self._delivered.append(delivery.delivery_id)

    def _forget_delivered(self) -> None:
        with self._forgetting:
            delivered = self._delivered[:]
            if delivered:
                sql = "DELETE FROM deliveries WHERE id IN (SELECT value FROM json_each(?))"
                self._run(sql, (json.dumps(delivered),))
                del self._delivered[: len(delivered)]

    def again(self, delivery: Delivery, *, delay_seconds: float, outcome: str) -> None:
        """Make a delivery due again later."""
        self._run(
            "UPDATE deliveries SET due_at = ?, attempts = attempts + 1, outcome = ? WHERE id = ?",
            (self._now() + delay_seconds, outcome, delivery.delivery_id),
        )

    def give_up(self, delivery: Delivery, *, outcome: str) -> None:
        """Put a delivery among the dead letters; it is kept there until a person replays it."""
        letter = DeadLetter(
            letter_id=f"delivery-{delivery.subscription}-{delivery.delivery_id}",
            kind="event",
            subject=f"delivery to {delivery.subscription}",
            reason=f"Given up after {delivery.attempts + 1} attempts: {outcome}",
            body=delivery.event,
            created_at=datetime.fromtimestamp(self._now(), UTC),
        )
        self._dead_letters.put(letter)
        self.done(delivery)
        self._forget_delivered()

    def waiting(self) -> int:
        """Count the deliveries that are not taken yet, due or not."""
        self._forget_delivered()
        return int(self._run("SELECT COUNT(*) FROM deliveries", ())[0][0])

    def close(self) -> None:
        """Close the file."""
        self._forget_delivered()
        with self._lock:
            self._connection.close()

    def _run(self, sql: str, parameters: tuple[object, ...]) -> list[Any]:
        try:
            with self._lock:
                return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError as error:
            raise TemporaryError(f"The topics could not be used: {error}. It is tried again.") from error
