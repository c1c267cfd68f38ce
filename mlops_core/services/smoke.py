"""
Send a stage's smoke requests to a fresh deployment and judge the answers: all 2xx, and fast enough.

With a pace, each request is sent when it is due, whatever became of those before, and its time counts from then on: a
deployment that cannot keep up is seen to fall behind, instead of slowing down who tests it.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_core.domain.project import LONGEST_SMOKE_SECONDS, Smoke

if TYPE_CHECKING:
    import httpx

# An answer that takes longer is no answer to an application; it counts as an error.
_REQUEST_SECONDS = 30.0
# A function call ends at 230 s on Azure; a test that does not get through by then has failed.
_TEST_SECONDS = float(LONGEST_SMOKE_SECONDS)
# So many answers may be waited for at once; more wait for these, and their time runs.
_AT_ONCE = 32
_SHOWN_LETTERS = 500


_LOOK_SECONDS = 0.05

_Answered = tuple[str | None, float]
"""What was wrong, if anything, and the seconds that it took."""


@dataclass(frozen=True)
class SmokeResult:
    """What a smoke test found."""

    passed: bool
    reason: str
    p95_ms: float | None = None


class SmokeTester:
    """
    Sends smoke requests over HTTP.

    Args:
        sleep: Waits between requests, where a pace is asked for.
    """

    def __init__(self, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep

    def run(self, address: str, body: bytes, smoke: Smoke) -> SmokeResult:
        """
        Send the request as often and as fast as declared.

        Args:
            address: Base URL of the deployment.
        """
        import httpx

        with httpx.Client(base_url=address, timeout=_REQUEST_SECONDS, trust_env=False) as client:
            ask = self._one_after_another if smoke.per_second is None else self._at_a_pace
            answers = ask(client, body, smoke)
        for number, (problem, _) in enumerate(answers, start=1):
            if problem is not None:
                return SmokeResult(passed=False, reason=f"smoke request {number} of {smoke.requests}: {problem}")
        return _judge([seconds for _, seconds in answers], smoke)

    def _one_after_another(self, client: httpx.Client, body: bytes, smoke: Smoke) -> list[_Answered]:
        answers: list[_Answered] = []
        end = time.perf_counter() + _TEST_SECONDS
        while len(answers) < smoke.requests and time.perf_counter() < end:
            answers.append(_send(client, body, time.perf_counter()))
            if answers[-1][0] is not None:
                break
        return answers

    def _at_a_pace(self, client: httpx.Client, body: bytes, smoke: Smoke) -> list[_Answered]:
        started, troubled = time.perf_counter(), threading.Event()

        def send(due: float) -> _Answered:
            answered = _send(client, body, due)
            if answered[0] is not None:
                troubled.set()
            return answered

        sent = []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for number in range(smoke.requests):
                due = started + number / (smoke.per_second or 1)
                early = due - time.perf_counter()
                if early > 0:
                    self._sleep(early)
                if troubled.is_set() or time.perf_counter() - started > _TEST_SECONDS:
                    break
                sent.append(pool.submit(send, min(due, time.perf_counter())))
            while not troubled.is_set() and time.perf_counter() - started < _TEST_SECONDS and not sent[-1].done():
                troubled.wait(_LOOK_SECONDS)
            pool.shutdown(cancel_futures=True)
        answers = []
        for future in sent:
            with contextlib.suppress(CancelledError):
                answers.append(future.result())
        return answers


def _send(client: httpx.Client, body: bytes, started: float) -> _Answered:
    """Send one request; its time counts from `started`."""
    import httpx

    try:
        answer = client.post("/score", content=body, headers={"content-type": "application/json"})
    except httpx.HTTPError as error:
        return f"no answer ({type(error).__name__}: {error})", 0.0
    seconds = time.perf_counter() - started
    if not answer.is_success:
        return f"answered {answer.status_code}: {answer.text[:_SHOWN_LETTERS]}", seconds
    return None, seconds


def _judge(times: list[float], smoke: Smoke) -> SmokeResult:
    if len(times) < smoke.requests:
        reason = (
            f"only {len(times)} of {smoke.requests} smoke requests were answered within the {_TEST_SECONDS:g} s that a "
            "test may take. Ask for fewer requests, or for a faster model."
        )
        return SmokeResult(passed=False, reason=reason)
    p95_ms = sorted(times)[math.ceil(0.95 * len(times)) - 1] * 1000
    pace = f" at {smoke.per_second:g} a second" if smoke.per_second is not None else ""
    text = f"{len(times)} smoke request{'s' if len(times) > 1 else ''} answered{pace}, 95% within {p95_ms:.0f} ms"
    if smoke.p95_ms is not None and p95_ms > smoke.p95_ms:
        return SmokeResult(passed=False, reason=f"{text}; the limit is {smoke.p95_ms:g} ms", p95_ms=p95_ms)
    return SmokeResult(passed=True, reason=text, p95_ms=p95_ms)
