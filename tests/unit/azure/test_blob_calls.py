"""Blobs: a refusal is repeated as soon as a function has time for, with the options that all blob clients get."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from azure.core.pipeline.transport import HttpTransport
from azure.storage.blob import ContainerClient

from mlops_core.adapters.azure.failures import BLOB_RETRIES, azure_calls
from mlops_core.domain.errors import TemporaryError


@pytest.fixture
def answers() -> list[int]:
    return []


@pytest.fixture
def container(answers: list[int]) -> Iterator[ContainerClient]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    with ContainerClient(f"http://127.0.0.1:{server.server_port}", "scoring", **BLOB_RETRIES) as client:
        yield client
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(HttpTransport, "sleep", lambda _, seconds: found.append(seconds))
    return found


def test_a_refusal_is_repeated_within_seconds(
    container: ContainerClient, answers: list[int], slept: list[float]
) -> None:
    answers += [503, 500, 200]
    container.get_container_properties()
    assert len(slept) == 2
    assert sum(slept) < 5


def test_three_tries_are_all(container: ContainerClient, answers: list[int], slept: list[float]) -> None:
    answers += [503] * 9
    with (
        pytest.raises(TemporaryError, match=r"Reading a blob did not work just now \(503\)"),
        azure_calls("reading a blob"),
    ):
        container.get_container_properties()
    assert len(answers) == 6
