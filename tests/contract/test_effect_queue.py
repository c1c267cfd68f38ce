"""
What every `EffectQueue` must do. An adapter joins with a class whose fixture `bench` gives a `QueueBench`.

The port only puts; who takes is the Functions host. So a bench takes as that host would, in the encoding of host.json.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pytest
from azurite import Azurite
from repeats import Cutting

from mlops_core.adapters.azure.effect_queue import StorageEffectQueue
from mlops_core.adapters.azure.tables import StorageAccount
from mlops_core.adapters.local.database import Database
from mlops_core.adapters.local.dead_letters import SqliteDeadLetters
from mlops_core.adapters.local.effect_queue import SqliteEffectQueue
from mlops_core.domain.errors import TemporaryError, TooLargeError
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


class AzureBench:
    """A queue of its own on Queue storage, from which the test takes as the Functions host does."""

    def __init__(self, account: StorageAccount) -> None:
        from azure.storage.queue import QueueClient

        name = f"q{uuid.uuid4().hex}"
        self.queue: EffectQueue = StorageEffectQueue(account, name=name)
        # Without a policy of its own: what is on the wire is what the host decodes.
        self.wire = QueueClient.from_connection_string(str(account.connection_string), name)
        self.wire.create_queue()

    def take(self) -> list[str]:
        """Take and delete until nothing is seen."""
        taken: list[str] = []
        for message in self.wire.receive_messages(messages_per_page=32, visibility_timeout=60):
            taken.append(base64.b64decode(message.content, validate=True).decode())
            self.wire.delete_message(message)
        return taken

    def pass_time(self, seconds: float) -> None:
        """Wait: the clock is the storage account's."""
        time.sleep(seconds)


class TestStorageEffectQueue(EffectQueueContract):
    @pytest.fixture
    def bench(self, storage: Azurite) -> Iterator[AzureBench]:
        made = AzureBench(StorageAccount(connection_string=storage.connection_string))
        yield made
        made.wire.close()

    def test_the_longest_message_is_taken_and_a_longer_one_refused_before_it_is_sent(self, bench: AzureBench) -> None:
        bench.queue.put("x" * 49_152)

        with pytest.raises(TooLargeError, match="49154 bytes; at most 49152"):
            bench.queue.put("ü" * 24_577)
        assert bench.take() == ["x" * 49_152]

    def test_a_delay_longer_than_a_queue_can_hide_is_cut_to_seven_days(self, bench: AzureBench) -> None:
        bench.queue.put(HINT, delay_seconds=30 * 24 * 3600)

        assert bench.take() == []

    def test_a_message_does_not_go_out_of_date(self, bench: AzureBench) -> None:
        """The queue's own default forgets messages after a week."""
        bench.queue.put(HINT)

        (message,) = bench.wire.peek_messages()
        assert message.expires_on.year == 9999

    def test_a_lost_answer_is_repeated_at_once_and_not_after_the_sdks_fifteen_seconds(self, storage: Azurite) -> None:
        cutting = Cutting()
        bench = AzureBench(cutting.account(storage))
        bench.queue.put("before")
        cutting.answers = ["cut"]
        bench.queue.put(HINT)

        assert HINT in bench.take()
        assert 0 < sum(cutting.pauses) < 1
        bench.wire.close()

    def test_a_long_wait_that_azure_asks_for_is_left_to_whoever_delivers_again(self, storage: Azurite) -> None:
        cutting = Cutting()
        bench = AzureBench(cutting.account(storage))
        bench.queue.put("before")
        cutting.answers = ["busy:120"]

        with pytest.raises(TemporaryError) as refused:
            bench.queue.put(HINT)
        assert (refused.value.retry_after_seconds, cutting.pauses) == (120, [])
        bench.wire.close()
