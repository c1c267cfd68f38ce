"""Words that lists and stories share: states in their colours, and lengths of time."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.text import Text

_COLOURS = {
    "live": "bold green",
    "built": "green",
    "retired": "dim",
    "skipped": "dim",
    "superseded": "dim",
    "failed": "bold red",
    "rejected": "red",
    "expired": "red",
    "cancelled": "yellow",
    "rolled_back": "red",
    "awaiting_approval": "bold yellow",
    "passed": "green",
    "waived": "yellow",
}


def coloured(word: str) -> Text:
    """Write a state or outcome in its colour."""
    return Text(word, style=_COLOURS.get(word, "cyan"))


def age(moment: str) -> str:
    """Say how long ago something was."""
    seconds = max((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds(), 0)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds / size)} {unit} ago"
    return f"{seconds:.0f} s ago"


def length(seconds: float) -> str:
    """Say how long something took: at most two units."""
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, size, rest in (("d", 86_400, 3_600), ("h", 3_600, 60), ("min", 60, 1)):
        if whole >= size:
            small = {"d": "h", "h": "min", "min": "s"}[unit]
            return f"{whole // size} {unit} {whole % size // rest} {small}"
    return f"{whole} s"
