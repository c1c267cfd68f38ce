"""
Events per second that the controller takes on SQLite, against one bare committed SQLite transaction per event.

Both run in one process on the same file system, in WAL mode with `synchronous=FULL`; rounds alternate, so that a busy
moment of the machine hits both. The ratio is that of the medians. Taking an event is all of `Controller.take`: load the
run, advance it, write snapshot and history row in one transaction, put the hints. The hints go to a list, since a queue
may lose them. The bare transaction inserts the same event's JSON and commits.

    python benchmarks/events.py [--runs 20] [--rounds 15] [--json]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import table

ROOT = Path(__file__).resolve().parent.parent
TARGET = 0.3


def _test_module(name: str) -> ModuleType:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "unit" / "core")]
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        message = f"'{name}' is not among the tests. Run this from a checkout."
        raise ModuleNotFoundError(message)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Bare:
    """A table, and a committed transaction per event."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("CREATE TABLE events (sequence INTEGER PRIMARY KEY, body TEXT NOT NULL)")

    def take(self, bodies: list[str]) -> float:
        started = time.perf_counter()
        for body in bodies:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("INSERT INTO events (body) VALUES (?)", (body,))
            self._connection.execute("COMMIT")
        return time.perf_counter() - started


class Ours:
    """The controller over SQLite."""

    def __init__(self, folder: Path, builders: ModuleType, delivery: list[Any]) -> None:
        self._bench, self._delivery, self._number = builders.make_bench(folder), delivery, 0

    def take(self, runs: int) -> float:
        ids = []
        for _ in range(runs):
            self._number += 1
            ids.append(self._bench.push(self._number))
        started = time.perf_counter()
        for event in self._delivery:
            for run_id in ids:
                self._bench.app.controller.take(run_id, event)
        seconds = time.perf_counter() - started
        self._bench.queue.messages.clear()
        return seconds


def measure(runs: int, rounds: int) -> dict[str, float]:
    builders, machine = _test_module("builders"), _test_module("test_machine")
    delivery = machine.DELIVERY
    bodies = [event.model_dump_json() for event in delivery for _ in range(runs)]
    ours_seconds, bare_seconds = [], []
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        ours, bare = Ours(Path(folder), builders, delivery), Bare(Path(folder, "bare.db"))
        ours.take(1)
        bare.take(bodies[:13])
        for number in range(rounds):
            if number % 2:
                ours_seconds.append(ours.take(runs))
                bare_seconds.append(bare.take(bodies))
            else:
                bare_seconds.append(bare.take(bodies))
                ours_seconds.append(ours.take(runs))
    per_second = len(bodies) / statistics.median(ours_seconds)
    bare_per_second = len(bodies) / statistics.median(bare_seconds)
    return {"headrace": per_second, "bare": bare_per_second, "ratio": per_second / bare_per_second}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    table.add_option(parser)
    arguments = parser.parse_args()
    result = measure(arguments.runs, arguments.rounds)
    what, against = (
        "events per second that the controller takes, full durability",
        "one bare committed SQLite transaction per event",
    )
    table.note([table.at_least(what, against, TARGET, result["ratio"])], arguments.rows)
    if arguments.json:
        print(json.dumps(result))
        return
    print("headrace events/s  bare transactions/s  ratio  target")
    print(f"{result['headrace']:17.0f}  {result['bare']:19.0f}  {result['ratio']:5.2f}  {TARGET:6.1f}")


if __name__ == "__main__":
    main()
