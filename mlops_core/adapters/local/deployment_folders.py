"""
What is kept on disk of each deployment: one folder with the request, the state, the log.

Every change is one durable write or one rename under a lock that all processes share, so that a kill at any point
leaves something that the next watcher understands. A deleted deployment's folder is renamed away at once: its name is
free while its process still finishes what is in flight.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from mlops_core.adapters.local.durable_files import read_record, sync_folder, write_record
from mlops_core.adapters.local.processes import ProcessMark
from mlops_core.domain.ids import DeploymentName
from mlops_core.ports import DeploymentRequest

Phase = Literal["preparing", "starting", "ready", "failed"]

_ENDING = ".ending"
_request_format = TypeAdapter(DeploymentRequest)


@dataclass(frozen=True)
class DeploymentState:
    """
    Where a deployment stands.

    Attributes:
        incarnation: Differs when a name is used again after a delete.
        port_file: Where the process writes its port; unique per start, so that an unrecorded process is found by it.
        started_at: When the process was started, seconds since the epoch.
        not_before: When the next start is due, seconds since the epoch.
        deaths: Quick deaths in a row.
        waiting_since: When its preparation first failed so, seconds since the epoch.
    """

    incarnation: str
    phase: Phase = "preparing"
    pid: int | None = None
    started: str = ""
    port_file: str = ""
    port: int | None = None
    started_at: float = 0
    not_before: float = 0
    deaths: int = 0
    waiting_since: float = 0
    reason: str = ""
    log_tail: str = ""

    @property
    def process(self) -> ProcessMark | None:
        """The process on record."""
        return ProcessMark(self.pid, self.started) if self.pid is not None else None

    def without_process(self) -> DeploymentState:
        """Forget the process."""
        return replace(self, pid=None, started="", port_file="", port=None)


class DeploymentFolders:
    """The folders of all deployments."""

    def __init__(self, root: Path) -> None:
        """Keep them under a root, which is made when missing."""
        self.root = root.absolute()
        (self.root / _ENDING).mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other threads and processes from changing any deployment; for milliseconds only."""
        with (self.root / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def folder(self, name: DeploymentName) -> Path:
        """Return where a deployment is kept, whether there is one or not."""
        return self.root / name

    def names(self) -> list[DeploymentName]:
        """List the deployments that there are."""
        return sorted(DeploymentName(path.name) for path in self.root.iterdir() if not path.name.startswith("."))

    def ending(self) -> list[Path]:
        """List the folders of deleted deployments whose process may still run."""
        return sorted((self.root / _ENDING).iterdir())

    def create(self, request: DeploymentRequest) -> bool:
        """Store a request; False, and nothing changed, when the name is taken."""
        beside = self.root / f".new-{uuid.uuid4().hex}"
        beside.mkdir()
        try:
            write_record(beside / "request.json", _request_format.dump_python(request, mode="json"))
            self.save(beside, DeploymentState(incarnation=uuid.uuid4().hex))
            with self.alone():
                if self.folder(request.name).exists():
                    return False
                beside.rename(self.folder(request.name))
                sync_folder(self.root)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return True

    def request(self, folder: Path) -> DeploymentRequest:
        """Read what was asked for."""
        return _request_format.validate_python(read_record(folder / "request.json"))

    def state(self, folder: Path) -> DeploymentState | None:
        """Read where a deployment stands; None when there is none."""
        record = read_record(folder / "state.json")
        return DeploymentState(**record) if record is not None else None

    def save(self, folder: Path, state: DeploymentState) -> None:
        """Write where a deployment stands."""
        write_record(folder / "state.json", asdict(state))

    def launch(self, folder: Path) -> dict[str, Any] | None:
        """Read the prepared command and environment; None while they are not prepared."""
        return read_record(folder / "launch.json")

    def retire(self, name: DeploymentName) -> Path | None:
        """Take a deployment away under its name; the caller holds the lock. Returns where its folder is now."""
        if not self.folder(name).exists():
            return None
        target = self.root / _ENDING / f"{name}.{uuid.uuid4().hex}"
        self.folder(name).rename(target)
        sync_folder(self.root)
        return target
