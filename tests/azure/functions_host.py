"""
The parts of the Functions host and of Event Grid that stand between Azure and the function app, for tests on loopback.

Events are delivered as Event Grid does: at least once, late, in any order, by the subscriptions that `infra` declares. Queue
messages come from Queue storage, five tries each; timers fire far more often than on Azure.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import runpy
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pycep
import uvicorn
from azure.storage.queue import QueueClient

from mlops_core import bootstrap
from mlops_core.adapters.local.host.functions import Invoker, read_functions
from mlops_core.adapters.local.host.loops import Message, QueueLoop, TimerLoop
from mlops_core.adapters.local.host.web import FunctionsWeb
from mlops_core.application import Application

CHECKOUT = Path(__file__).parents[2]


def subscriptions() -> dict[str, str]:
    """Read which event goes to which function, from the Bicep of the deployment."""
    found: dict[str, str] = {}
    for path in (CHECKOUT / "infra").rglob("*.bicep"):
        text = path.read_text()
        for resource in pycep.BicepParser().parse(text=text).get("resources", {}).values():
            if not resource["type"].endswith("/eventSubscriptions"):
                continue
            properties = resource["config"]["properties"]
            target = json.dumps(properties["destination"]["properties"]["resourceId"])
            name = re.search(r"/functions/(\w+)", target)
            # The workspace's module gets the function's id as a parameter.
            function = name[1] if name else "take_ml_event"
            found |= dict.fromkeys(properties["filter"]["includedEventTypes"], function)
    return found


@dataclass
class EventGrid:
    """Takes events over HTTP, as a topic does, and delivers them: some twice, most late, in any order."""

    random: random.Random
    address: str = ""
    published: list[dict[str, Any]] = field(default_factory=list)
    delivered: list[tuple[str, int]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    dead: list[dict[str, Any]] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    """Types of events that never arrive."""
    held: list[dict[str, Any]] | None = None
    """Where it is a list, events wait in it until `release`."""
    most_seconds: float = 0.4
    target: str = ""
    threads: list[threading.Thread] = field(default_factory=list)

    def accept(self, events: Sequence[dict[str, Any]]) -> None:
        for event in events:
            self.published.append(event)
            function = SUBSCRIPTIONS.get(str(event["eventType"]))
            if function is None or event["eventType"] in self.lost:
                continue
            if self.held is not None:
                self.held.append(event)
                continue
            self._send(event, function, times=self.random.choice([1, 1, 2]))

    def _send(self, event: dict[str, Any], function: str, *, times: int) -> None:
        for _ in range(times):
            wait = self.random.uniform(0, self.most_seconds)
            self.threads.append(threading.Thread(target=self._deliver, args=(event, function, wait), daemon=True))
            self.threads[-1].start()

    def release(self, *, times: int) -> list[str]:
        """Deliver what was held, the last first and each so many times; wait until all is. Returns their types."""
        held, self.held = self.held or [], None
        for event in reversed(held):
            self._send(event, SUBSCRIPTIONS[str(event["eventType"])], times=times)
        for thread in self.threads:
            thread.join(timeout=60)
            assert not thread.is_alive(), "an event is still being delivered"
        return [str(event["eventType"]) for event in held]

    def _deliver(self, event: dict[str, Any], function: str, wait: float) -> None:
        for attempt in range(8):
            time.sleep(wait)
            try:
                answer = httpx.post(
                    f"{self.target}/runtime/webhooks/eventgrid",
                    params={"functionName": function},
                    headers={"aeg-event-type": "Notification"},
                    json=[event],
                    timeout=60,
                )
            except httpx.HTTPError:
                wait = 0.3 * (attempt + 1)
                continue
            self.delivered.append((str(event["eventType"]), answer.status_code))
            if answer.is_success:
                return
            if answer.status_code in (400, 401, 403, 413):
                break
            wait = 0.3 * (attempt + 1)
        self.dead.append(event)

    def wait_for(self, kind: str, run_id: str, *, seconds: float) -> None:
        """Wait until an event of a run was published."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any(
                event["eventType"] == kind and event["data"].get("runId") == run_id for event in list(self.published)
            ):
                return
            time.sleep(0.1)
        told = [(event["eventType"], event["data"].get("to")) for event in self.published]
        raise AssertionError(f"no {kind} of {run_id}: {told}")

    def system_event(self, event: dict[str, Any]) -> None:
        """Take an event of a resource, in the envelope that Event Grid gives it."""
        envelope = {
            "id": str(uuid.uuid4()),
            "topic": "/subscriptions/s/resourceGroups/g",
            "eventTime": datetime.now(UTC).isoformat(),
            "dataVersion": "1.0",
            "metadataVersion": "1",
        }
        self.accept([{**envelope, **event}])


SUBSCRIPTIONS = subscriptions()


class TopicServer(ThreadingHTTPServer):
    """As many connections may wait as clients make at once; one too many would wait a second for its next try."""

    request_queue_size = 64


@contextmanager
def event_grid(seed: int, key: str) -> Iterator[EventGrid]:
    grid = EventGrid(random.Random(seed))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            ours = self.headers.get("aeg-sas-key") == key
            events = json.loads(body)
            if ours:
                missing = [
                    name
                    for event in events
                    for name in ("id", "subject", "eventType", "data", "dataVersion")
                    if name not in event
                ]
                grid.refused += missing
                grid.accept(events)
            self.send_response(200 if ours else 401)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = TopicServer(("127.0.0.1", 0), Handler)
    grid.address = f"http://127.0.0.1:{server.server_port}/api/events"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield grid
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class StorageQueueSource:
    """A queue of Queue storage, as the Functions host reads it."""

    def __init__(self, client: QueueClient) -> None:
        self._client = client
        self._receipts: dict[str, Any] = {}
        self.poisoned: list[str] = []
        self.taken = 0

    def lease(self, queue: str, *, limit: int, seconds: float) -> Sequence[Message]:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            page = list(self._client.receive_messages(visibility_timeout=int(seconds), max_messages=min(limit, 32)))
        except ResourceNotFoundError:
            return []
        self._receipts.update({message.id: message for message in page})
        self.taken += len(page)
        return [Message(message.id, message.content, message.dequeue_count) for message in page]

    def delete(self, message: Message) -> None:
        self._client.delete_message(self._receipts.pop(message.message_id))

    def release(self, message: Message, *, delay_seconds: float) -> None:
        held = self._receipts.pop(message.message_id)
        self._client.update_message(held, visibility_timeout=max(1, round(min(delay_seconds, 2))))

    def poison(self, message: Message, reason: str) -> None:
        self.poisoned.append(f"{message.body}: {reason}")
        self.delete(message)


@dataclass
class Host:
    address: str
    queue: StorageQueueSource


@contextmanager
def functions_host(app: Application, queue: QueueClient, *, timer_seconds: float = 0.7) -> Iterator[Host]:
    """Serve `function_app.py` over an application until the block ends."""
    bootstrap.use(app)
    functions = read_functions(runpy.run_path(str(CHECKOUT / "function_app.py"))["app"])
    invoker = Invoker()
    web = FunctionsWeb(functions, invoker, None)  # type: ignore[arg-type] - the topics are Event Grid's
    server = uvicorn.Server(uvicorn.Config(web.app(), host="127.0.0.1", port=0, log_level="error", loop="asyncio"))
    source = StorageQueueSource(queue)
    stopping = threading.Event()

    async def run() -> None:
        stop, wake = asyncio.Event(), asyncio.Event()
        feeder = next(function for function in functions if function.kind == "queueTrigger")
        timers = [function for function in functions if function.kind == "timerTrigger"]
        tasks = [asyncio.create_task(QueueLoop(feeder, source, invoker).run(stop, wake))]
        tasks += [asyncio.create_task(fire(TimerLoop(timer, invoker))) for timer in timers]
        await server.serve()
        stop.set()
        await asyncio.gather(*tasks)
        await app.router.close()

    async def fire(timer: TimerLoop) -> None:
        while not stopping.is_set():
            await timer.fire(past_due=False)
            await asyncio.sleep(timer_seconds)

    failed: list[BaseException] = []

    def serve() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001 - told to the test, which is another thread
            failed.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    while not server.started:
        assert thread.is_alive(), failed
        time.sleep(0.02)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Host(f"http://127.0.0.1:{port}", source)
    finally:
        stopping.set()
        server.should_exit = True
        thread.join(timeout=60)
        invoker.close()
        bootstrap.use(None)
        assert not thread.is_alive(), "the host did not end"
        assert failed == []
