"""
The process of a job: hold its lock, do what it is asked, write how it ended, and tell of it as Azure ML would.

The lock is the truth about whether a job runs: a second process for the same folder ends at once. SIGTERM ends every
process that the job started and leaves the status `cancelled`.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TextIO

import httpx
import yaml

from mlops_core.domain.errors import HeadraceError
from mlops_core.jobs.outcome import JobFailedError
from mlops_core.jobs.request import CANCELLED, LOG, PROGRESS, REQUEST, STATUS, WHY, JobOrder, JobReport
from mlops_core.jobs.turns import turn
from mlops_core.pipelines.results import Kind, Progress, length
from mlops_core.pipelines.step_process import StepProcesses

_TELL_TRIES = 3
_TELL_SECONDS = 5.0
_LOCK_SECONDS = 3.0
_STATUS_WORDS = {"succeeded": "Completed", "failed": "Failed", "cancelled": "Canceled"}


_Ended = tuple[Literal["succeeded", "failed", "cancelled"], str, str]


class Job:
    """
    One job's process.

    Args:
        inherited: The environment of the process, which the runner has cut down to an allow-list.
    """

    def __init__(self, folder: Path, inherited: Mapping[str, str]) -> None:
        self._folder = folder
        self._inherited = inherited
        self._order = JobOrder.model_validate_json((folder / REQUEST).read_bytes())
        self._processes = StepProcesses()
        self._cancelled = False
        self._timed_out = False
        self._log = (folder / LOG).open("a", encoding="utf-8", buffering=1)

    def run(self) -> JobReport:
        """Do what is asked, and leave the status."""
        signal.signal(signal.SIGTERM, self._on_signal)
        started = time.time()
        progress = Progress(self._folder / PROGRESS, self._write_log)
        outcome, reason, log_tail = self._do(progress)
        report = JobReport(
            outcome=outcome, reason=reason, log_tail=log_tail[-8_000:], started_at=started, ended_at=time.time()
        )
        beside = self._folder / f".{STATUS}"
        with beside.open("w", encoding="utf-8") as file:
            file.write(report.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._folder / STATUS)
        progress.close()
        self._tell(report)
        return report

    def _do(self, progress: Progress) -> _Ended:
        from mlops_core.jobs.build import build
        from mlops_core.jobs.training import train

        work = build if self._order.stage == "build" else train
        try:
            with self._turn(progress), self._timer():
                done = work(
                    self._order,
                    self._folder,
                    inherited=self._inherited,
                    processes=self._processes,
                    tell=progress.tell,
                )
        except HeadraceError as error:
            return self._failed(error)
        except (OSError, ValueError, yaml.YAMLError) as error:
            # A full disk, a file of the project that is not what it must be: the job must end with a word all the same.
            return self._failed(JobFailedError(f"{type(error).__name__}: {error}", log_tail=traceback.format_exc()))
        if self._cancelled:
            return "cancelled", self._why(), ""
        return "succeeded", done, ""

    def _failed(self, error: HeadraceError) -> _Ended:
        log_tail = error.log_tail if isinstance(error, JobFailedError) else ""
        if self._timed_out:
            return "failed", f"the {self._order.stage} job ran into its timeout of {length(self._timeout())}", log_tail
        if self._cancelled or (isinstance(error, JobFailedError) and error.cancelled):
            return "cancelled", self._why(), ""
        return "failed", str(error), log_tail

    def _why(self) -> str:
        try:
            return (self._folder / WHY).read_text(encoding="utf-8")
        except OSError:
            return CANCELLED

    def _timeout(self) -> float:
        spec = self._order.spec
        return spec.build.timeout if self._order.stage == "build" else spec.train.timeout

    def _turn(self, progress: Progress) -> AbstractContextManager[None]:
        """Wait until fewer than `at_once` jobs of this stage are at work. Builds never wait for trainings."""
        order = self._order
        return turn(
            Path(order.caches) / "turns" / order.stage,
            order.name,
            at_once=order.at_once,
            tell=progress.tell,
            halted=self._processes.halted,
        )

    @contextmanager
    def _timer(self) -> Iterator[None]:
        """Halt the work at its timeout, which begins with the turn: others are not this job's fault."""
        timer = threading.Timer(self._timeout(), self._time_out)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _time_out(self) -> None:
        self._timed_out = True
        self._processes.halt()

    def _on_signal(self, _signal: int, _frame: object) -> None:
        self._cancelled = True
        # Ending processes takes a while, and a signal handler must not wait for locks that its own thread holds.
        threading.Thread(target=self._processes.halt, daemon=True).start()

    def _write_log(self, kind: Kind, text: str) -> None:
        stamp = datetime.now(UTC).strftime("%H:%M:%S")
        self._log.write(f"{stamp} {text}\n" if kind != "log" else f"{text}\n")

    def _tell(self, report: JobReport) -> None:
        """Tell of the end as Azure ML does; where nobody answers, reconciling finds it."""
        if self._order.events_url is None:
            return
        event = _event(self._order, report)
        for number in range(_TELL_TRIES):
            try:
                answer = httpx.post(
                    self._order.events_url,
                    json=[event],
                    headers=_key_of(self._order),
                    timeout=_TELL_SECONDS,
                    trust_env=False,
                )
            except httpx.HTTPError:
                time.sleep(0.2 * (number + 1))
                continue
            if answer.is_success:
                return


def _key_of(order: JobOrder) -> dict[str, str]:
    try:
        return {"aeg-sas-key": Path(order.events_key).read_text(encoding="utf-8").strip()} if order.events_key else {}
    except OSError:
        # Refused then, and found by reconciling.
        return {}


def _event(order: JobOrder, report: JobReport) -> dict[str, object]:
    kind = "RunCompleted" if report.outcome == "succeeded" else "RunStatusChanged"
    return {
        "id": str(uuid.uuid4()),
        "topic": "/local/workspace",
        "subject": f"experiments/{order.project}/runs/{order.name}",
        "eventType": f"Microsoft.MachineLearningServices.{kind}",
        "eventTime": datetime.now(UTC).isoformat(),
        "data": {
            "experimentName": order.project,
            "runId": order.name,
            "runStatus": _STATUS_WORDS[report.outcome],
            "runType": order.stage,
            "runTags": {},
            "runProperties": {},
        },
        "dataVersion": "1",
        "metadataVersion": "1",
    }


def _took(lock: TextIO) -> bool:
    """Take the folder's lock. Whoever asks for the job's status holds it for a moment, so one refusal is no answer."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def main(arguments: list[str], inherited: Mapping[str, str]) -> int:
    """Run the job of a folder. Returns 0 when it succeeded, 1 when not, 3 when another process has it."""
    folder = Path(arguments[0])
    with (folder / "lock").open("a+") as lock:
        if not _took(lock):
            return 3
        if (folder / STATUS).exists():
            return 3
        lock.seek(0)
        lock.truncate()
        lock.write(json.dumps({"pid": os.getpid()}))
        lock.flush()
        return 0 if Job(folder, inherited).run().outcome == "succeeded" else 1


if __name__ == "__main__":
    # The process of a job: its environment was chosen by the runner, and is handed on from here.
    sys.exit(main(sys.argv[1:], dict(os.environ)))  # noqa: TID251
