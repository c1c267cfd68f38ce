"""
Genuine webhooks at a steady rate against `headrace up`: how long an answer takes, and whether anything is lost.

Each delivery is a push of a commit of its own to a registered GitHub repository, signed, in a connection of its own, as
GitHub sends them. It is sent when it is due, whatever became of those before, and its time counts from then on. The
controller does all that it does for a push; since nothing is configured to read that repository, each run then ends with
the reason. Lost is what was answered 2xx and has no run once the controller has worked everything off.

    python benchmarks/webhooks.py [--rate 200] [--seconds 60] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import hmac
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlops_core.adapters.local.database import Database  # noqa: E402 - after the path
from mlops_core.adapters.local.mlflow_server import MlflowServer  # noqa: E402
from mlops_core.adapters.local.project_store import SqliteProjectStore  # noqa: E402
from mlops_core.cli.api import Api  # noqa: E402
from mlops_core.cli.down import stop_controller, stop_processes  # noqa: E402
from mlops_core.domain.ids import ProjectName  # noqa: E402
from mlops_core.ports import ProjectRecord  # noqa: E402

TARGET_P99_SECONDS = 1.0
SECRET = b"the secret of the benchmark"
REPOSITORY = "octo/flood"
_START_SECONDS, _ANSWER_SECONDS, _DRAIN_SECONDS = 120.0, 30.0, 900.0


@dataclass
class Outcome:
    """What became of the deliveries."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    runs: set[str] = field(default_factory=set)
    sent: int = 0
    unanswered: int = 0
    lost: int = 0
    drain_seconds: float = 0.0

    @property
    def refused(self) -> int:
        """How many were not answered 2xx."""
        return self.sent - sum(count for status, count in self.statuses.items() if 200 <= status < 300)

    def figures(self) -> dict[str, float]:
        """The row of the table."""
        cuts = statistics.quantiles(self.seconds, n=100)
        p50, p99, worst = (round(1000 * value, 1) for value in (cuts[49], cuts[98], max(self.seconds)))
        counts = {"sent": self.sent, "non_2xx": self.refused, "unanswered": self.unanswered, "lost": self.lost}
        return {**counts, "p50_ms": p50, "p99_ms": p99, "max_ms": worst, "drain_s": round(self.drain_seconds, 1)}


def request(number: int, host: str) -> bytes:
    """Make a push with three commits, signed."""
    after, before = _commit(number + 1), _commit(number)
    commits = [
        {
            "id": _commit(number, each),
            "message": f"Change {each} of push {number}\n\n" + "Why it was needed, at some length. " * 10,
            "author": {"name": "Ada", "email": "ada@example.invalid"},
            "added": [],
            "removed": [],
            "modified": [f"src/flood/part_{each}_{file}.py" for file in range(10)],
        }
        for each in range(3)
    ]
    data = {
        "ref": f"refs/heads/branch-{number % 50}",
        "before": before,
        "after": after,
        "forced": False,
        "deleted": False,
        "repository": {"full_name": REPOSITORY, "pushed_at": int(time.time()), "description": "x" * 1000},
        "pusher": {"name": "ada"},
        "commits": commits,
        "head_commit": {**commits[-1], "id": after},
    }
    body = json.dumps(data).encode()
    headers = {
        "Host": host,
        "User-Agent": "GitHub-Hookshot/044aadd",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": f"72d3162e-cc78-11e3-81ab-{number:012x}",
        "X-Hub-Signature-256": f"sha256={hmac.new(SECRET, body, hashlib.sha256).hexdigest()}",
    }
    lines = ["POST /api/webhooks/github HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _commit(*of: int) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()[:40]


async def deliver(number: int, due: float, address: tuple[str, int], outcome: Outcome) -> None:
    """Send one delivery and take its answer."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(*address)
            with closing(writer):
                writer.write(request(number, f"{address[0]}:{address[1]}"))
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
    except (OSError, TimeoutError, IndexError):
        outcome.unanswered += 1
        return
    finally:
        outcome.seconds.append(time.perf_counter() - due)
    outcome.statuses[status] += 1
    if status < 300:
        outcome.runs.update(run["run_id"] for run in json.loads(body)["runs"])


async def flood(base_url: str, rate: float, seconds: float) -> Outcome:
    """Send deliveries at a steady rate."""
    parts = urlsplit(base_url)
    address = (str(parts.hostname), int(parts.port or 80))
    outcome = Outcome()
    pending: set[asyncio.Task[None]] = set()
    started = time.perf_counter()
    for number in range(int(rate * seconds)):
        due = started + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(deliver(number, due, address, outcome))
        pending.add(task)
        task.add_done_callback(pending.discard)
        outcome.sent += 1
    await asyncio.gather(*pending)
    return outcome


@contextmanager
def controller(data: Path) -> Iterator[str]:
    """Run `headrace up` on a data folder that allows the repository; give its address once all of it answers."""
    database = Database(data / "headrace.db")
    clone_url = f"https://github.com/{REPOSITORY}.git"
    record = ProjectRecord(name=ProjectName("flood"), host="github", repository=REPOSITORY, clone_url=clone_url)
    SqliteProjectStore(database).put(record)
    database.close()
    secrets = json.dumps({"github": [SECRET.decode()]})
    environment = {**os.environ, "HEADRACE_DATA": str(data), "HEADRACE_WEBHOOK_SECRETS": secrets}  # noqa: TID251 - handed on
    command = [sys.executable, "-m", "mlops_core.cli", "up", "--port", "0", "--data", str(data)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield _wait_for(data, process)
    finally:
        stop_controller(data)
        process.wait(_START_SECONDS)
        stop_processes(data)


def _wait_for(data: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        noted = data / "up.json"
        address = str(json.loads(noted.read_text() or "{}").get("address", "")) if noted.exists() else ""
        if address and Api(address).is_up() and MlflowServer(data / "mlflow", environment={}).is_healthy():
            return address
        time.sleep(0.1)
    message = f"The controller did not start; its log is in '{data}'."
    raise TimeoutError(message)


def drain(data: Path, outcome: Outcome) -> None:
    """Wait until the controller has worked everything off, then compare what it answered with what it stored."""
    started = time.monotonic()
    while _waiting(data) and time.monotonic() - started < _DRAIN_SECONDS:
        time.sleep(0.2)
    outcome.drain_seconds = time.monotonic() - started
    stored = {row[0] for row in _read(data / "headrace.db", "SELECT id FROM runs")}
    answered = sum(count for status, count in outcome.statuses.items() if status < 300)
    outcome.lost = len(outcome.runs - stored) + answered - len(outcome.runs)


def _waiting(data: Path) -> int:
    deliveries = _read(data / "topics.db", "SELECT COUNT(*) FROM deliveries")[0][0]
    return int(deliveries) + int(_read(data / "queue.db", "SELECT COUNT(*) FROM messages")[0][0])


def _read(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
        return connection.execute(sql).fetchall()


def measure(rate: float, seconds: float) -> Outcome:
    """Start a controller, send, drain, compare."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", ignore_cleanup_errors=True) as folder:
        data = Path(folder, "data")
        with controller(data) as address:
            gc.disable()
            outcome = asyncio.run(flood(address, rate, seconds))
            gc.enable()
            drain(data, outcome)
    return outcome


def note(arguments: argparse.Namespace, figures: dict[str, float]) -> None:
    """Note the row of the table."""
    what = f"genuine GitHub webhooks on `headrace up`, {arguments.rate:g} a second for {arguments.seconds:g} s: p99"
    trouble = figures["non_2xx"] + figures["lost"]
    seen = f"{figures['p99_ms'] / 1000:.2f} s, {figures['lost']:g} lost, {figures['non_2xx']:g} refused"
    met = not trouble and figures["p99_ms"] < TARGET_P99_SECONDS * 1000
    target = f"under {TARGET_P99_SECONDS:g} s, none lost, none refused"
    table.note([table.Row(what, "", target, seen, met)], arguments.rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200.0, help="deliveries per second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    table.add_option(parser)
    arguments = parser.parse_args()
    figures = measure(arguments.rate, arguments.seconds).figures()
    note(arguments, figures)
    if arguments.json:
        print(json.dumps(figures))
        return
    print(
        f"{arguments.rate:g} webhooks a second for {arguments.seconds:g} s (target: p99 under {TARGET_P99_SECONDS:g} s)"
    )
    for name, value in figures.items():
        print(f"  {name:<12} {value:10g}")


if __name__ == "__main__":
    main()
