"""
A webhook on the Azure backend against two bare calls of the same SDKs on the same Azurite, taken in turns.

    python benchmarks/azure_webhooks.py [--rounds 5]

`webhook`: a signed push of GitHub is verified, its repository looked up, and a `Headrace.GitPush` published to a topic on
loopback. `event`: that event is taken, which stores the run, lists it and puts its effects on the queue. `bare`: one entity
is created and one message is put. Times in ms at 1 and at 16 callers; the aim is webhook / bare of at most 1.3.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import table

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "tests"), str(CHECKOUT / "tests" / "azure")]

import azurite  # noqa: E402 - after the path is set
from functions_host import event_grid  # noqa: E402

from handlers.answers import Request  # noqa: E402
from handlers.events import take_trigger  # noqa: E402
from handlers.webhook import take_webhook  # noqa: E402
from mlops_core.adapters.azure.tables import StorageAccount, Tables  # noqa: E402
from mlops_core.composition.azure import build_azure  # noqa: E402
from mlops_core.domain.ids import ProjectName  # noqa: E402
from mlops_core.ports import ProjectRecord  # noqa: E402
from mlops_core.settings import Settings  # noqa: E402

TARGET = 1.3
SECRET = "secret"  # noqa: S105 - of nothing


def settings(connection: str, topic: str) -> Settings:
    return Settings(
        backend="azure", storage=connection, subscription="s", resource_group="g", location="l", workspace="w",
        topic_endpoint=topic, topic_key="key", registry="r", serving_identity="/i", serving_client_id="c",
        webhook_secrets={"github": (SECRET,)},
    )  # fmt: skip


def delivery(commit: str) -> Request:
    payload = {
        "ref": "refs/heads/main", "before": "0" * 40, "after": commit,
        "repository": {"full_name": "acme/bench", "pushed_at": 1_790_000_000}, "pusher": {"name": "ada"},
        "head_commit": {"id": commit, "message": "m", "timestamp": "2026-03-01T12:00:00Z"}, "commits": [],
    }  # fmt: skip
    body = json.dumps(payload).encode()
    signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"x-github-event": "push", "x-github-delivery": commit, "x-hub-signature-256": signature}
    return Request(body=body, headers=headers, params={"host": "github"})


def timed(call: Callable[[str], object], callers: int, count: int) -> list[float]:
    """Call `count` times from so many threads; returns each call's ms, sorted."""

    def one(_: int) -> float:
        commit = uuid.uuid4().hex + "0" * 8
        started = time.perf_counter()
        call(commit)
        return (time.perf_counter() - started) * 1_000

    with ThreadPoolExecutor(callers) as pool:
        return sorted(pool.map(one, range(count)))


@contextmanager
def topic() -> Iterator[str]:
    """Run a topic that takes everything, in a process of its own as Azurite is, and give its address."""
    command = [sys.executable, __file__, "--topic"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is not None and process.stdin is not None:
            yield process.stdout.readline().strip()
            process.stdin.close()


def serve_topic() -> None:
    """Be that process, until whoever started it closes the pipe."""
    with event_grid(1, "key") as grid:
        grid.lost = {"Headrace.GitPush"}
        print(grid.address, flush=True)
        sys.stdin.read()


def main(rounds: int, rows: Path | None) -> None:
    """Measure and print."""
    against = "one entity created and one message put, same SDKs, same Azurite"
    with (
        tempfile.TemporaryDirectory() as folder,
        azurite.running(Path(folder)) as account,
        topic() as address,
    ):
        app = build_azure(settings(account.connection_string, address))
        app.world.projects.put(
            ProjectRecord(ProjectName("bench"), "github", "acme/bench", "https://github.com/acme/bench.git")
        )
        entities = Tables(StorageAccount(connection_string=account.connection_string), prefix="bare").table("Bare")
        entities.create_table()
        queue = app.world.queue.client()

        def webhook(commit: str) -> None:
            if take_webhook(app, delivery(commit)).status != 202:
                raise SystemExit("the webhook was refused")

        def event(commit: str) -> None:
            data = {"host": "github", "repository": "acme/bench", "ref": "refs/heads/main", "commit": commit,
                    "pushed_at": "2026-03-01T12:00:00Z"}  # fmt: skip
            take_trigger(app, {"id": commit, "eventType": "Headrace.GitPush", "subject": "s",
                               "eventTime": "2026-03-01T12:00:00Z", "data": data, "topic": "t"})  # fmt: skip

        def bare(commit: str) -> None:
            entities.create_entity({"PartitionKey": commit, "RowKey": "run", "body": "x" * 1_000})
            queue.send_message(commit)

        for call in (webhook, event, bare):
            timed(call, 4, 20)
        for callers in (1, 16):
            kinds = {"webhook": webhook, "event": event, "bare": bare}
            taken: dict[str, list[float]] = {name: [] for name in kinds}
            for number in range(rounds):
                for name in sorted(kinds, reverse=bool(number % 2)):
                    taken[name] += timed(kinds[name], callers, 40)
            middle = {name: statistics.median(values) for name, values in taken.items()}
            what = f"a webhook answered on the Azure backend (verified, looked up, published), {callers} at once"
            measured = [
                table.at_most(what, against, TARGET, middle["webhook"] / middle["bare"]),
                table.Row(
                    f"taking its event (run stored and listed, effects put), {callers} at once",
                    against,
                    "",
                    f"{middle['event'] / middle['bare']:.1f}",
                ),
            ]
            table.note(measured, rows)
            for name, values in taken.items():
                p99 = sorted(values)[int(0.99 * len(values)) - 1]
                print(f"{callers:2} callers, {name:8} p50 {middle[name]:7.1f} ms, p99 {p99:7.1f} ms")
            ratio = (middle["webhook"] + middle["event"]) / middle["bare"]
            print(
                f"{callers:2} callers, ratios of medians: webhook {middle['webhook'] / middle['bare']:.2f}, both {ratio:.2f}"
            )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    table.add_option(options)
    options.add_argument("--topic", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.topic:
        serve_topic()
    else:
        main(given.rounds, given.rows)
