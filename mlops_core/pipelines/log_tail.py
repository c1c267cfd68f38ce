"""
Find the lines of a log that matter: the error, not everything before it.

Knows Python tracebacks and pytest's summary; of anything else, the last lines.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_READ_BYTES = 65_536
_MOST_LINES = 25
_LAST_LINES = 15
_TRACEBACK = "Traceback (most recent call last):"
_PYTEST = re.compile(r"^(=+ (short test summary info|FAILURES|ERRORS) =+|FAILED |ERROR )", re.MULTILINE)


def what_matters(path: Path) -> str:
    """Read the end of a log file and cut out what says why; empty where there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _READ_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return cut(text)


def cut(text: str) -> str:
    """Cut out of a log's text what says why something failed, at most 25 lines."""
    lines = text.rstrip().splitlines()
    if _PYTEST.search(text):
        return "\n".join(_of_pytest(lines))
    starts = [number for number, line in enumerate(lines) if line.startswith(_TRACEBACK)]
    if starts:
        trace = lines[starts[-1] :]
        if len(trace) > _MOST_LINES:
            trace = [trace[0], "  ...", *trace[-(_MOST_LINES - 2) :]]
        return "\n".join(trace)
    return "\n".join(lines[-_LAST_LINES:])


def _of_pytest(lines: list[str]) -> list[str]:
    errors = [line for line in lines if line.startswith("E   ")][:8]
    summary = [line for line in lines if line.startswith(("FAILED ", "ERROR "))][:10]
    last = [line for line in lines[-1:] if line.startswith("=") or " failed" in line or " error" in line]
    return [*errors, *summary, *last][:_MOST_LINES]
