"""The command line against the function app itself: its registered functions, served over HTTP on loopback."""

from __future__ import annotations

import importlib.util
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from builders import Bench
from commands import Headrace
from typer.testing import CliRunner, Result

from mlops_core import bootstrap
from mlops_core.adapters.local.host.functions import Invoker, read_functions
from mlops_core.adapters.local.host.web import FunctionsWeb
from mlops_core.cli.app import app


class NoTopics:
    """These tests publish nothing."""

    def accept(self, topic: str, _: object) -> None:
        raise KeyError(topic)


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Serve the functions that `function_app.py` registers; they answer with the application of the test."""
    # A copy of our own: an app object gives its functions once only.
    spec = importlib.util.spec_from_file_location("cli_function_app", Path(__file__).parents[3] / "function_app.py")
    assert spec is not None
    assert spec.loader is not None
    function_app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(function_app)
    web = FunctionsWeb(read_functions(function_app.app), Invoker(), NoTopics()).app()
    server = uvicorn.Server(uvicorn.Config(web, log_level="critical", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def headrace(bench: Bench, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Headrace]:
    """Type a command; the controller behind it is the bench's."""
    monkeypatch.setenv("HEADRACE_BASE_URL", address)
    monkeypatch.setenv("HEADRACE_DATA", str(tmp_path / "data"))
    bootstrap.use(bench.app)

    def typed(*words: str, given: bytes | None = None) -> Result:
        return CliRunner().invoke(app, list(words), input=given)

    yield typed
    bootstrap.use(None)
