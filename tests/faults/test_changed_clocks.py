"""Test 9: a clock that is set while the host runs, and days of daylight saving: no time is lost, none is fired twice."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from croniter import croniter

from mlops_core.adapters.local.host.timetable import Timetable
from mlops_core.domain.errors import PermanentError

# The nights in which Europe and the United States change their clocks, and a leap day.
STARTS = [datetime(2026, *day, tzinfo=UTC) for day in ((3, 28), (10, 24), (3, 7), (10, 31))]
STARTS.append(datetime(2028, 2, 28, tzinfo=UTC))
HOURS = 30
MOST_SET = 600


def schedule(random: Random) -> str:
    """Make up a schedule that fires between every half minute and once a day."""
    second, minute, hour = random.randrange(60), random.randrange(60), random.choice([0, 1, 2, 3, random.randrange(24)])
    return random.choice(
        [
            "*/30 * * * * *",
            f"{second} * * * * *",
            f"{second} */5 * * * *",
            f"{second} {minute} * * * *",
            f"{second} {minute},{(minute + 7) % 60} */2 * * *",
            f"0 {minute} {hour} * * *",
            f"0 {minute} 1-3 * * 0-6",
            f"{minute} {hour} * * *",
        ]
    )


def times_of(text: str, start: datetime, end: datetime) -> list[datetime]:
    """List the times of a schedule, read in another way than the timetable reads it."""
    fields = text.split()
    seconds = fields[0] if len(fields) == 6 else "0"
    found = croniter(" ".join([*fields[-5:], seconds]), start - timedelta(seconds=1))
    times: list[datetime] = []
    while not times or times[-1] <= end:
        times.append(found.get_next(datetime))
    return times[:-1]


def clock(random: Random, start: datetime) -> Iterator[datetime]:
    """Go on by a second or so, and now and then be set by up to ten minutes, forth and back."""
    real, wrong_by = 0.0, 0.0
    while real < HOURS * 3600:
        real += random.choice([0.5, 1.0, 20.0, 55.0])
        if random.random() < 0.004:
            wrong_by = random.uniform(-MOST_SET, 0) if wrong_by > 0 else random.uniform(0, MOST_SET)
        yield start + timedelta(seconds=real + wrong_by)


def fire(table: Timetable, moments: Iterator[datetime]) -> tuple[list[tuple[datetime, datetime]], datetime]:
    """Fire as the host's loop does. Returns each time with the moment it was fired at, and where the clock came to."""
    fired, furthest = [], datetime.min.replace(tzinfo=UTC)
    for now in moments:
        furthest = max(furthest, now)
        if table.seconds_left(now) <= 0:
            fired.append((table.due, now))
            table.fired(now)
    return fired, furthest


def wrong(seed: int) -> list[str]:
    random = Random(seed)
    start, text = random.choice(STARTS), schedule(random)
    fired, furthest = fire(Timetable(text, start), clock(random, start))
    problems = []
    slots = [slot for slot, _ in fired]
    times = times_of(text, start + timedelta(seconds=1), furthest)
    if len(set(slots)) != len(slots):
        problems.append(f"of {len(slots)} times fired {len(slots) - len(set(slots))} were fired twice")
    # A time is lost when the clock came past it and neither it nor a later moment that made up for it was fired.
    position = 0
    for slot, now in fired:
        before, position = times[position : bisect_left(times, slot)], bisect_right(times, max(slot, now))
        if before:
            problems.append(f"{len(before)} times from {before[0]} were passed over before {slot}")
    lost = [time for time in times[position:] if furthest - time > timedelta(minutes=1)]
    if lost:
        problems.append(f"{len(lost)} times from {lost[0]} were never fired")
    return [f"seed {seed}, '{text}' from {start}: {each}" for each in problems]


def test_twenty_schedules_on_clocks_that_are_set_lose_nothing_and_fire_nothing_twice() -> None:
    assert [each for seed in range(20) for each in wrong(seed)] == []


@pytest.mark.full
def test_two_hundred_schedules_on_clocks_that_are_set_lose_nothing_and_fire_nothing_twice() -> None:
    assert [each for seed in range(1_000, 1_200) for each in wrong(seed)] == []


def test_a_timetable_that_only_looks_at_the_clock_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a clock that is set back makes it fire again what it fired."""
    seconds_left = Timetable.seconds_left

    def forgetful(table: Timetable, now: datetime) -> float:
        if now < table._reached:
            table._go_on_from(now)
        return seconds_left(table, now)

    monkeypatch.setattr(Timetable, "seconds_left", forgetful)

    assert any("fired twice" in each for seed in range(20) for each in wrong(seed))


def test_a_timetable_that_leaves_out_what_the_clock_jumped_over_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: whoever comes late is not fired."""
    seconds_left = Timetable.seconds_left

    def punctual(table: Timetable, now: datetime) -> float:
        if now - table.due > timedelta(minutes=2):
            table._go_on_from(now)
        return seconds_left(table, now)

    monkeypatch.setattr(Timetable, "seconds_left", punctual)

    assert any("passed over" in each or "never fired" in each for seed in range(20) for each in wrong(seed))


def test_a_clock_that_was_a_year_ahead_does_not_stop_a_timer_for_a_year() -> None:
    table = Timetable("0 * * * * *", datetime(2027, 3, 1, 12, 0, 30, tzinfo=UTC))
    table.fired(datetime(2027, 3, 1, 12, 1, tzinfo=UTC))

    assert table.seconds_left(datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)) == 30


@pytest.mark.parametrize("text", ["", "nonsense", "* * * *", "0 99 * * * *", "0 0 0 31 2 *"])
def test_what_is_no_schedule_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(PermanentError, match=r"is no schedule: .*Give NCRONTAB"):
        Timetable(text, STARTS[0])


def test_a_day_and_a_weekday_must_both_fit_as_in_ncrontab() -> None:
    assert Timetable("0 0 9 13 * 5", datetime(2026, 1, 1, tzinfo=UTC)).due == datetime(2026, 2, 13, 9, tzinfo=UTC)
