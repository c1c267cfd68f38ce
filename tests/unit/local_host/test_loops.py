"""Messages, deliveries and timers come again when they must, and end among the dead letters when nothing helps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlops_core.adapters.local.database import Database
from mlops_core.adapters.local.dead_letters import SqliteDeadLetters
from mlops_core.adapters.local.effect_queue import SqliteEffectQueue
from mlops_core.adapters.local.event_bus import SqliteEventBus, Subscription
from mlops_core.adapters.local.host.functions import Function, Invoker
from mlops_core.adapters.local.host.loops import QueueLoop, TimerLoop, TopicLoop
from mlops_core.adapters.local.host.timetable import Timetable
from mlops_core.domain.errors import PermanentError, TemporaryError

EVENT = {"id": "e1", "eventType": "A.B", "subject": "s", "eventTime": "2026-03-01T12:00:00Z", "data": {}}


@dataclass
class Bench:
    """A queue and a topic over real files, with a clock that only tests move."""

    letters: SqliteDeadLetters
    queue: SqliteEffectQueue
    bus: SqliteEventBus
    invoker: Invoker
    now: list[float] = field(default_factory=lambda: [1_772_000_000.0])


@pytest.fixture
def loops(tmp_path: Path) -> Iterator[Bench]:
    now = [1_772_000_000.0]
    database = Database(tmp_path / "headrace.db")
    letters = SqliteDeadLetters(database)
    subscriptions = (Subscription("all", "headrace", "take"), Subscription("some", "headrace", "take", ("C.D",)))
    queue = SqliteEffectQueue(tmp_path / "queue.db", letters, name="q", now=lambda: now[0])
    bus = SqliteEventBus(tmp_path / "topics.db", subscriptions, letters, now=lambda: now[0])
    made = Bench(letters, queue, bus, Invoker(threads=2), now)
    yield made
    made.invoker.close()
    queue.close()
    bus.close()
    database.close()


def function(kind: str, call: Callable[..., Any], **trigger: Any) -> Function:
    return Function("f", kind, {"type": kind, "queueName": "q", **trigger}, "value", call)


async def run_until(run: Callable[..., Any], done: Callable[[], bool], move: Callable[[], None]) -> None:
    """Run a loop, moving its clock, until something holds; at most five seconds."""
    stop, wake = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(run(stop, wake))
    async with asyncio.timeout(5):
        while not done():
            move()
            wake.set()
            await asyncio.sleep(0.001)
    stop.set()
    wake.set()
    await task


def work_off(loops: Bench, call: Callable[..., Any], done: Callable[[], bool]) -> None:
    feeder = QueueLoop(function("queueTrigger", call), loops.queue, loops.invoker)
    asyncio.run(run_until(feeder.run, done, lambda: loops.now.__setitem__(0, loops.now[0] + 5)))


def test_a_message_that_is_refused_twice_is_delivered_a_third_time(loops: Bench) -> None:
    counts: list[int] = []

    def take(value: Any) -> None:
        counts.append(value.dequeue_count)
        if len(counts) < 3:
            raise TemporaryError("not yet")

    loops.queue.put("hint")
    work_off(loops, take, lambda: len(counts) == 3)

    assert counts == [1, 2, 3]
    assert loops.queue.lease("q", limit=1, seconds=1) == []


def test_a_message_that_fails_five_times_ends_among_the_dead_letters(loops: Bench) -> None:
    tries: list[str] = []

    def take(value: Any) -> None:
        tries.append(value.get_body().decode())
        raise ValueError("never")

    loops.queue.put("hint")
    work_off(loops, take, lambda: bool(loops.letters.list().items))

    letter = loops.letters.list().items[0]
    assert tries == ["hint"] * 5
    assert (letter.kind, letter.body, letter.reason) == ("effect", "hint", "Given up after 5 attempts: never")


def test_messages_that_a_killed_host_had_leased_are_seen_at_once_after_a_release(loops: Bench) -> None:
    loops.queue.put("hint")
    loops.queue.lease("q", limit=1, seconds=600)

    assert loops.queue.lease("q", limit=1, seconds=600) == []
    loops.queue.release_all()
    assert [message.body for message in loops.queue.lease("q", limit=1, seconds=600)] == ["hint"]


def deliver(loops: Bench, statuses: list[int], done: Callable[[], bool]) -> list[httpx.Request]:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(statuses[min(len(seen), len(statuses)) - 1], text="why")

    async def run() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://host") as client:
            loop = TopicLoop(loops.bus, client, pauses=(1, 2))
            await run_until(loop.run, done, lambda: loops.now.__setitem__(0, loops.now[0] + 3))

    asyncio.run(run())
    return seen


def test_an_event_that_was_refused_is_delivered_again_with_its_count(loops: Bench) -> None:
    loops.bus.accept("headrace", [EVENT])

    seen = deliver(loops, [503, 202], lambda: not loops.bus.due(limit=1) and loops.bus.waiting() == 0)

    assert [request.headers["aeg-delivery-count"] for request in seen] == ["0", "1"]
    assert loops.letters.list().items == []


@pytest.mark.parametrize(("status", "attempts"), [(400, 1), (401, 1), (403, 1), (413, 1), (404, 3), (500, 3)])
def test_an_event_is_given_up_when_repeating_is_useless_or_was_tried_enough(
    loops: Bench, status: int, attempts: int
) -> None:
    loops.bus.accept("headrace", [EVENT])

    seen = deliver(loops, [status], lambda: bool(loops.letters.list().items))

    letter = loops.letters.list().items[0]
    assert len(seen) == attempts
    assert '"e1"' in letter.body
    assert f"answered {status}: why" in letter.reason
    assert loops.bus.waiting() == 0


def fill_disk(monkeypatch: pytest.MonkeyPatch, source: object, *names: str) -> list[str]:
    """Let calls of a source fail as on a full disk. Returns those that were made."""
    called: list[str] = []
    for name in names:

        def refuse(*_: object, called_as: str = name, **__: object) -> None:
            called.append(called_as)
            raise TemporaryError("database or disk is full")

        monkeypatch.setattr(source, name, refuse)
    return called


def test_an_event_whose_failure_cannot_be_stored_is_not_delivered_in_a_circle(
    loops: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops.bus.accept("headrace", [EVENT])
    called = fill_disk(monkeypatch, loops.bus, "again")
    looked: list[int] = []
    due = loops.bus.due

    def counted(*, limit: int) -> Any:
        looked.append(limit)
        return due(limit=limit)

    monkeypatch.setattr(loops.bus, "due", counted)
    monkeypatch.setattr("mlops_core.adapters.local.host.loops._UNSTORED_SECONDS", 0.2)

    seen = deliver(loops, [500], lambda: len(looked) > 20)

    assert called == ["again"]
    assert len(seen) == 1
    assert loops.bus.waiting() == 1


@pytest.mark.parametrize(("tries", "name"), [(1, "release"), (5, "poison")])
def test_a_message_whose_failure_cannot_be_stored_does_not_stop_the_queue(
    loops: Bench, monkeypatch: pytest.MonkeyPatch, tries: int, name: str
) -> None:
    taken: list[str] = []

    def take(value: Any) -> None:
        taken.append(value.get_body().decode())
        if taken[-1] == "bad":
            raise ValueError("never")

    loops.queue.put("bad")
    for _ in range(tries - 1):
        loops.queue.release(loops.queue.lease("q", limit=1, seconds=1)[0], delay_seconds=0)
    called = fill_disk(monkeypatch, loops.queue, "poison", "release")
    work_off(loops, take, lambda: called == [name])
    loops.queue.put("good")
    work_off(loops, take, lambda: "good" in taken)

    assert taken == ["bad", "good"]


def test_a_subscription_gets_only_the_types_that_it_wants(loops: Bench) -> None:
    loops.bus.accept("headrace", [EVENT, {**EVENT, "eventType": "C.D"}])

    assert sorted(delivery.subscription for delivery in loops.bus.due(limit=9)) == ["all", "all", "some"]


NOON = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "following"),
    [
        ("0 * * * * *", datetime(2026, 3, 1, 12, 1, tzinfo=UTC)),
        ("30 */5 * * * *", datetime(2026, 3, 1, 12, 5, 30, tzinfo=UTC)),
        ("0 0 9 * * 1-5", datetime(2026, 3, 2, 9, 0, tzinfo=UTC)),
    ],
)
def test_schedules_have_seconds_first(schedule: str, following: datetime) -> None:
    assert Timetable(schedule, NOON).due == following


def test_a_timer_whose_schedule_is_none_stops_the_start(loops: Bench) -> None:
    with pytest.raises(PermanentError, match="'often' is no schedule"):
        TimerLoop(function("timerTrigger", print, schedule="often"), loops.invoker)


def test_a_time_that_was_missed_many_times_is_made_up_for_once_and_past_due(loops: Bench) -> None:
    fired: list[bool] = []
    clock = [NOON]

    def take(value: Any) -> None:
        fired.append(value.past_due)
        clock[0] += timedelta(minutes=10)  # it takes so long that ten more times pass

    trigger = function("timerTrigger", take, schedule="0 * * * * *", runOnStartup=True)
    timer = TimerLoop(trigger, loops.invoker, now=lambda: clock[0])

    def one_hour_passes() -> None:
        if len(fired) == 1:
            clock[0] += timedelta(hours=1)

    asyncio.run(run_until(timer.run, lambda: len(fired) == 2, one_hour_passes))

    assert fired == [False, True]
