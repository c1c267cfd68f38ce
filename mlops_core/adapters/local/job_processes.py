"""The processes of detached jobs: who has a job's lock, and how a job is ended with all that it started."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_core.adapters.local.durable_files import read_record
from mlops_core.pipelines.step_process import JOB_MARK

if TYPE_CHECKING:
    import psutil

_GRACE_SECONDS = 8.0


@contextmanager
def lock_of(folder: Path) -> Iterator[bool]:
    """Try the folder's lock, the truth about whether the job runs; gives whether it was free, and holds it meanwhile."""
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def started_at(folder: Path) -> float:
    """Say when a job was started, in seconds since 1970; where that is not noted, when its folder was made."""
    try:
        return float((folder / "started").read_text())
    except (OSError, ValueError):
        return folder.stat().st_mtime


def _process_of(folder: Path) -> psutil.Process | None:
    import psutil

    with lock_of(folder) as free:
        if free:
            return None
    record = read_record(folder / "lock")
    try:
        return psutil.Process(int(record["pid"])) if record else None
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return None


def end_process(folder: Path) -> None:
    """End a job's process, politely first, with all that it started."""
    import psutil

    process = _process_of(folder)
    if process is None:
        return
    try:
        tree = [process, *process.children(recursive=True)]
        process.send_signal(signal.SIGTERM)
    except psutil.NoSuchProcess:
        return
    psutil.wait_procs([process], timeout=_GRACE_SECONDS)
    for each in tree:
        _kill(each)
    psutil.wait_procs([process], timeout=_GRACE_SECONDS)


def end_strays(folder: Path) -> None:
    """Kill what is left of a job whose process is gone, and see it gone: known by the job's mark in its environment."""
    import psutil

    killed = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(JOB_MARK) == str(folder):
                process.kill()
                killed.append(process)
    psutil.wait_procs(killed, timeout=_GRACE_SECONDS)


def _kill(process: psutil.Process) -> None:
    import psutil

    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
