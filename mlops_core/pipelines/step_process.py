"""
Run one process of a step: in a session of its own, with an allow-list of environment variables and a log.

Ending it ends its whole session and all that it started elsewhere: politely first, then by force.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

JOB_MARK = "HEADRACE_JOB"
"""Variable that names the folder of the job which a process belongs to, wherever it went: a stray is known by it."""
# What a step may see of this process' environment. Everything else, and with it every secret, stays out.
ALLOWED = (
    "PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY",
    "NO_PROXY", "LD_LIBRARY_PATH", JOB_MARK,
)  # fmt: skip
_GRACE_SECONDS = 5.0
_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Ended:
    """
    How a process ended.

    Attributes:
        code: Exit code; negative for a signal.
        cause: `exit`, `timeout` or `stopped`.
    """

    code: int
    cause: str = "exit"

    @property
    def succeeded(self) -> bool:
        """Tell whether it ended by itself, with 0."""
        return self.code == 0 and self.cause == "exit"

    @property
    def sentence(self) -> str:
        """Say how it ended."""
        if self.cause == "timeout":
            return "it ran into its timeout and was stopped"
        if self.cause == "stopped":
            return "it was stopped"
        if self.code < 0:
            name = signal.Signals(-self.code).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return f"it was ended by {name}{hint}"
        return f"it ended with exit code {self.code}"


class StepProcesses:
    """The processes of a pipeline that are running, so that all can be ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._stopped: set[int] = set()
        self.halted = threading.Event()

    def run(
        self,
        command: str,
        *,
        folder: Path,
        environment: Mapping[str, str],
        log: Path,
        timeout_seconds: float | None,
        stop: threading.Event | None = None,
    ) -> Ended:
        """
        Run a shell line to its end, as Azure ML does: with bash where there is one.

        Args:
            stop: Ends this one process early, such as a trial that is not worth going on with.
        """
        with log.open("ab") as output, self._lock:
            if self.halted.is_set():
                return Ended(-signal.SIGTERM, "stopped")
            process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running[process.pid] = process
        watcher = threading.Thread(target=self._stop_when_told, args=(process, stop), daemon=True) if stop else None
        if watcher:
            watcher.start()
        try:
            code = process.wait(timeout_seconds)
            cause = "stopped" if process.pid in self._stopped else "exit"
        except subprocess.TimeoutExpired:
            end_session(process)
            code, cause = process.wait(), "timeout"
        finally:
            with self._lock:
                self._running.pop(process.pid, None)
            # What it left behind in its session would go on writing to outputs that count as finished.
            _kill_session(process.pid)
        return Ended(code, cause)

    def halt(self) -> None:
        """End everything that runs, and start nothing any more."""
        self.halted.set()
        with self._lock:
            running = list(self._running.values())
            self._stopped.update(process.pid for process in running)
        for process in running:
            # All at once, so that many that take their time do not take it one after the other.
            _signal_group(process.pid, signal.SIGTERM)
        for process in running:
            end_session(process)

    def _stop_when_told(self, process: subprocess.Popen[bytes], stop: threading.Event) -> None:
        while process.poll() is None:
            if stop.wait(0.2):
                self._stopped.add(process.pid)
                end_session(process)
                return


def end_session(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session, with all that it started: politely, and after a while by force."""
    family = _descendants(process.pid)
    _signal_group(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
    # Also where the leader went politely: what it started may not have, or may have a session of its own.
    _kill_session(process.pid)
    for each in family:
        _kill(each)
    process.wait()
    # Killed is not yet gone, and what is not gone may still write.
    deadline = time.monotonic() + _GRACE_SECONDS
    while any(map(_is_running, family)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _descendants(pid: int) -> list[psutil.Process]:
    import psutil

    try:
        family: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return family


def _kill(process: psutil.Process) -> None:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process.kill()


def _is_running(process: psutil.Process) -> bool:
    import psutil

    try:
        # A zombie that its parent does not collect is as good as gone.
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _kill_session(pid: int) -> None:
    _signal_group(pid, signal.SIGKILL)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def allowed(environment: Mapping[str, str]) -> dict[str, str]:
    """Keep what a step may see of an environment."""
    return {name: environment[name] for name in ALLOWED if name in environment}
