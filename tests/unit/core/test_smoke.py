"""Smoke tests against a real HTTP server."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import ValidationError

from mlops_core.domain.project import WRITTEN_NOW, Smoke
from mlops_core.services.smoke import SmokeTester


class Deployment(BaseHTTPRequestHandler):
    """Answers with the statuses that the test wants, the last one again and again."""

    statuses: list[int]
    bodies: list[bytes]
    together: threading.Barrier | None

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        if self.together is not None:
            self.together.wait(30)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        answer = b"[1.0]" if status == 200 else b"column 'age' is missing"
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def address() -> Iterator[str]:
    Deployment.statuses, Deployment.bodies, Deployment.together = [200], [], None
    server = ThreadingHTTPServer(("127.0.0.1", 0), Deployment)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def smoke(**options: object) -> Smoke:
    return Smoke.model_validate({"request": "sample.json", **options})


def test_all_requests_are_sent_and_their_time_is_told(address: str) -> None:
    result = SmokeTester().run(address, b'{"input_data": []}', smoke(requests=5))

    assert result.passed
    assert result.reason.startswith("5 smoke requests answered, 95% within ")
    assert Deployment.bodies == [b'{"input_data": []}'] * 5


def test_an_error_answer_fails_the_test_with_what_it_said(address: str) -> None:
    Deployment.statuses = [200, 422]
    result = SmokeTester().run(address, b"{}", smoke(requests=3))

    assert not result.passed
    assert result.reason == "smoke request 2 of 3: answered 422: column 'age' is missing"


def test_nobody_there_fails_the_test(address: str) -> None:
    result = SmokeTester().run("http://127.0.0.1:9", b"{}", smoke())

    assert not result.passed
    assert "no answer (ConnectError" in result.reason


def test_answers_that_are_too_slow_fail_the_test(address: str) -> None:
    result = SmokeTester().run(address, b"{}", smoke(p95_ms=0.0001))

    assert not result.passed
    assert "the limit is 0.0001 ms" in result.reason


def test_the_pace_is_kept(address: str) -> None:
    waited: list[float] = []
    SmokeTester(sleep=waited.append).run(address, b"{}", smoke(requests=3, per_second=0.011))

    assert len(waited) == 2
    assert 172 < waited[1] <= 182


def test_a_request_is_sent_when_it_is_due_whatever_became_of_those_before(address: str) -> None:
    """No answer comes before the last request: one after another, the first would wait in vain."""
    Deployment.together = threading.Barrier(4)
    result = SmokeTester().run(address, b"{}", smoke(requests=4, per_second=1000))

    assert result.passed
    assert "4 smoke requests answered at 1000 a second" in result.reason


def test_an_error_at_a_pace_ends_the_test_early(address: str) -> None:
    Deployment.statuses = [200, 500]
    result = SmokeTester().run(address, b"{}", smoke(requests=10_000, per_second=100))

    assert not result.passed
    assert "answered 500: column 'age' is missing" in result.reason
    assert len(Deployment.bodies) < 1000


@pytest.mark.parametrize("pace", [{}, {"per_second": 30}])
def test_a_test_that_does_not_get_through_in_its_time_fails(
    address: str, monkeypatch: pytest.MonkeyPatch, pace: dict[str, float]
) -> None:
    monkeypatch.setattr("mlops_core.services.smoke._TEST_SECONDS", 0.5)
    result = SmokeTester().run(address, b"{}", smoke(requests=5_000, **pace))

    assert not result.passed
    assert re.match(r"only \d+ of 5000 smoke requests were answered within the 0.5 s", result.reason)
    assert 1 <= len(Deployment.bodies) < 5_000


def test_a_pace_that_cannot_fit_is_refused() -> None:
    declared = {"request": "sample.json", "requests": 2_000, "per_second": 10}
    Smoke.model_validate(declared, context=WRITTEN_NOW)
    too_many = declared | {"requests": 2_001}
    with pytest.raises(ValidationError, match=r"2001 requests at 10 a second take longer than the 200 s"):
        Smoke.model_validate(too_many, context=WRITTEN_NOW)
    # One that rides with a run of before can still be read.
    assert Smoke.model_validate(too_many).requests == 2_001
