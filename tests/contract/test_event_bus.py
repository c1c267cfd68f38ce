"""
What every `EventBus` must do. An adapter joins with a class whose fixture `bench` gives a `BusBench`.

Event Grid's genuine adapter publishes to the local host's topic, which speaks the same HTTP, so both are read at one place.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Protocol

import pytest
import uvicorn
from azure.core.credentials import AzureKeyCredential

from mlops_core.adapters.azure.event_bus import EventGridBus
from mlops_core.adapters.local.database import Database
from mlops_core.adapters.local.dead_letters import SqliteDeadLetters
from mlops_core.adapters.local.event_bus import SqliteEventBus, Subscription
from mlops_core.adapters.local.host.functions import Invoker
from mlops_core.adapters.local.host.server import open_socket
from mlops_core.adapters.local.host.web import FunctionsWeb
from mlops_core.domain.errors import TemporaryError
from mlops_core.ports import EventBus

AT = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
DATA = {"repository": "Größe/東京", "changed": ["a b", "<c>"], "before": None, "n": 3, "x": 0.1, "ok": True}


class BusBench(Protocol):
    """A bus with one subscription to everything and one to `Headrace.GitPush` only."""

    bus: EventBus

    def events(self, subscription: str = "all") -> Sequence[dict[str, Any]]:
        """Read what a subscription gets, in Event Grid's schema."""
        ...


def publish(bus: EventBus, number: int = 1, event_type: str = "Headrace.GitPush", at: datetime = AT) -> None:
    bus.publish(event_id=f"e{number}", event_type=event_type, subject="repositories/a/b", data=DATA, at=at)


class EventBusContract:
    """The suite."""

    def test_an_event_is_delivered_as_it_was_published(self, bench: BusBench) -> None:
        publish(bench.bus)

        event = bench.events()[0]
        assert (event["id"], event["eventType"], event["subject"]) == ("e1", "Headrace.GitPush", "repositories/a/b")
        assert event["data"] == DATA
        assert event["dataVersion"] == "1"

    def test_the_time_is_the_same_moment_whatever_zone_it_was_given_in(self, bench: BusBench) -> None:
        publish(bench.bus, at=AT.astimezone(timezone(timedelta(hours=5, minutes=30))))

        assert datetime.fromisoformat(bench.events()[0]["eventTime"]) == AT

    def test_a_subscription_gets_the_types_that_it_asked_for_only(self, bench: BusBench) -> None:
        publish(bench.bus, 1)
        publish(bench.bus, 2, "Headrace.RunAdvanced")

        assert [event["id"] for event in bench.events("pushes")] == ["e1"]
        assert sorted(event["id"] for event in bench.events()) == ["e1", "e2"]

    def test_an_event_published_twice_is_delivered_at_least_once_under_its_id(self, bench: BusBench) -> None:
        publish(bench.bus)
        publish(bench.bus)

        assert {event["id"] for event in bench.events()} == {"e1"}

    def test_a_large_event_is_delivered_whole(self, bench: BusBench) -> None:
        """Event Grid takes up to 1 MB."""
        files = [f"data/file-{number:06}.csv" for number in range(20_000)]
        bench.bus.publish(event_id="e1", event_type="Headrace.GitPush", subject="s", data={"changed": files}, at=AT)

        assert bench.events()[0]["data"] == {"changed": files}


class SqliteBench:
    """The local topic."""

    def __init__(self, folder: Path) -> None:
        self._database = Database(folder / "headrace.db")
        subscriptions = (
            Subscription("all", "headrace", "take"),
            Subscription("pushes", "headrace", "take", ("Headrace.GitPush",)),
        )
        self.path = folder / "topics.db"
        self.sqlite = SqliteEventBus(self.path, subscriptions, SqliteDeadLetters(self._database))
        self.bus: EventBus = self.sqlite

    def events(self, subscription: str = "all") -> Sequence[dict[str, Any]]:
        """Read what is due."""
        due = self.sqlite.due(limit=100)
        return [json.loads(each.event) for each in due if each.subscription == subscription]

    def close(self) -> None:
        """Close the files."""
        self.sqlite.close()
        self._database.close()


class TestSqliteEventBus(EventBusContract):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[BusBench]:
        made = SqliteBench(tmp_path)
        yield made
        made.close()

    def test_what_was_published_is_there_after_the_file_is_opened_again(self, tmp_path: Path) -> None:
        first = SqliteBench(tmp_path)
        publish(first.bus)
        first.close()
        second = SqliteBench(tmp_path)

        assert [event["id"] for event in second.events()] == ["e1"]
        second.close()


class TopicServer:
    """The local host's topics on a port, without functions."""

    def __init__(self, topics: SqliteEventBus) -> None:
        self._invoker = Invoker(threads=1)
        listener = open_socket("127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = FunctionsWeb((), self._invoker, topics).app()
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve([listener])))
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.should_exit = True
        self._thread.join(10)
        self._invoker.close()


class TestEventGridBus(EventBusContract):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[BusBench]:
        made = SqliteBench(tmp_path)
        server = TopicServer(made.sqlite)
        endpoint = f"{server.address}/topics/headrace/api/events"
        made.bus = EventGridBus(endpoint, AzureKeyCredential("any"))
        yield made
        server.close()
        made.close()

    def test_a_topic_that_cannot_be_reached_is_a_temporary_trouble(self) -> None:
        with open_socket("127.0.0.1", 0) as listener:
            port = listener.getsockname()[1]
        bus = EventGridBus(f"http://127.0.0.1:{port}/api/events", AzureKeyCredential("any"))

        with pytest.raises(TemporaryError):
            publish(bus)
