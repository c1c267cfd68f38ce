"""
A controller's process, for tests that kill it or race several: `python controllers.py` forks one per command.

A command is a line of JSON, the answer a line with the exit codes; forking a process that has imported everything takes
milliseconds, so 200 kills take seconds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "faults"), str(TESTS.parent)]

from broken_designs import forget_versions, launch_then_record, record_then_launch  # noqa: E402 - after the path is set
from builders import push  # noqa: E402
from durable import SMOKE, open_world  # noqa: E402
from failpoints import Gate, Point, gated, kill_self, stop_self  # noqa: E402

from mlops_core.application import Application, assemble  # noqa: E402
from mlops_core.domain.errors import TemporaryError  # noqa: E402
from mlops_core.domain.ids import EffectKey, RunId  # noqa: E402
from mlops_core.services.reconcile import ReconcilePolicy  # noqa: E402

DESIGNS = {
    "intent first": lambda app, folder: None,
    "launch, then record": launch_then_record,
    "record, then launch": record_then_launch,
    "save without a version": forget_versions,
}
# Far more than a delivery needs; one that takes more never ends.
_MAX_ROUNDS = 60


def deliver_all(app: Application, random: Random) -> None:
    """Perform what is pending and reconcile, until every run is live or at an end."""
    messages = app.world.queue.messages  # type: ignore[attr-defined] - a FakeQueue
    for _ in range(_MAX_ROUNDS):
        app.reconciler.runs()
        while messages:
            data = json.loads(messages.pop(random.randrange(len(messages))))
            try:
                app.controller.perform(RunId(data["run_id"]), EffectKey(data["key"]))
            except TemporaryError:
                continue  # somebody else is at it; reconciling asks again
        if not _unfinished(app):
            return


def _unfinished(app: Application) -> bool:
    cursor = None
    while True:
        page = app.world.runs.active(cursor=cursor)
        for run_id in page.items:
            run = app.world.runs.load(run_id).value
            if run.state != "live" or run.pending:
                return True
        cursor = page.cursor
        if cursor is None:
            return False


def run_controller(command: dict[str, Any], number: int) -> None:
    """Be one controller: take the pushes, deliver; a failpoint may kill it anywhere."""
    folder = Path(command["folder"])
    at = Point(command["call"], command["side"]) if "call" in command else None
    # Only the first controller is stopped; the others take over.
    stopped = command.get("stop", False)
    gate = Gate(at if not stopped or number == 0 else None, crash=stop_self if stopped else kill_self)
    world = open_world(folder)
    policy = ReconcilePolicy(resend_after=timedelta(0))
    app = assemble(_with_plain_queue(gated(world, gate), world), verifiers={}, smoke=SMOKE, policy=policy)
    DESIGNS[command.get("design", "intent first")](app, folder)
    random = Random(command["seed"] * 1_000 + number)
    numbers = list(range(command["projects"]))
    random.shuffle(numbers)
    for project in numbers:
        app.intake.push(push(1).model_copy(update={"repository": f"p{project}"}))
    deliver_all(app, random)


def _with_plain_queue(gated_world: Any, world: Any) -> Any:
    import dataclasses

    return dataclasses.replace(gated_world, queue=world.queue)


def _fork(command: dict[str, Any], number: int) -> int:
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        run_controller(command, number)
        code = 0
    finally:
        os._exit(code)


def _run_together(command: dict[str, Any]) -> list[int]:
    children = [_fork(command, number) for number in range(command.get("processes", 1))]
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _stop_and_take_over(command: dict[str, Any]) -> list[int]:
    """Let one controller come to its point and stop it there, have another do everything, then continue the first."""
    first = _fork(command, 0)
    _, status = os.waitpid(first, os.WUNTRACED)
    second = os.waitstatus_to_exitcode(os.waitpid(_fork(command, 1), 0)[1])
    if not os.WIFSTOPPED(status):
        return [os.waitstatus_to_exitcode(status), second, 0]
    os.kill(first, signal.SIGCONT)
    return [os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]), second, 1]


def serve() -> None:
    """Fork the controllers of each command, wait for all of them, tell how they ended."""
    for line in sys.stdin:
        command = json.loads(line)
        codes = _stop_and_take_over(command) if command.get("stop") else _run_together(command)
        sys.stdout.write(json.dumps(codes) + "\n")
        sys.stdout.flush()


class Controllers:
    """The forking process, from the side of the test."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, **command: Any) -> Sequence[int]:
        """Run controllers to their end. Returns their exit codes; -9 is a kill."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("started without pipes")
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        codes: Sequence[int] = json.loads(self._process.stdout.readline())
        return codes


@contextmanager
def controllers() -> Iterator[Controllers]:
    """Start the process that forks controllers, and end it afterwards."""
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Controllers(process)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(60)


if __name__ == "__main__":
    serve()
