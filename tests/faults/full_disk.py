"""
A controller over its real files whose disk is full or fails for a while: `python full_disk.py FOLDER SEED POINTS`.

A process of its own, since what makes writes fail is a limit of the whole process: no file may grow beyond so many
bytes (a write that crosses it is cut in the middle, as on a failing disk), or no more pages (SQLite then says that the
disk is full). It prints what was wrong in the end, as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "faults"), str(TESTS.parent)]

from builders import push  # noqa: E402 - after the path is set
from durable import SMOKE, add_projects, launches, open_world  # noqa: E402
from histories import all_runs, unexplained  # noqa: E402

from handlers import effect_due, events  # noqa: E402
from handlers.inbound import read_envelope  # noqa: E402
from handlers.webhook import EVENT_TYPE  # noqa: E402
from mlops_core.adapters.local.effect_queue import SqliteEffectQueue  # noqa: E402
from mlops_core.adapters.local.event_bus import SqliteEventBus  # noqa: E402
from mlops_core.adapters.local.topics import SUBSCRIPTIONS  # noqa: E402
from mlops_core.application import Application, assemble  # noqa: E402
from mlops_core.domain.errors import TemporaryError  # noqa: E402
from mlops_core.domain.run import State  # noqa: E402
from mlops_core.services.reconcile import ReconcilePolicy  # noqa: E402

PROJECTS = 3
FILES = ("headrace.db", "queue.db", "topics.db")
QUEUE = "headrace-effects"
_CAUSES = ("disk I/O error", "database or disk is full")
_UNLIMITED = resource.RLIM_INFINITY
_FULL_ROUNDS, _ROUNDS = 4, 40


@dataclass
class Laptop:
    """
    The controller with all three files, as `headrace up` has them.

    Attributes:
        acknowledge_first: A broken design: a webhook is answered before its event is stored.
    """

    folder: Path
    acknowledge_first: bool = False
    errors: list[str] = field(default_factory=list)
    acknowledged: set[int] = field(default_factory=set)

    def start(self) -> None:
        world = open_world(self.folder)
        self.connection = world.runs._database.connection  # type: ignore[attr-defined] - a SqliteRunStore
        self.connection.execute("PRAGMA synchronous=FULL")
        self.queue = SqliteEffectQueue(self.folder / "queue.db", world.dead_letters)
        self.bus = SqliteEventBus(self.folder / "topics.db", SUBSCRIPTIONS, world.dead_letters)
        world = replace(world, queue=self.queue, bus=self.bus)
        self.app: Application = assemble(
            world, verifiers={}, smoke=SMOKE, policy=ReconcilePolicy(resend_after=timedelta(0))
        )

    def connections(self) -> list[Any]:
        return [self.connection, self.queue._connection, self.bus._connection]

    def close(self) -> None:
        self.queue.close()
        with suppress(TemporaryError):
            self.bus.close()
        self.connection.close()

    def tried(self, call: Any, *args: Any) -> bool:
        """Do something as a host does: what is refused for now comes again later. Anything else ends the test."""
        try:
            call(*args)
        except TemporaryError as error:
            self.errors.append(str(error))
            return False
        return True

    def publish(self, number: int) -> None:
        files = tuple(f"src/{letter * 2_000}.py" for letter in "abcde")
        told = push(1).model_copy(update={"repository": f"p{number}", "changed": files})
        data = told.model_dump(mode="json")
        if self.acknowledge_first:
            self.acknowledged.add(number)
        subject = f"repositories/local/p{number}"
        self.app.world.bus.publish(
            event_id=f"push-{number}", event_type=EVENT_TYPE, subject=subject, data=data, at=told.pushed_at
        )
        self.acknowledged.add(number)

    def push_all(self) -> None:
        for number in range(PROJECTS):
            if number not in self.acknowledged:
                self.tried(self.publish, number)

    def work(self) -> None:
        """One round of the host's loops: deliver what is due, perform what is hinted at, reconcile."""
        self.tried(self._deliver)
        self.tried(self._perform)
        self.tried(self.app.reconciler.runs)

    def _deliver(self) -> None:
        for delivery in self.bus.due(limit=50):
            if self.tried(events.take_event, self.app, read_envelope(json.loads(delivery.event))):
                self.bus.done(delivery)

    def _perform(self) -> None:
        for message in self.queue.lease(QUEUE, limit=16, seconds=0):
            if self.tried(effect_due.take_message, self.app, message.body, 1):
                self.queue.delete(message)

    def finished(self) -> bool:
        runs = all_runs(self.app.world)
        return len(runs) == PROJECTS and all(run.state is State.LIVE and not run.pending for run in runs)


def fill(laptop: Laptop, random: Random) -> None:
    """From now on the disk takes a little more and then nothing; which of the files meets it first is chance."""
    if random.random() < 0.5:
        largest = max((laptop.folder / f"{name}-wal").stat().st_size for name in FILES)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + random.randint(1, 40_000), _UNLIMITED))
        return
    for connection in laptop.connections():
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + random.randint(0, 4)}")


def free(laptop: Laptop) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (_UNLIMITED, _UNLIMITED))
    for connection in laptop.connections():
        connection.execute("PRAGMA max_page_count = 1073741823")


def wrong(laptop: Laptop) -> Iterator[str]:
    for connection in laptop.connections():
        (answer,) = connection.execute("PRAGMA integrity_check").fetchone()
        if answer != "ok":
            yield f"a file is damaged: {answer}"
    world = laptop.app.world
    for run in all_runs(world):
        if run.state is not State.LIVE:
            yield f"run '{run.id}' is '{run.state}': {run.reason}"
    counts = Counter(launches(laptop.folder))
    expected = {f"p{number}-000000010000-{stage}" for number in range(PROJECTS) for stage in ("build", "train")}
    if counts != Counter(expected):
        yield f"launched were {dict(counts)}"
    if letters := world.dead_letters.list().items:
        yield f"dead letters were left: {[letter.reason for letter in letters]}"
    if told := [error for error in laptop.errors if not any(cause in error for cause in _CAUSES)]:
        yield f"errors do not say what is wrong: {told[:2]}"
    yield from unexplained(world)


def one_point(folder: Path, seed: int, *, acknowledge_first: bool = False) -> tuple[list[str], bool]:
    """Fill the disk at a random moment of some deliveries, free it later. Returns what was wrong, and whether it was met."""
    random = Random(seed)
    folder.mkdir(parents=True)
    laptop = Laptop(folder, acknowledge_first)
    laptop.start()
    add_projects(laptop.app.world, PROJECTS)
    before = random.randint(0, 5)
    laptop.push_all() if before else None
    for _ in range(before):
        laptop.work()
    fill(laptop, random)
    for _ in range(_FULL_ROUNDS):
        laptop.push_all()
        laptop.work()
    kept = set(laptop.acknowledged)
    free(laptop)
    if random.random() < 0.5:
        laptop.close()
        laptop.start()
    problems = []
    if lost := kept - _heard_of(laptop):
        problems.append(f"acknowledged pushes {sorted(lost)} are lost")
    for _ in range(_ROUNDS):
        laptop.push_all()
        laptop.work()
        if laptop.finished():
            break
    problems += wrong(laptop)
    laptop.close()
    return [f"seed {seed}: {each}" for each in problems], bool(laptop.errors)


def _heard_of(laptop: Laptop) -> set[int]:
    """Which pushes are on disk: as an event that is to be delivered, or as a run."""
    rows = laptop.bus._connection.execute("SELECT event_id FROM deliveries").fetchall()
    waiting = {int(event_id.partition("-")[2]) for (event_id,) in rows if event_id.startswith("push-")}
    return waiting | {int(run.project[1:]) for run in all_runs(laptop.app.world)}


def main(folder: str, seed: str, points: str, design: str = "") -> None:
    """Play every point, and tell."""
    problems: list[str] = []
    met = 0
    for number in range(int(points)):
        place, chosen = Path(folder) / str(number), int(seed) * 1_000 + number
        found, was_met = one_point(place, chosen, acknowledge_first=design == "acknowledge first")
        problems += found
        met += was_met
    sys.stdout.write(json.dumps({"wrong": problems, "met": met}))


if __name__ == "__main__":
    main(*sys.argv[1:])
