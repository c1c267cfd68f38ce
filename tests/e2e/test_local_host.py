"""The local host as a process: what it accepted survives its being killed, and a second one is told of the first."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from mlops_core.adapters.local.database import Database
from mlops_core.adapters.local.dead_letters import SqliteDeadLetters
from mlops_core.adapters.local.effect_queue import SqliteEffectQueue
from mlops_core.adapters.local.host.server import _refused

pytestmark = pytest.mark.slow

HOST = """
import sys
import time
from pathlib import Path
import azure.functions as func
from mlops_core.adapters.local.database import Database
from mlops_core.adapters.local.dead_letters import SqliteDeadLetters
from mlops_core.adapters.local.effect_queue import SqliteEffectQueue
from mlops_core.adapters.local.event_bus import SqliteEventBus, Subscription
from mlops_core.adapters.local.host.functions import read_functions
from mlops_core.adapters.local.host.server import FunctionsHost, HostOptions
from mlops_core.domain.errors import RefusedError

folder, works, port = Path(sys.argv[1]), sys.argv[2] == "works", int(sys.argv[3])
app = func.FunctionApp()

@app.event_grid_trigger("event")
def take(event: func.EventGridEvent) -> None:
    if not works:
        raise ValueError("not yet")
    with (folder / "taken").open("a") as taken:
        taken.write(event.id + "\\n")

@app.queue_trigger("message", queue_name="headrace-effects", connection="S")
def work(message: func.QueueMessage) -> None:
    with (folder / "begun").open("a") as begun:
        begun.write("x")
    while not (folder / "go-on").exists():
        time.sleep(0.02)

@app.route("ask", auth_level=func.AuthLevel.ANONYMOUS)
def ask(req: func.HttpRequest) -> str:
    return "answered"

letters = SqliteDeadLetters(Database(folder / "headrace.db"))
bus = SqliteEventBus(folder / "topics.db", [Subscription("all", "headrace", "take")], letters)
queue = SqliteEffectQueue(folder / "queue.db", letters)
try:
    FunctionsHost(read_functions(app), queue, bus, HostOptions(folder=folder, port=port)).run()
except RefusedError as error:
    sys.exit(str(error))
"""
EVENT = {"id": "e1", "eventType": "A.B", "subject": "s", "eventTime": "2026-03-01T12:00:00Z", "data": {},
         "dataVersion": "1"}  # fmt: skip


def start(folder: Path, *, works: bool = True, port: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOST, str(folder), "works" if works else "fails", str(port)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True)


@contextmanager
def host(folder: Path, *, works: bool = True) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = start(folder, works=works)
    try:
        yield process, wait_for_address(folder, process)
    finally:
        process.kill()
        process.communicate(timeout=20)


def wait_for_address(folder: Path, process: subprocess.Popen[str]) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            noted = json.loads((folder / "up.json").read_text())
            if noted["pid"] == process.pid:
                httpx.get(f"{noted['address']}/none")
                return str(noted["address"])
        except (OSError, ValueError, httpx.TransportError):
            time.sleep(0.02)
    raise AssertionError("the host did not come up")


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists() and path.read_text() == text:
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} does not hold '{text}'")


def test_an_event_that_was_accepted_is_delivered_after_the_host_was_killed(tmp_path: Path) -> None:
    with host(tmp_path, works=False) as (_, address):
        assert httpx.post(f"{address}/topics/headrace/api/events", json=[EVENT]).status_code == 200

    with host(tmp_path):
        wait_for(tmp_path / "taken", "e1\n")


def test_a_second_host_on_the_folder_or_the_port_is_told_who_has_it(tmp_path: Path) -> None:
    first, other = tmp_path / "first", tmp_path / "other"
    first.mkdir()
    other.mkdir()
    with host(first) as (process, address):
        port = int(address.rpartition(":")[2])
        _, same_folder = start(first).communicate(timeout=20)
        _, same_port = start(other, port=port).communicate(timeout=20)

    assert f"is in use by process {process.pid} at {address}" in same_folder
    assert f"Port {port} on 127.0.0.1 is in use by another program" in same_port


@pytest.mark.parametrize(
    ("number", "port", "sentence"),
    [
        (errno.EADDRINUSE, 65_535, "in use by another program. Stop it, or choose another port: headrace up --port 0."),
        (errno.EACCES, 80, "may not be opened by this user"),
    ],
)
def test_a_port_that_cannot_be_had_is_refused_with_one_to_take(number: int, port: int, sentence: str) -> None:
    assert sentence in str(_refused(OSError(number, "refused"), "127.0.0.1", port))


def test_a_host_that_is_asked_to_stop_ends_cleanly_and_leaves_no_note(tmp_path: Path) -> None:
    with host(tmp_path) as (process, _):
        process.terminate()
        assert process.wait(timeout=20) == 0

    assert not (tmp_path / "up.json").exists()


def test_effects_that_take_long_keep_no_request_waiting(tmp_path: Path) -> None:
    database = Database(tmp_path / "headrace.db")
    queue = SqliteEffectQueue(tmp_path / "queue.db", SqliteDeadLetters(database))
    for number in range(16):
        queue.put(f"long effect {number}")
    queue.close()
    database.close()
    with host(tmp_path) as (_, address):
        wait_for(tmp_path / "begun", "x" * 16)
        answer = httpx.get(f"{address}/api/ask", timeout=10)
        (tmp_path / "go-on").touch()

    assert answer.text == "answered"
