"""
Detached processes that are found again: started in a session of their own, known by pid and start.

The MLflow server and the scoring apps outlive a killed controller. A pid alone may belong to a stranger by then, so
every record also keeps a mark of when the process started. On Linux the mark counts from the boot, not from the
clock: a clock that is set back must not make a living process look like another.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_core.domain.errors import PermanentError

if TYPE_CHECKING:
    import psutil

_POLL_SECONDS = 0.05
# Field 22 of /proc/PID/stat, counted after the command's closing bracket (proc_pid_stat(5)).
_START_TICKS_FIELD = 19
# Children of this process must be waited for by it, whichever object started them: one table per process.
_children: dict[int, subprocess.Popen[bytes]] = {}


@atexit.register
def _let_go() -> None:
    """Leave the children to themselves: they are meant to outlive this process, which would warn of each otherwise."""
    for child in _children.values():
        if child.poll() is None:
            child.returncode = 0


@dataclass(frozen=True)
class ProcessMark:
    """A process that cannot be mistaken for a later one with the same pid. Its pid is its process group's too."""

    pid: int
    started: str


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_detached(command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: Path) -> ProcessMark:
    """
    Start a command in a session of its own, with its output appended to a log.

    Raises:
        PermanentError: The program cannot be started.
    """
    with log.open("ab") as output:
        try:
            child = subprocess.Popen(
                list(command),
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            message = f"'{command[0]}' could not be started: {error.strerror}. Check that it is installed."
            raise PermanentError(message) from error
    _children[child.pid] = child
    return ProcessMark(child.pid, _start_of(child.pid) or "")


def mark_of_this_process() -> ProcessMark:
    """Give the mark of the process that asks."""
    return ProcessMark(os.getpid(), _start_of(os.getpid()) or "")


def is_alive(mark: ProcessMark) -> bool:
    """Tell whether the very process of the mark is running; one that ended but was not waited for is not."""
    _reap()
    return bool(mark.started) and _start_of(mark.pid) == mark.started


def exit_status(mark: ProcessMark) -> int | None:
    """Return how a child of this process ended; None while it runs or where another process started it."""
    child = _children.get(mark.pid)
    return child.poll() if child is not None else None


def ask_to_end(mark: ProcessMark) -> None:
    """Send the process the polite signal; its children are its own affair while it lives."""
    if is_alive(mark):
        try:
            os.kill(mark.pid, signal.SIGTERM)
        except ProcessLookupError:
            return


def end_group(mark: ProcessMark, *, folder: Path, grace_seconds: float) -> None:
    """
    End a process with what it started: politely, then at the deadline by force.

    Args:
        folder: The working folder that the group was started in: members elsewhere are left alone.
    """
    import psutil

    ask_to_end(mark)
    deadline = time.monotonic() + grace_seconds
    while is_alive(mark) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    for member in group_members(mark, folder=folder):
        try:
            member.kill()
            member.wait(timeout=5)
        except (psutil.NoSuchProcess, psutil.TimeoutExpired):
            continue
    _reap()


def group_members(mark: ProcessMark, *, folder: Path) -> list[psutil.Process]:
    """
    Find what is left of a process group, also after its leader died.

    A pid is not given away while a group of that number exists, so members that work in the group's own folder belong
    to the process of the mark.
    """
    import psutil

    if mark.pid in {os.getpid(), os.getpgrp(), 0, 1}:
        return []
    return [
        process
        for process in psutil.process_iter()
        if _group_of(process.pid) == mark.pid and _works_in(process, folder.resolve())
    ]


def find_by_argument(argument: str) -> ProcessMark | None:
    """Find the group leader whose command line has an argument: what was started just before a crash, unrecorded."""
    import psutil

    for process in psutil.process_iter():
        try:
            found = argument in process.cmdline() and _group_of(process.pid) == process.pid
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        started = _start_of(process.pid)
        if found and started:
            return ProcessMark(process.pid, started)
    return None


def _start_of(pid: int) -> str | None:
    """Return when a living process started, as a text to compare; None when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return _start_without_proc(pid)
    return None if fields[0] in {"Z", "X"} else f"{boot}:{fields[_START_TICKS_FIELD]}"


def _start_without_proc(pid: int) -> str | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _works_in(process: psutil.Process, folder: Path) -> bool:
    import psutil

    try:
        return Path(process.cwd()).resolve().is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _reap() -> None:
    """Collect the children that ended. The last status of each stays readable."""
    for child in list(_children.values()):
        child.poll()
