"""
Brings every deployment to what is wanted and keeps it there: prepares, starts, watches, restarts, ends.

Runs beside the controller in `headrace up`. Each look reads the folders afresh and takes at most one step per
deployment, and each step is written down before or after it in a way that the next look understands, so it does not
matter where the last watcher was killed. Scoring processes outlive it and are found again.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mlops_core.adapters.local import processes
from mlops_core.adapters.local.deployer import answers, log_of, status_of
from mlops_core.adapters.local.deployment_folders import DeploymentFolders, DeploymentState
from mlops_core.adapters.local.durable_files import last_lines, read_record, write_record
from mlops_core.adapters.local.scoring_launch import Launch
from mlops_core.domain.errors import HeadraceError, PermanentError, TemporaryError
from mlops_core.domain.ids import DeploymentName
from mlops_core.ports import DeploymentRequest, DeploymentStatus

_log = logging.getLogger(__name__)

Prepare = Callable[[DeploymentRequest, Path], Launch]
OnChange = Callable[[DeploymentStatus], None]

# Making two environments at a time keeps both cores of a small laptop busy.
_PREPARATIONS = 2


@dataclass(frozen=True)
class Patience:
    """How long a watcher waits for what. All in seconds, except the number of deaths."""

    look: float = 0.5
    start: float = 300.0
    """A process that is not ready after this is ended and counts as dead; what it needs may be away for so long."""
    quick_death: float = 60.0
    deaths: int = 3
    """So many quick deaths in a row make a deployment fail."""
    first_pause: float = 0.5
    health_every: float = 5.0
    missed_checks: int = 6
    drain: float = 35.0
    """Longer than the scoring app itself waits for the requests in flight, 25 seconds."""


class DeploymentWatcher:
    """Looks after the deployments of one data folder; only one may do so at a time."""

    def __init__(
        self,
        folders: DeploymentFolders,
        *,
        prepare: Prepare,
        on_change: OnChange = lambda _: None,
        patience: Patience | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        Remember whom to call.

        Args:
            prepare: Gets model, environment and code ready, in a thread, for minutes if need be.
            on_change: Told when a deployment became ready, failed, or is no longer ready.
            now: Seconds since the epoch.
        """
        self._folders = folders
        self._prepare = prepare
        self._on_change = on_change
        self._patience = patience or Patience()
        self._now = now
        self._preparing: dict[str, _Preparation] = {}
        self._health: dict[str, tuple[float, int]] = {}
        self._woken = threading.Event()

    def wake(self) -> None:
        """Have the next look made at once."""
        self._woken.set()

    def watch(self, stop: threading.Event) -> None:
        """Look until told to stop (and woken). Scoring processes go on; a preparation begins anew at the next watch."""
        while not stop.is_set():
            self.look()
            self._woken.wait(self._patience.look)
            self._woken.clear()

    def look(self) -> None:
        """Take the next step of each deployment. What fails for one does not keep the others waiting."""
        for name in self._folders.names():
            try:
                self._step(name)
            except (HeadraceError, OSError):
                _log.exception("Deployment was not looked after", extra={"deployment": name})
        for folder in self._folders.ending():
            try:
                self._end(folder)
            except (HeadraceError, OSError):
                _log.exception("Deployment was not ended", extra={"folder": folder.name})

    def _step(self, name: DeploymentName) -> None:
        folder = self._folders.folder(name)
        state = self._folders.state(folder)
        if state is None or state.phase == "failed":
            return
        if state.phase == "preparing":
            self._step_of_preparing(name, folder, state)
        elif state.process is None and not state.port_file:
            self._start(name, folder, state)
        else:
            self._step_of_process(name, folder, state)

    def _step_of_preparing(self, name: DeploymentName, folder: Path, state: DeploymentState) -> None:
        if not self._is_due(state):
            return
        thread = self._preparing.get(state.incarnation)
        if thread is None:
            if len(self._preparing) < _PREPARATIONS:
                thread = _Preparation(self._prepare, self._folders.request(folder), folder, self.wake)
                self._preparing[state.incarnation] = thread
                thread.start()
        elif not thread.is_alive():
            del self._preparing[state.incarnation]
            self._take_preparation(name, folder, state, thread)

    def _take_preparation(
        self, name: DeploymentName, folder: Path, state: DeploymentState, thread: _Preparation
    ) -> None:
        if thread.launch is not None:
            write_record(folder / "launch.json", asdict(thread.launch))
            self._save(name, replace(state, phase="starting", not_before=0, waiting_since=0, reason=""))
        elif isinstance(thread.problem, (TemporaryError, OSError)):
            self._prepare_later(name, folder, state, f"Preparing it did not work: {thread.problem}")
        else:
            words = thread.problem or "the reason is in Headrace's own log."
            self._fail(name, folder, state, f"It could not be prepared: {words}")

    def _prepare_later(self, name: DeploymentName, folder: Path, state: DeploymentState, reason: str) -> None:
        """Plan the next try: right after `headrace up`, the registry that it asks takes longer to start than it does."""
        since = state.waiting_since or self._now()
        waited = max(0.0, self._now() - since)
        if waited > self._patience.start:
            self._fail(name, folder, state, f"{reason} It was tried for {waited:.0f} seconds.")
            return
        pause = min(self._patience.first_pause + waited, self._patience.first_pause * 2 ** (self._patience.deaths - 1))
        self._save(name, replace(state, waiting_since=since, not_before=self._now() + pause, reason=reason))

    def _start(self, name: DeploymentName, folder: Path, state: DeploymentState) -> None:
        """Start the process: intent first, then the process, then its record."""
        launch = self._folders.launch(folder)
        if not self._is_due(state) or launch is None:
            return
        port_file = folder / f"port-{uuid.uuid4().hex}"
        with self._folders.alone():
            if not self._is_current(folder, state):
                return
            intent = replace(state, port_file=str(port_file), started_at=self._now())
            self._folders.save(folder, intent)
            (folder / "work").mkdir(exist_ok=True)
            try:
                mark = processes.start_detached(
                    [*launch["command"], "--port-file", str(port_file)],
                    folder=folder / "work",
                    environment=launch["environment"],
                    log=log_of(folder),
                )
            except PermanentError as error:
                problem = error
            else:
                self._folders.save(folder, replace(intent, pid=mark.pid, started=mark.started))
                _log.info("Scoring process started", extra={"deployment": name, "pid": mark.pid})
                return
        # The interpreter is gone, as when somebody emptied the cache of environments: have it made again.
        self._count_death(name, folder, replace(intent, phase="preparing"), str(problem))

    def _step_of_process(self, name: DeploymentName, folder: Path, state: DeploymentState) -> None:
        if state.process is None:  # killed between intent and record
            mark = processes.find_by_argument(state.port_file)
            found = replace(state, pid=mark.pid, started=mark.started) if mark else state.without_process()
            self._save(name, found)
        elif not processes.is_alive(state.process):
            self._count_death(name, folder, state, "Its process ended.")
        elif state.phase == "starting":
            self._step_of_starting(name, folder, state)
        else:
            self._step_of_ready(name, folder, state)

    def _step_of_starting(self, name: DeploymentName, folder: Path, state: DeploymentState) -> None:
        port = _read_port(Path(state.port_file))
        if port is not None and answers(replace(state, port=port), "/health/ready"):
            self._save(name, replace(state, phase="ready", port=port, reason="", log_tail=""), tell=True)
        elif self._now() - state.started_at > self._patience.start:
            self._end_process(state, folder)
            self._count_death(name, folder, state, f"It was not ready after {self._patience.start:g} seconds.")

    def _step_of_ready(self, name: DeploymentName, folder: Path, state: DeploymentState) -> None:
        """Ask now and then whether it lives; a process that hangs is ended, so that it is started again."""
        asked_at, missed = self._health.get(state.port_file, (0.0, 0))
        if time.monotonic() - asked_at < self._patience.health_every:
            return
        missed = 0 if answers(state, "/health/live") else missed + 1
        self._health[state.port_file] = (time.monotonic(), missed)
        if missed >= self._patience.missed_checks:
            self._end_process(state, folder)
            self._count_death(name, folder, state, f"It did not answer {missed} times in a row.")

    def _count_death(self, name: DeploymentName, folder: Path, state: DeploymentState, reason: str) -> None:
        """Plan the next try, or give up after too many quick deaths in a row."""
        self._health.pop(state.port_file, None)
        if state.process is not None:
            processes.end_group(state.process, folder=folder, grace_seconds=0)
        quick = self._now() - state.started_at < self._patience.quick_death or state.phase != "ready"
        deaths = state.deaths + 1 if quick else 1
        if deaths >= self._patience.deaths:
            self._fail(name, folder, state, f"{reason} That was the {deaths}. time in a row.")
            return
        pause = self._patience.first_pause * 2 ** (deaths - 1)
        planned = replace(state.without_process(), deaths=deaths, not_before=self._now() + pause)
        planned = replace(planned, phase="preparing" if state.phase == "preparing" else "starting")
        tail = last_lines(log_of(folder))
        self._save(name, replace(planned, reason=reason, log_tail=tail), tell=state.phase == "ready")

    def _fail(self, name: DeploymentName, folder: Path, state: DeploymentState, reason: str) -> None:
        failed = replace(state.without_process(), phase="failed", reason=reason, log_tail=last_lines(log_of(folder)))
        self._save(name, failed, tell=True)

    def _save(self, name: DeploymentName, state: DeploymentState, *, tell: bool = False) -> None:
        folder = self._folders.folder(name)
        with self._folders.alone():
            if not self._is_current(folder, state):
                return
            self._folders.save(folder, state)
        if tell:
            self._on_change(status_of(name, state))

    def _is_current(self, folder: Path, state: DeploymentState) -> bool:
        """Tell whether the deployment is still the one that was looked at: not deleted, nor made anew."""
        found = self._folders.state(folder)
        return found is not None and found.incarnation == state.incarnation

    def _is_due(self, state: DeploymentState) -> bool:
        """Tell whether a planned start is due; a plan too far ahead is from before the clock was set back."""
        longest = self._patience.first_pause * 2**self._patience.deaths
        return not 0 < state.not_before - self._now() <= longest

    def _end(self, folder: Path) -> None:
        """Let a deleted deployment's process finish, end it at the deadline, then remove the folder."""
        state = self._folders.state(folder)
        if state is None:
            shutil.rmtree(folder, ignore_errors=True)
            return
        mark = state.process or (processes.find_by_argument(state.port_file) if state.port_file else None)
        asked = read_record(folder / "ending.json")
        if mark is not None and processes.is_alive(mark):
            if asked is None:
                processes.ask_to_end(mark)
                write_record(folder / "ending.json", {"asked_at": self._now()})
                return
            if 0 <= self._now() - float(asked["asked_at"]) < self._patience.drain:
                return
        if mark is not None:
            processes.end_group(mark, folder=folder, grace_seconds=0)
        shutil.rmtree(folder)

    def _end_process(self, state: DeploymentState, folder: Path) -> None:
        if state.process is not None:
            processes.end_group(state.process, folder=folder, grace_seconds=0)


class _Preparation(threading.Thread):
    """One preparation; a daemon, since nobody who stops Headrace wants to wait for an installation."""

    def __init__(self, prepare: Prepare, request: DeploymentRequest, folder: Path, wake: Callable[[], None]) -> None:
        super().__init__(name=f"prepare-{request.name}", daemon=True)
        self.launch: Launch | None = None
        self.problem: HeadraceError | OSError | None = None
        self._work = (prepare, request, folder, wake)

    def run(self) -> None:
        prepare, request, folder, wake = self._work
        try:
            self.launch = prepare(request, folder)
        except (HeadraceError, OSError) as error:
            self.problem = error
        finally:
            wake()


def _read_port(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    return int(text) if text.isdigit() else None
