"""
The host's loops: queue messages, timers and topic deliveries.

Each keeps going whatever a function does. A message that a function raised on comes back after a pause that grows, at
most five times, as the genuine host does; a delivery that failed is made again on Event Grid's schedule, scaled down.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from mlops_core.adapters.local.host.functions import Function, InvocationError, Invoker, queue_message, timer_request
from mlops_core.adapters.local.host.timetable import Timetable
from mlops_core.domain.errors import TemporaryError

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

_IDLE_SECONDS = 0.1
_TRIES = 5
_NEVER_AGAIN = (400, 401, 403, 413)
_UNSTORED_SECONDS = 2.0


@dataclass(frozen=True)
class Message:
    """A leased queue message."""

    message_id: str
    body: str
    dequeue_count: int


class QueueSource(Protocol):
    """A queue with leases."""

    def lease(self, queue: str, *, limit: int, seconds: float) -> Sequence[Message]:
        """Take messages that nobody else sees for a while."""
        ...

    def delete(self, message: Message) -> None:
        """Forget a message that was worked off."""
        ...

    def release(self, message: Message, *, delay_seconds: float) -> None:
        """Let a message be seen again after a pause."""
        ...

    def poison(self, message: Message, reason: str) -> None:
        """Put a message away that failed too often."""
        ...


@dataclass(frozen=True)
class Delivery:
    """An event that is due for a subscription."""

    delivery_id: int
    event: str
    event_id: str
    function: str
    subscription: str
    attempts: int


class DeliverySource(Protocol):
    """Durable deliveries per subscription."""

    def due(self, *, limit: int) -> Sequence[Delivery]:
        """Read deliveries whose time has come."""
        ...

    def done(self, delivery: Delivery) -> None:
        """Forget a delivery that was taken."""
        ...

    def again(self, delivery: Delivery, *, delay_seconds: float, outcome: str) -> None:
        """Make a delivery due again later."""
        ...

    def give_up(self, delivery: Delivery, *, outcome: str) -> None:
        """Move a delivery to the dead letters."""
        ...


class QueueLoop:
    """Feeds one queue function."""

    def __init__(self, function: Function, source: QueueSource, invoker: Invoker, *, batch_size: int = 16) -> None:
        self._function = function
        self._source = source
        self._invoker = invoker
        self._batch_size = batch_size
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event, wake: asyncio.Event) -> None:
        """Work until `stop`; `wake` says that a message was put."""
        queue = str(self._function.trigger["queueName"])
        while not stop.is_set():
            wake.clear()
            free = self._batch_size - len(self._running)
            messages = self._source.lease(queue, limit=free, seconds=600) if free > 0 else []
            for message in messages:
                task = asyncio.create_task(self._work(message))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
                task.add_done_callback(lambda _: wake.set())
            if not messages:
                await _wait(wake, _IDLE_SECONDS)
            else:
                await asyncio.sleep(0)
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _work(self, message: Message) -> None:
        value = queue_message(message_id=message.message_id, body=message.body, dequeue_count=message.dequeue_count)
        failure: InvocationError | None = None
        try:
            await self._invoker.invoke(self._function, value)
        except InvocationError as error:
            failure = error
        try:
            self._note(message, failure)
        except TemporaryError as error:
            # Nobody sees it until its lease ends; what it hints at is hinted at anew by reconciling before that.
            log.warning("what became of message %s could not be stored: %s", message.message_id, error)

    def _note(self, message: Message, failure: InvocationError | None) -> None:
        if failure is None:
            self._source.delete(message)
        elif message.dequeue_count >= _TRIES:
            self._source.poison(message, str(failure.__cause__ or failure))
        else:
            self._source.release(message, delay_seconds=_pause(failure, message.dequeue_count))


def _pause(error: InvocationError, tries: int) -> float:
    asked = getattr(error.__cause__, "retry_after_seconds", None)
    return float(asked) if asked is not None else min(0.5 * 4 ** (tries - 1), 60.0)


class TimerLoop:
    """Fires one timer function, in UTC, never twice at the same time; a time that was missed is made up for once."""

    def __init__(
        self, function: Function, invoker: Invoker, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._function = function
        self._invoker = invoker
        self._now = now
        self._schedule = str(function.trigger["schedule"])
        Timetable(self._schedule, now())  # one that is none must stop the start, not the timer alone

    async def run(self, stop: asyncio.Event, _: asyncio.Event) -> None:
        """Fire until `stop`; there is nothing to be woken by."""
        if self._function.trigger.get("runOnStartup"):
            await self.fire(past_due=False)
        times = Timetable(self._schedule, self._now())
        while not stop.is_set():
            left = times.seconds_left(self._now())
            if left > 0:
                await _wait(stop, min(left, 1.0))
                continue
            await self.fire(past_due=left < -1.0)
            times.fired(self._now())

    async def fire(self, *, past_due: bool) -> None:
        """Call the function; the next time comes whatever it does."""
        try:
            await self._invoker.invoke(self._function, timer_request(past_due=past_due))
        except InvocationError:
            log.warning("timer %s will fire again on schedule", self._function.name)


class TopicLoop:
    """
    Delivers published events to their subscriptions over HTTP, as Event Grid does.

    Args:
        client: Reaches the host's own endpoint.
        pauses: Seconds before each further attempt; after the last one the event goes to the dead letters.
    """

    def __init__(
        self,
        source: DeliverySource,
        client: httpx.AsyncClient,
        *,
        pauses: Sequence[float] = (1, 3, 10, 30, 60, 300, 600, 1800, 3600),
        side_by_side: int = 16,
    ) -> None:
        self._source = source
        self._client = client
        self._pauses = pauses
        self._limit = side_by_side
        self._running: dict[int, asyncio.Task[None]] = {}

    async def run(self, stop: asyncio.Event, wake: asyncio.Event) -> None:
        """Deliver until `stop`; `wake` says that something was published."""
        while not stop.is_set():
            wake.clear()
            # In a thread: it waits for the disk and for publishers, which the host's requests must not.
            running = set(self._running)
            due = await asyncio.to_thread(self._source.due, limit=self._limit * 2)
            fresh = [each for each in due if each.delivery_id not in running]
            for delivery in fresh[: self._limit - len(self._running)]:
                task = asyncio.create_task(self._deliver(delivery))
                self._running[delivery.delivery_id] = task
                task.add_done_callback(functools.partial(self._forget, delivery.delivery_id))
                task.add_done_callback(lambda _: wake.set())
            await _wait(wake, _IDLE_SECONDS)
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _forget(self, delivery_id: int, _: asyncio.Task[None]) -> None:
        self._running.pop(delivery_id, None)

    async def _deliver(self, delivery: Delivery) -> None:
        import httpx

        headers = {
            "aeg-event-type": "Notification",
            "aeg-subscription-name": delivery.subscription,
            "aeg-delivery-count": str(delivery.attempts),
            "content-type": "application/json; charset=utf-8",
        }
        outcome, status = "", 0
        try:
            answer = await self._client.post(
                "/runtime/webhooks/eventgrid",
                params={"functionName": delivery.function},
                content=f"[{delivery.event}]",
                headers=headers,
            )
        except httpx.HTTPError as error:
            outcome = f"no answer ({type(error).__name__})"
        else:
            status = answer.status_code
            outcome = "" if answer.is_success else f"answered {status}: {answer.text[:500]}"
        try:
            self._note(delivery, outcome, never_again=status in _NEVER_AGAIN)
        except TemporaryError as error:
            # It is still due. Without a pause it would be delivered in a circle for as long as the disk is full.
            log.warning("what became of event %s could not be stored: %s", delivery.event_id, error)
            await asyncio.sleep(_UNSTORED_SECONDS)

    def _note(self, delivery: Delivery, outcome: str, *, never_again: bool) -> None:
        if not outcome:
            self._source.done(delivery)
        elif never_again or delivery.attempts >= len(self._pauses):
            log.error("event %s was given up: %s", delivery.event_id, outcome)
            self._source.give_up(delivery, outcome=outcome)
        else:
            self._source.again(delivery, delay_seconds=self._pauses[delivery.attempts], outcome=outcome)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
