"""What is repeated, after how long, and what is raised in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from mlops_core.adapters.http_retry import Patience, Timing, WorthRepeatingError, asked_pause, patiently
from mlops_core.domain.errors import PermanentError, TemporaryError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass
class Clock:
    seconds: float = 0.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds

    @property
    def timing(self) -> Timing:
        return Timing(
            sleep=self.sleep, monotonic=lambda: self.seconds, now=lambda: NOON + timedelta(seconds=self.seconds)
        )


def failing(*errors: Exception) -> Callable[[], str]:
    left = list(errors)

    def attempt() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return attempt


def perform(attempt: Callable[[], str], clock: Clock) -> str:
    return patiently(attempt, doing="Host: read it", patience=Patience(), timing=clock.timing)


def test_an_attempt_is_repeated_with_longer_pauses() -> None:
    clock = Clock()

    assert perform(failing(httpx.ConnectError("x"), WorthRepeatingError("it answered 503")), clock) == "done"
    assert clock.slept == [0.5, 1.0]


def test_what_the_server_asks_to_wait_is_waited() -> None:
    clock = Clock()

    assert perform(failing(WorthRepeatingError("429", retry_after_seconds=7.0)), clock) == "done"
    assert clock.slept == [7.0]


def test_three_attempts_are_all() -> None:
    clock, attempt = Clock(), failing(*[WorthRepeatingError("it answered 500")] * 9)

    with pytest.raises(
        TemporaryError, match=r"^Host: read it did not work just now \(it answered 500; tried 3 times\)"
    ):
        perform(attempt, clock)
    assert len(clock.slept) == 2


def test_a_long_pause_is_left_to_the_queue() -> None:
    clock = Clock()
    with pytest.raises(TemporaryError, match="tried once") as caught:
        perform(failing(WorthRepeatingError("429", retry_after_seconds=1_800.0)), clock)

    assert caught.value.retry_after_seconds == 1_800.0
    assert clock.slept == []


def test_no_attempt_begins_after_the_total() -> None:
    clock = Clock()

    def slow() -> str:
        clock.seconds += 29.8
        raise httpx.ReadTimeout("x")

    with pytest.raises(TemporaryError, match="no answer, ReadTimeout; tried once"):
        perform(slow, clock)


def test_our_own_errors_are_not_repeated() -> None:
    with pytest.raises(PermanentError):
        perform(failing(PermanentError("no"), PermanentError("not asked")), Clock())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "99999999999"}, 3_600.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOON.timestamp()) + 90)}, 90.0),
        ({"x-ratelimit-remaining": "3", "x-ratelimit-reset": str(int(NOON.timestamp()) + 90)}, None),
        ({"ratelimit-remaining": "0", "ratelimit-reset": str(int(NOON.timestamp()) + 60)}, 60.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "x"}, None),
        ({}, None),
    ],
)
def test_pauses_are_read_in_every_form_that_hosts_use(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_pause(headers, NOON) == seconds
