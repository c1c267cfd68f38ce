"""
What every `EffectQueue` must do. An adapter joins with a class whose fixture `bench` gives a `QueueBench`.

The port only puts; who takes is the Functions host. So a bench takes as that host would, in the encoding of host.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pytest

from mlops_core.adapters.local.database import Database
from mlops_core.adapters.local.dead_letters import SqliteDeadLetters
from mlops_core.adapters.local.effect_queue import SqliteEffectQueue
from mlops_core.ports import EffectQueue

HINT = json.dumps({"run_id": "diabetes-0001", "key": "submit:build"})


class QueueBench(Protocol):
    """A queue that is empty, and the host's side of it."""

    queue: EffectQueue

    def take(self) -> list[str]:
        """Take and delete every message that can be seen now."""
        ...

    def pass_time(self, seconds: float) -> None:
        """Let time go by: a clock of the test's own where the adapter has one, else the real one."""
        ...


class EffectQueueContract:
    """The suite."""

    @pytest.mark.parametrize(
        "message", [HINT, "<a>&amp;\"'</a>", "Grüße, 東京 🚀", " lines\r\n\tand blanks ", "x" * 30_000]
    )
    def test_a_message_is_taken_as_it_was_put(self, bench: QueueBench, message: str) -> None:
        bench.queue.put(message)

        assert bench.take() == [message]

    def test_a_message_that_was_taken_does_not_come_again(self, bench: QueueBench) -> None:
        bench.queue.put(HINT)
        bench.take()

        assert bench.take() == []

    def test_a_delayed_message_is_not_seen_before_its_time(self, bench: QueueBench) -> None:
        bench.queue.put("later", delay_seconds=3600)
        bench.queue.put("now")

        assert bench.take() == ["now"]

    def test_a_delayed_message_is_seen_when_its_time_has_come(self, bench: QueueBench) -> None:
        bench.queue.put(HINT, delay_seconds=2)
        bench.pass_time(3)

        assert bench.take() == [HINT]

    def test_a_message_that_waits_may_be_put_again_and_is_not_lost(self, bench: QueueBench) -> None:
        bench.queue.put(HINT)
        bench.queue.put(HINT)

        assert set(bench.take()) == {HINT}

    def test_a_message_can_be_put_again_after_it_was_taken(self, bench: QueueBench) -> None:
        bench.queue.put(HINT)
        bench.take()
        bench.queue.put(HINT)

        assert bench.take() == [HINT]

    def test_of_many_messages_from_several_threads_none_is_lost(self, bench: QueueBench) -> None:
        messages = [f"message {number}" for number in range(80)]
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(bench.queue.put, messages))

        assert sorted(bench.take()) == sorted(messages)


class SqliteBench:
    """The local queue with a clock of the test's own."""

    def __init__(self, folder: Path) -> None:
        self._now = 1_772_000_000.0
        self._database = Database(folder / "headrace.db")
        self.sqlite = SqliteEffectQueue(
            folder / "queue.db", SqliteDeadLetters(self._database), name="effects", now=lambda: self._now
        )
        self.queue: EffectQueue = self.sqlite

    def take(self) -> list[str]:
        """Lease and delete until nothing is seen."""
        taken: list[str] = []
        while messages := self.sqlite.lease("effects", limit=32, seconds=60):
            taken += [message.body for message in messages]
            for message in messages:
                self.sqlite.delete(message)
        return taken

    def pass_time(self, seconds: float) -> None:
        """Move the clock."""
        self._now += seconds

    def close(self) -> None:
        """Close the files."""
        self.sqlite.close()
        self._database.close()


class TestSqliteEffectQueue(EffectQueueContract):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[QueueBench]:
        made = SqliteBench(tmp_path)
        yield made
        made.close()

    def test_a_message_that_waits_already_is_not_put_twice(self, bench: QueueBench) -> None:
        bench.queue.put(HINT)
        bench.queue.put(HINT)

        assert bench.take() == [HINT]
