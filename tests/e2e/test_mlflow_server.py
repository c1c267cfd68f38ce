"""The real MLflow server: started, taken over, started again, ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mlops_core.adapters.local.mlflow_server import MlflowServer
from mlops_core.domain.errors import PermanentError, TemporaryError

pytestmark = pytest.mark.slow

ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}  # noqa: TID251  a test starts real processes


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    made = MlflowServer(tmp_path / "mlflow", environment=ENVIRONMENT)
    yield made
    made.stop()


def _record(server: MlflowServer) -> dict[str, int]:
    found: dict[str, int] = json.loads((server.log_path.parent / "server.json").read_text())
    return found


def _servers_of(folder: Path) -> list[int]:
    """The processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.05)


def test_a_server_survives_the_life_of_whoever_started_it(server: MlflowServer, tmp_path: Path) -> None:
    """Killed with its starter, taken over by the next, started again on the same port when it dies; never two of it."""
    folder = tmp_path / "mlflow"
    script = (
        "import json, os, signal, sys; from pathlib import Path\n"
        "from mlops_core.adapters.local.mlflow_server import MlflowServer\n"
        "MlflowServer(Path(sys.argv[1]), environment=json.loads(sys.argv[2])).start()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    starter = subprocess.run([sys.executable, "-c", script, str(folder), json.dumps(ENVIRONMENT)])
    assert starter.returncode == -signal.SIGKILL
    first = _record(server)

    assert server.start() == server.wait_until_ready()
    assert _record(server) == first, "the running server is taken over"

    os.kill(first["pid"], signal.SIGKILL)
    _until(lambda: not psutil.pid_exists(first["pid"]) or psutil.Process(first["pid"]).status() == "zombie")
    assert not server.watch_once(), "a dead server is noticed"
    server.wait_until_ready()
    second = _record(server)
    assert (second["port"], second["pid"] != first["pid"]) == (first["port"], True)
    assert second["pid"] in _servers_of(folder)
    assert len(_servers_of(folder)) == 2, "the leader and its one worker; the worker of the first is gone"

    server.stop()
    assert _servers_of(folder) == []


def test_a_server_that_was_started_but_not_recorded_is_found(server: MlflowServer, tmp_path: Path) -> None:
    server.start()
    record = tmp_path / "mlflow" / "server.json"
    whole = _record(server)
    record.write_text(json.dumps({"port": whole["port"]}))
    server.start()
    assert _record(server) == whole


def test_a_server_that_cannot_start_gives_the_reason(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named mlflow'; exit 1\n")
    python.chmod(0o755)
    server = MlflowServer(tmp_path / "mlflow", environment=ENVIRONMENT, python=python)
    server.start()
    with pytest.raises(PermanentError, match="No module named mlflow"):
        server.wait_until_ready()


def test_a_server_that_was_never_started_has_no_address(tmp_path: Path) -> None:
    with pytest.raises(TemporaryError, match="headrace up"):
        _ = MlflowServer(tmp_path / "mlflow", environment=ENVIRONMENT).address


def test_a_port_that_a_stranger_took_is_left_to_them(server: MlflowServer, tmp_path: Path) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        (tmp_path / "mlflow").mkdir()
        (tmp_path / "mlflow" / "server.json").write_text(json.dumps({"port": port}))
        server.start()
        assert _record(server)["port"] != port
