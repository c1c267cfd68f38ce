"""
Jobs as detached processes: a folder each, found again after a restart of the controller.

Crash-safe by names: the folder with the request is made by one rename (the intent), then the process is started, which
takes the folder's lock. A submit that finds the folder starts nothing, unless no process has the lock and no status was
written: then the crash came in between, and the job is started now. A second process would find the lock taken and end.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_core.adapters.local.durable_files import last_lines, sync_folder
from mlops_core.adapters.local.job_processes import end_process, end_strays, lock_of, started_at
from mlops_core.adapters.local.processes import start_detached
from mlops_core.domain.errors import NotFoundError, TemporaryError
from mlops_core.domain.ids import JobName
from mlops_core.jobs.request import CANCELLED, LOG, PROGRESS, REQUEST, STATUS, WHY, JobOrder, JobReport
from mlops_core.pipelines.step_process import JOB_MARK, allowed
from mlops_core.ports import JobProgress, JobRequest, JobStatus

if TYPE_CHECKING:
    pass

# After this, something holds the job that no signal ends, such as a disk that does not answer.
_END_SECONDS = 60.0
# A job that was just started has not taken its lock yet.
_START_SECONDS = 20.0
_CHUNK = 65_536


@dataclass(frozen=True, kw_only=True)
class RunnerOptions:
    """
    Where jobs are kept and what they are told.

    Attributes:
        folder: Of all jobs.
        caches: Shared by all jobs.
        tracking_uri, events_url: Asked at each submit, since both are known only once their servers are up.
        events_key: File with the key that a job shows when it tells of its end.
        inherited: The controller's environment, of which jobs get an allow-list (and what installers need).
        cores: Processes of one job at a time.
        at_once: Jobs of one stage that work at the same time; the others wait for their turn.
    """

    folder: Path
    caches: Path
    inherited: Mapping[str, str]
    tracking_uri: Callable[[], str | None] = lambda: None
    events_url: Callable[[], str | None] = lambda: None
    events_key: Path | None = None
    cores: int = 2
    at_once: int = 2


class ProcessJobRunner:
    """The `JobRunner` of the local backend."""

    def __init__(self, options: RunnerOptions) -> None:
        self._options = options
        options.folder.mkdir(parents=True, exist_ok=True)

    def submit(self, request: JobRequest) -> JobStatus | None:
        """Start a job; the same name again finds the first and starts nothing."""
        folder = self._folder(request.name)
        if not folder.exists():
            self._make(folder, request)
        if not (folder / STATUS).exists() and not (folder / "started").exists():
            self._start(folder)
        return None

    def status(self, name: JobName) -> JobStatus | None:
        """Ask for a job; None when there never was one of this name."""
        folder = self._folder(name)
        if not folder.exists():
            return None
        if (folder / STATUS).exists():
            report = JobReport.model_validate_json((folder / STATUS).read_bytes())
            return JobStatus(
                name,
                report.outcome,
                report.reason,
                report.log_tail,
                datetime.fromtimestamp(report.started_at, UTC),
                datetime.fromtimestamp(report.ended_at, UTC),
            )
        with lock_of(folder) as free:
            # Looked at again while nobody else can have the lock: the job may have ended a moment ago.
            if (folder / STATUS).exists():
                return self.status(name)
            if not free or time.time() - started_at(folder) < _START_SECONDS:
                return JobStatus(name, None)
            if (folder / "started").exists():
                return self._died(name, folder)
        # The crash came between the intent and the start.
        self._start(folder)
        return JobStatus(name, None)

    def cancel(self, name: JobName, *, why: str = CANCELLED) -> None:
        """Stop a job with everything that it started. Raises TemporaryError where it does not end."""
        folder = self._folder(name)
        if why != CANCELLED and folder.exists():
            (folder / WHY).write_text(why, encoding="utf-8")
        deadline = time.monotonic() + _END_SECONDS
        while folder.exists() and not (folder / STATUS).exists():
            if time.monotonic() > deadline:
                raise TemporaryError(f"Job '{name}' did not end within {_END_SECONDS:g} s of being cancelled.")
            end_process(folder)
            with lock_of(folder) as free:
                # A job that was just starting may have taken its lock meanwhile: it is ended in the next round.
                if free and not (folder / STATUS).exists():
                    self._write_status(folder, "cancelled", why)
        end_strays(folder)

    def progress(self, name: JobName, *, after: int = 0) -> Sequence[JobProgress]:
        """Read a job's progress after a sequence number."""
        path = self._folder(name) / PROGRESS
        if not path.exists():
            return []
        lines = []
        for sequence, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if sequence <= after:
                continue
            try:
                record = json.loads(line)
            except ValueError:
                # The last line is still being written; it is read whole the next time.
                break
            lines.append(JobProgress(sequence, datetime.fromisoformat(record["at"]), record["text"], record["kind"]))
        return lines

    def log(self, name: JobName) -> Iterator[bytes]:
        """Read a job's whole log: its own, and each step's. Raises NotFoundError."""
        folder = self._folder(name)
        if not (folder / LOG).exists():
            raise NotFoundError("log of job", name, advice="The job has not started yet.")
        yield from _chunks(folder / LOG)
        for path in sorted((folder / "pipeline" / "steps").glob("**/log.txt")):
            step = path.parent.relative_to(folder / "pipeline" / "steps").as_posix()
            yield f"\n--- step {step}\n".encode()
            yield from _chunks(path)

    def folder_of(self, name: JobName) -> Path:
        """Say where a job's files are."""
        return self._folder(name)

    def _folder(self, name: str) -> Path:
        return self._options.folder / name

    def _make(self, folder: Path, request: JobRequest) -> None:
        options = self._options
        order = JobOrder(
            name=request.name,
            stage=request.stage,
            project=request.project.name,
            repository=request.project.clone_url,
            commit=request.commit,
            manifest=request.project.manifest,
            spec=request.spec,
            caches=str(options.caches),
            tracking_uri=options.tracking_uri(),
            events_url=options.events_url(),
            events_key=str(options.events_key) if options.events_key else None,
            resume_from=str(self._folder(request.resume_from)) if request.resume_from else None,
            reuse=request.reuse,
            cores=options.cores,
            at_once=options.at_once,
        )
        beside = options.folder / f".{request.name}.{uuid.uuid4().hex}"
        beside.mkdir()
        with (beside / REQUEST).open("w", encoding="utf-8") as file:
            file.write(order.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        try:
            beside.rename(folder)
        except OSError:
            # Another process submitted the same job a moment earlier: its folder counts.
            shutil.rmtree(beside, ignore_errors=True)
        sync_folder(options.folder)

    def _start(self, folder: Path) -> None:
        package = Path(__file__).resolve().parents[3]
        environment = {
            **allowed(self._options.inherited),
            **{
                key: value
                for key, value in self._options.inherited.items()
                if key.startswith(("PIP_", "UV_", "PYENV_"))
            },
            JOB_MARK: str(folder),
            "PYTHONPATH": str(package),
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-m", "mlops_core.jobs", str(folder)]
        start_detached(command, folder=folder, environment=environment, log=folder / "process.txt")
        # Noted afterwards: a crash in between starts a second process, which finds the lock taken and ends.
        (folder / "started").write_text(str(time.time()))

    def _died(self, name: JobName, folder: Path) -> JobStatus:
        """Record that a job's process is gone without a word, so that everybody sees the same."""
        # Its steps go on without it, and would go on writing beside those of the next job.
        end_strays(folder)
        tail = last_lines(folder / "process.txt") or last_lines(folder / LOG)
        self._write_status(folder, "failed", f"the process of job '{name}' died (killed, or out of memory)", tail)
        return self.status(name) or JobStatus(name, "failed")

    def _write_status(self, folder: Path, outcome: str, reason: str, log_tail: str = "") -> None:
        now = time.time()
        report = JobReport.model_validate(
            {
                "outcome": outcome,
                "reason": reason,
                "log_tail": log_tail,
                "started_at": started_at(folder),
                "ended_at": now,
            }
        )
        beside = folder / f".{STATUS}.{uuid.uuid4().hex}"
        beside.write_text(report.model_dump_json())
        beside.replace(folder / STATUS)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
