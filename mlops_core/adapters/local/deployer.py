"""
Deployments as processes of this machine: the port's side. It writes down what is wanted and reads how it stands.

Nothing here waits: preparing, starting, watching and ending are `deployment_watcher`'s, which runs beside the
controller in `headrace up` and looks at the folders. So a controller that is killed at any point leaves wishes and
processes that are found again.
"""

from __future__ import annotations

import contextlib
import http.client
import os
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path

from mlops_core.adapters.local import processes
from mlops_core.adapters.local.deployment_folders import DeploymentFolders, DeploymentState
from mlops_core.adapters.local.durable_files import last_lines
from mlops_core.domain.errors import PermanentError
from mlops_core.domain.ids import DeploymentName
from mlops_core.ports import DeploymentRequest, DeploymentStatus

_HEALTH_SECONDS = 2.0
_LINE_BYTES = 400
# Shown to whoever waits for it. An environment that nobody made before takes most of a minute.
_UNDER_WAY = {
    "preparing": "making the serving environment ready (the first time with these packages it is installed) ...",
    "starting": "starting the scoring app ...",
}


class ProcessDeployer:
    """One scoring process per deployment."""

    def __init__(self, folders: DeploymentFolders, *, wake: Callable[[], None] = lambda: None) -> None:
        """
        Remember where deployments are kept.

        Args:
            wake: Called when there is something to do, so that the watcher need not wait for its next look.
        """
        self._folders = folders
        self._wake = wake
        self._addresses: dict[DeploymentName, tuple[tuple[int, int], str | None]] = {}

    def create(self, request: DeploymentRequest) -> None:
        """Ask for a deployment; the same name again finds the first."""
        if not request.name or request.name.startswith(".") or os.sep in request.name:
            message = f"Deployment name '{request.name}' is not one: give lower-case letters, digits and hyphens."
            raise PermanentError(message)
        if self._folders.create(request):
            self._wake()

    def status(self, name: DeploymentName) -> DeploymentStatus:
        """Tell how a deployment stands; one on record as ready is asked whether it answers."""
        folder = self._folders.folder(name)
        state = self._folders.state(folder)
        if state is None:
            return DeploymentStatus(name=name, state="absent")
        if state.phase == "ready" and answers(state, "/health/ready"):
            return DeploymentStatus(name=name, state="ready", address=address_of(state))
        if state.phase == "ready":
            return DeploymentStatus(name=name, state="starting", reason="It does not answer now. It is watched.")
        return status_of(name, state)

    def address(self, name: DeploymentName) -> str | None:
        """Look up where a deployment answers: one look at a file's date, and at the file when that changed."""
        path = self._folders.folder(name) / "state.json"
        try:
            found = path.stat()
        except FileNotFoundError:
            self._addresses.pop(name, None)
            return None
        seen = (found.st_ino, found.st_mtime_ns)
        known = self._addresses.get(name)
        if known is None or known[0] != seen:
            state = self._folders.state(path.parent)
            known = (seen, address_of(state) if state is not None and state.phase == "ready" else None)
            self._addresses[name] = known
        return known[1]

    def log_tail(self, name: DeploymentName, *, lines: int = 60) -> str:
        """Read the last lines of a deployment's log; empty where there is none."""
        return last_lines(log_of(self._folders.folder(name)), lines=lines, limit_bytes=_LINE_BYTES * lines)

    def delete(self, name: DeploymentName) -> None:
        """Free the name and ask the process to finish; the watcher ends it by force when it does not."""
        with self._folders.alone():
            folder = self._folders.retire(name)
        if folder is None:
            return
        state = self._folders.state(folder)
        if state is not None and state.process is not None:
            processes.ask_to_end(state.process)
        self._wake()

    def list(self) -> Sequence[DeploymentStatus]:
        """Tell how all deployments stand."""
        return [status for name in self._folders.names() if (status := self.status(name)).state != "absent"]


def address_of(state: DeploymentState) -> str:
    """Return the base URL of a process that listens."""
    return f"http://127.0.0.1:{state.port}"


def status_of(name: DeploymentName, state: DeploymentState) -> DeploymentStatus:
    """Put a state into the words of the port."""
    if state.phase == "ready":
        return DeploymentStatus(name=name, state="ready", address=address_of(state))
    return DeploymentStatus(
        name=name,
        state="failed" if state.phase == "failed" else "starting",
        reason=state.reason or _UNDER_WAY.get(state.phase, ""),
        log_tail=state.log_tail,
    )


def answers(state: DeploymentState, path: str) -> bool:
    """Ask the process of a deployment. Plain HTTP by hand: a client would read all certificates for each question."""
    if state.port is None:
        return False
    connection = http.client.HTTPConnection("127.0.0.1", state.port, timeout=_HEALTH_SECONDS)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path)
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def log_of(folder: Path) -> Path:
    """Return where a deployment's process and preparation write."""
    return folder / "log.txt"
