"""Send a stage's smoke requests to a fresh deployment and judge the answers: all 2xx, and fast enough."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_core.domain.project import Smoke

if TYPE_CHECKING:
    import httpx

# An answer that takes longer is no answer to an application; it counts as an error.
_REQUEST_SECONDS = 30.0
# A function call ends at 230 s on Azure; a test that would not fit stops early and is judged by what it sent.
_TEST_SECONDS = 200.0
_SHOWN_LETTERS = 500


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

        times: list[float] = []
        started = time.perf_counter()
        with httpx.Client(base_url=address, timeout=_REQUEST_SECONDS, trust_env=False) as client:
            for number in range(smoke.requests):
                self._keep_pace(smoke, number, started)
                problem, seconds = _send(client, body)
                if problem is not None:
                    return SmokeResult(
                        passed=False, reason=f"smoke request {number + 1} of {smoke.requests}: {problem}"
                    )
                times.append(seconds)
                if time.perf_counter() - started > _TEST_SECONDS:
                    break
        return _judge(times, smoke)

    def _keep_pace(self, smoke: Smoke, number: int, started: float) -> None:
        if smoke.per_second is None:
            return
        due = started + number / smoke.per_second
        early = due - time.perf_counter()
        if early > 0:
            self._sleep(early)


def _send(client: httpx.Client, body: bytes) -> tuple[str | None, float]:
    import httpx

    started = time.perf_counter()
    try:
        answer = client.post("/score", content=body, headers={"content-type": "application/json"})
    except httpx.HTTPError as error:
        return f"no answer ({type(error).__name__}: {error})", 0.0
    seconds = time.perf_counter() - started
    if not answer.is_success:
        return f"answered {answer.status_code}: {answer.text[:_SHOWN_LETTERS]}", seconds
    return None, seconds


def _judge(times: list[float], smoke: Smoke) -> SmokeResult:
    p95_ms = sorted(times)[math.ceil(0.95 * len(times)) - 1] * 1000
    text = f"{len(times)} smoke request{'s' if len(times) > 1 else ''} answered, 95% within {p95_ms:.0f} ms"
    if smoke.p95_ms is not None and p95_ms > smoke.p95_ms:
        return SmokeResult(passed=False, reason=f"{text}; the limit is {smoke.p95_ms:g} ms", p95_ms=p95_ms)
    return SmokeResult(passed=True, reason=text, p95_ms=p95_ms)
