"""
Starts a real MLflow server over the data folder and keeps it running: tracking, registry and artifacts.

`headrace up` calls it. The server is a detached process, so a killed controller leaves it behind, and jobs that are
under way go on logging to it. The next start finds it by the record beside its database, or by its command line where
the crash came before the record, and takes it over: there are never two servers on one database. Its port is
remembered, since running jobs hold its address.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlops_core.adapters.local import processes
from mlops_core.adapters.local.durable_files import last_lines, read_record, write_record
from mlops_core.adapters.local.processes import ProcessMark
from mlops_core.domain.errors import HeadraceError, PermanentError, TemporaryError

_log = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_POLL_SECONDS = 0.1
_HEALTH_SECONDS = 5.0
# A server that does not answer this often in a row, each time for `_HEALTH_SECONDS`, is taken for hung.
_MISSED_HEALTH_CHECKS = 6
_GRACE_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 30.0
_WATCH_SECONDS = 1.0
# The job and evaluation runners of MLflow are eight more processes and double the start (measured: 19 s against 8.5 s
# on two busy cores). Telemetry is off: what runs on a laptop tells nobody.
_SERVER_SETTINGS = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "PYTHONUNBUFFERED": "1",
}


class MlflowServer:
    """One MLflow server process per data folder."""

    def __init__(
        self, folder: Path, *, environment: Mapping[str, str], python: Path | None = None, ready_seconds: float = 120.0
    ) -> None:
        """
        Remember how to start the server.

        Args:
            folder: Where database, artifacts, log and record are; made when missing.
            environment: What the process may see of the environment, such as `PATH` and `HOME`.
            python: An interpreter that has mlflow. Default: the one that runs this.
        """
        self._folder = folder.absolute()
        self._environment = {**environment, **_SERVER_SETTINGS}
        self._python = python or Path(sys.executable)
        self._ready_seconds = ready_seconds
        self._missed = 0
        self._has_answered = False
        self._started_at = time.monotonic()

    @property
    def address(self) -> str:
        """The base URL; known as soon as the server was started, kept over restarts while its port is free."""
        record = read_record(self._record)
        if record is None:
            raise TemporaryError("The MLflow server was not started yet. Start it with `headrace up`.")
        return f"http://{_HOST}:{record['port']}"

    @property
    def log_path(self) -> Path:
        """Where the server writes its log."""
        return self._folder / "server.log"

    def start(self) -> str:
        """
        Take over the server that is running on this folder, or start one; return its address at once.

        Raises: PermanentError: The process cannot be started.
        """
        (self._folder / "artifacts").mkdir(parents=True, exist_ok=True)
        self._has_answered, self._started_at = False, time.monotonic()
        with self._alone():
            record = read_record(self._record) or {}
            mark = self._running(record)
            if mark is None:
                self._end_leftovers(record)
                self._launch(record.get("port"))
            else:
                _log.info("MLflow server taken over", extra={"pid": mark.pid})
        return self.address

    def wait_until_ready(self) -> str:
        """
        Wait until the server answers.

        Raises:
            PermanentError: It ended instead, with the last lines of its log.
            TemporaryError: It did not answer in time.
        """
        deadline = time.monotonic() + self._ready_seconds
        while time.monotonic() < deadline:
            if self.is_healthy():
                return self.address
            if self._running(read_record(self._record) or {}) is None:
                raise PermanentError(
                    f"The MLflow server ended before it was ready. The end of '{self.log_path}':\n"
                    f"{last_lines(self.log_path, lines=15)}"
                )
            time.sleep(_POLL_SECONDS)
        raise TemporaryError(
            f"The MLflow server did not answer on {self.address}/health within {self._ready_seconds:g} seconds. "
            f"The end of '{self.log_path}':\n{last_lines(self.log_path, lines=15)}"
        )

    def is_healthy(self) -> bool:
        """Ask the server whether it answers."""
        import httpx

        try:
            return httpx.get(f"{self.address}/health", timeout=_HEALTH_SECONDS, trust_env=False).is_success
        except (httpx.HTTPError, TemporaryError):
            return False

    def watch_once(self) -> bool:
        """
        Start the server again when it died or hangs.

        Returns: False when it had to be started.
        """
        mark = self._running(read_record(self._record) or {})
        if mark is not None:
            if self._answers_or_starts() or self._missed < _MISSED_HEALTH_CHECKS:
                return True
            processes.end_group(mark, folder=self._folder, grace_seconds=_GRACE_SECONDS)
        self._missed = 0
        _log.warning("MLflow server is started again", extra={"log_tail": last_lines(self.log_path, lines=5)})
        self.start()
        return False

    def _answers_or_starts(self) -> bool:
        """Count checks missed in a row; those of a server that was just started and never answered do not count."""
        if self.is_healthy():
            self._has_answered, self._missed = True, 0
            return True
        if not self._has_answered and time.monotonic() - self._started_at < self._ready_seconds:
            return True
        self._missed += 1
        return False

    def watch(self, stop: threading.Event) -> None:
        """Watch until told to stop, with growing pauses while it dies again and again."""
        pause = _WATCH_SECONDS
        while not stop.wait(pause):
            try:
                calm = self.watch_once()
            except HeadraceError:
                _log.exception("MLflow server cannot be started")
                calm = False
            pause = _WATCH_SECONDS if calm else min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def stop(self) -> None:
        """End the server and what it started; one that does not run is left alone."""
        with self._alone():
            record = read_record(self._record) or {}
            mark = self._running(record)
            if mark is not None:
                processes.end_group(mark, folder=self._folder, grace_seconds=_GRACE_SECONDS)
            self._end_leftovers(record)

    @property
    def _record(self) -> Path:
        return self._folder / "server.json"

    @property
    def _database(self) -> str:
        return f"sqlite:///{self._folder / 'mlflow.db'}"

    def _running(self, record: Mapping[str, object]) -> ProcessMark | None:
        """Find the living server: the one on record, or the one that was started just before a crash."""
        if "pid" not in record:
            found = processes.find_by_argument(self._database)
            if found is not None and "port" in record:
                write_record(self._record, {**record, "pid": found.pid, "started": found.started})
            return found if "port" in record else None
        mark = ProcessMark(int(str(record["pid"])), str(record["started"]))
        return mark if processes.is_alive(mark) else None

    def _end_leftovers(self, record: Mapping[str, object]) -> None:
        """End workers whose leader was killed: they hold the port and the database."""
        if "pid" in record:
            mark = ProcessMark(int(str(record["pid"])), str(record["started"]))
            processes.end_group(mark, folder=self._folder, grace_seconds=0)

    def _launch(self, remembered_port: int | None) -> None:
        port = _free_port(remembered_port)
        write_record(self._record, {"port": port})
        mark = processes.start_detached(
            self._command(port), folder=self._folder, environment=self._environment, log=self.log_path
        )
        write_record(self._record, {"port": port, "pid": mark.pid, "started": mark.started})
        _log.info("MLflow server started", extra={"pid": mark.pid, "port": port})

    def _command(self, port: int) -> list[str]:
        store = ["--backend-store-uri", self._database, "--artifacts-destination", str(self._folder / "artifacts")]
        # One worker: more would race for SQLite's one writer. No access log: the watcher asks once a second.
        network = ["--host", _HOST, "--port", str(port), "--allowed-hosts", f"{_HOST}:{port},localhost:{port}"]
        workers = ["--workers", "1", "--uvicorn-opts", "--no-access-log --log-level warning"]
        return [str(self._python), "-m", "mlflow", "server", *store, "--serve-artifacts", *network, *workers]

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process at a time start or stop the server of this folder."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "server.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _free_port(wanted: int | None) -> int:
    """Return the wanted port when it can be bound, else any free one."""
    for port in (wanted, 0):
        if port is None:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise TemporaryError(f"No port of {_HOST} is free. End a program that listens, then try again.")
