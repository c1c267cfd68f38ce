"""
When a timer fires: an NCRONTAB schedule in UTC, on a clock that may be set while the host runs.

UTC has no daylight saving, so no hour is fired twice or left out. A clock that is set back a little does not fire again
what it fired; one that is set forward makes up, once, for all that it jumped over. A clock that is set back by more was
wrong before, so the schedule starts anew from what it says now: waiting for the old time would stop the timer.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from mlops_core.domain.errors import PermanentError

_WITH_SECONDS = 6
# Twice the ten minutes by which a clock may be wrong, in either direction, and some more.
_SET_BACK_A_LITTLE = timedelta(minutes=25)


class Timetable:
    """
    The times of one schedule.

    Args:
        schedule: NCRONTAB: five fields, or six with the seconds first.
        start: The first time is after this moment.
    Raises: PermanentError: The schedule is none.
    """

    def __init__(self, schedule: str, start: datetime) -> None:
        self._schedule = schedule
        self._reached = start
        self.due = self.next_after(start)

    def next_after(self, moment: datetime) -> datetime:
        """Say when the schedule fires next. Where day and weekday are both given, NCRONTAB wants both to fit."""
        # Here, since the queue's and the topics' loops come with every webhook, and the timers only with the host.
        from croniter import croniter

        fields = self._schedule.split()
        # croniter wants the seconds last.
        cron = " ".join([*fields[1:], fields[0]]) if len(fields) == _WITH_SECONDS else self._schedule
        try:
            following = croniter(cron, moment, day_or=False).get_next(datetime)
        except (ValueError, KeyError) as error:
            raise PermanentError(
                f"'{self._schedule}' is no schedule: {error}. Give NCRONTAB, such as '0 */5 * * * *' (seconds first)."
            ) from None
        if not isinstance(following, datetime):
            raise TypeError(f"'{self._schedule}' gives no time")
        return following

    def seconds_left(self, now: datetime) -> float:
        """Say how long it is until the next time; zero or less when it has come."""
        if now < self._reached - _SET_BACK_A_LITTLE:
            self._go_on_from(now)
        return (self.due - now).total_seconds()

    def fired(self, now: datetime) -> None:
        """Go on to the next time; those that passed meanwhile have been made up for by this one."""
        self._go_on_from(max(self.due, now))

    def _go_on_from(self, moment: datetime) -> None:
        self._reached, self.due = moment, self.next_after(moment)
