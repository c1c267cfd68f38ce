"""
The one layer that repeats calls over HTTP: whether, how often, after how long, and what is raised in the end.

Used by adapters that speak HTTP themselves: those of repository hosts, and of MLflow's REST API. An attempt is a function
that sends one request and reads its answer to the end, so that an answer that breaks off is repeated too. Only what may be
done twice without harm may be passed here. A server that asks for more patience than a function call has is left to the
queue, which delivers again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from mlops_core.domain.errors import TemporaryError

T = TypeVar("T")

WORTH_REPEATING = frozenset({429, 500, 502, 503, 504})
# A proxy's or an attacker's year of waiting would park an effect for good.
_LONGEST_ASKED_SECONDS = 3_600.0


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long is tried. The total counts from the first attempt to the begin of the last."""

    tries: int = 3
    total_seconds: float = 30.0
    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Where the time comes from; tests pass their own."""

    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


class WorthRepeatingError(Exception):
    """An attempt met an answer that may be another one next time; never leaves this layer."""

    def __init__(self, reason: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


def patiently(
    attempt: Callable[[], T],
    *,
    doing: str,
    patience: Patience,
    timing: Timing,
    advice: str = "Nothing is wrong here; repeat it later.",
) -> T:
    """
    Attempt something, again while that may help.

    Args:
        attempt: Sends a request and reads its answer; raises `WorthRepeatingError` or httpx's `RequestError`.
        doing: What is done, such as "GitHub: read 'mlops.yaml'": the error's sentence begins with it.
        advice: What to do where it did not help.
    Raises: TemporaryError: It did not help; carries what the server asked to wait.
    """
    import httpx

    began, pause = timing.monotonic(), patience.first_pause_seconds
    for tried in range(1, patience.tries + 1):
        asked: float | None = None
        try:
            return attempt()
        except httpx.RequestError as error:
            reason, cause = f"no answer, {type(error).__name__}", error
        except WorthRepeatingError as error:
            reason, cause, asked = error.reason, None, error.retry_after_seconds
        wait = max(pause, asked or 0.0)
        late = timing.monotonic() - began + wait > patience.total_seconds
        if tried == patience.tries or late or wait > patience.longest_pause_seconds:
            times = "once" if tried == 1 else f"{tried} times"
            message = f"{doing} did not work just now ({reason}; tried {times}). {advice}"
            raise TemporaryError(message, retry_after_seconds=asked) from cause
        timing.sleep(wait)
        pause *= 2
    raise AssertionError  # unreachable: the last try returns or raises


def asked_pause(headers: Mapping[str, str], now: datetime) -> float | None:
    """
    Read how long a server asks to wait, in seconds.

    `Retry-After` in seconds or as a date (RFC 9110, 10.2.3); where it is missing and no requests are left, the time at
    which the limit is lifted, as GitHub (`x-ratelimit-reset`) and GitLab (`ratelimit-reset`) tell it.
    """
    text = headers.get("retry-after", "").strip()
    if text:
        return _bounded(float(text) if _is_number(text) else _seconds_until(text, now))
    for prefix in ("x-ratelimit-", "ratelimit-"):
        reset = headers.get(f"{prefix}reset", "")
        if headers.get(f"{prefix}remaining") == "0" and _is_number(reset):
            return _bounded(float(reset) - now.timestamp())
    return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.replace(".", "", 1).isdigit()


def _seconds_until(date: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp()


def _bounded(seconds: float | None) -> float | None:
    return None if seconds is None else min(max(seconds, 0.0), _LONGEST_ASKED_SECONDS)
