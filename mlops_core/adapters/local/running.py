"""
Where the controller of a data folder is: `headrace up` notes it, and commands, hooks and `headrace down` look it up.

A killed controller leaves its note behind, and by then its pid may be a stranger's and its port another program's. So
the note keeps a mark of the process, and a note of a process that is gone counts as none.
"""

from __future__ import annotations

from pathlib import Path

from mlops_core.adapters.local import processes
from mlops_core.adapters.local.durable_files import read_record, write_record
from mlops_core.adapters.local.processes import ProcessMark

_NOTE = "up.json"


def note(folder: Path, address: str) -> Path:
    """Note that this process is the controller of a data folder. Returns the file, which is removed at the end."""
    mark = processes.mark_of_this_process()
    write_record(folder / _NOTE, {"pid": mark.pid, "started": mark.started, "address": address})
    return folder / _NOTE


def forget(folder: Path) -> None:
    """Remove the note."""
    (folder / _NOTE).unlink(missing_ok=True)


def address_of_controller(folder: Path) -> str | None:
    """Say where the controller of a data folder is; None where none is up."""
    record = read_record(folder / _NOTE) or {}
    mark = _mark(record)
    if "address" not in record or (mark is not None and not processes.is_alive(mark)):
        return None
    return str(record["address"])


def controller_process(folder: Path) -> ProcessMark | None:
    """Give the very process that is the controller of a data folder; None where none is up."""
    mark = _mark(read_record(folder / _NOTE) or {})
    return mark if mark is not None and processes.is_alive(mark) else None


def _mark(record: dict[str, object]) -> ProcessMark | None:
    if "pid" not in record or "started" not in record:
        return None
    return ProcessMark(int(str(record["pid"])), str(record["started"]))
