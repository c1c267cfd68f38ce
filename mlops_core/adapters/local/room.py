"""How much room the disk of a data folder has left: what is stored waits for it, and somebody must say so."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

# Less than one model with its run and logs needs.
_LEAST_BYTES = 32 * 2**20
_LOOK_SECONDS = 5.0


def shortage(folder: Path) -> str | None:
    """Say that a folder's disk is full, and what to do; None where it has room."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return None
    if free >= _LEAST_BYTES:
        return None
    return (
        f"the disk of '{folder}' has only {free / 2**20:.1f} MiB left: free some space there. Nothing is lost; what waits "
        "for it goes on by itself"
    )


def watch_room(folder: Path, tell: Callable[[str], None], stop: threading.Event) -> None:
    """Tell when the disk gets full and when there is room again, until told to stop."""
    known = False
    while not stop.is_set():
        said = shortage(folder)
        if said and not known:
            tell(said)
        elif known and not said:
            tell(f"the disk of '{folder}' has room again")
        known = said is not None
        stop.wait(_LOOK_SECONDS)
