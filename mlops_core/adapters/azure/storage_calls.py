"""
The one layer that repeats calls of tables and queues; the SDKs' own retries are off (`NO_RETRIES`).

Theirs differ, and none does for a function that has to answer within seconds: the queue's waits 15 seconds and does not
read `Retry-After`; the tables' sleeps as long as `Retry-After` says, does not repeat a transaction whose connection
broke, and does not look at refusals within one. Whoever calls this must bear a call that is done twice.
"""

from __future__ import annotations

from collections.abc import Callable
from random import uniform
from typing import Any, TypeVar

from mlops_core.adapters.azure.failures import azure_calls
from mlops_core.domain.errors import TemporaryError

T = TypeVar("T")

NO_RETRIES: dict[str, Any] = {
    "retry_total": 0,
    "retry_connect": 0,
    "retry_read": 0,
    "retry_status": 0,
    "connection_timeout": 5,
    # Three tries of this end before Event Grid delivers again (30 s). Storage answers within milliseconds.
    "read_timeout": 8,
}
"""Options of every client of tables and queues."""

# Between three tries. A partition that is asked too much of recovers within a second.
_WAITS_SECONDS = (0.2, 0.8)
# Whoever asks for more time gets it from whoever delivers again, not from a function that is paid while it sleeps.
_LONGEST_WAIT_SECONDS = 3.0


def repeated(doing: str, call: Callable[[], T], pause: Callable[[float], None]) -> T:
    """
    Make a call, at most three times, as long as Azure has no answer to it or asks to wait.

    Args:
        doing: What is being done, such as "writing to table 'x'": an error's sentence begins with it.
        pause: Waits so many seconds.
    Raises: TemporaryError: With the time that Azure asks to wait. NotFoundError, PermanentError.
    """
    for wait in _WAITS_SECONDS:
        try:
            with azure_calls(doing):
                return call()
        except TemporaryError as error:
            asked = error.retry_after_seconds
            if asked is not None and asked > _LONGEST_WAIT_SECONDS:
                raise
            # Instances that were refused together shall not come back together.
            spread = uniform(0, wait / 2)  # noqa: S311 - no secret
            pause(wait - spread if asked is None else asked + spread)
    with azure_calls(doing):
        return call()
