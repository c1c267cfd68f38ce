"""Secrets that the local backend makes for itself: one file each in the data folder, readable by its owner only."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

TOPIC_KEY = "topic-key"
"""What whoever publishes to a local topic shows as `aeg-sas-key`; jobs read it there."""


def kept_secret(data_folder: Path, name: str) -> str:
    """Read a secret; made at the first call."""
    path = data_folder / name
    if not path.exists():
        data_folder.mkdir(parents=True, exist_ok=True)
        beside = data_folder / f".{name}.{secrets.token_hex(8)}"
        beside.touch(mode=0o600)
        beside.write_text(secrets.token_hex(32))
        # A link fails where another process was first: its secret counts, and nobody ever sees half of one.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(beside)
        beside.unlink()
    return path.read_text().strip()
