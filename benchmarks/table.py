"""
The table that `make bench` ends with: each benchmark notes its rows in a file, `run.py` prints them together.

A row is a ratio against a baseline of the same run wherever there is one, since absolute numbers depend on the machine.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

HEADINGS = ("what", "against", "target", "seen", "met")


@dataclass(frozen=True)
class Row:
    """
    One measurement.

    Attributes:
        seen: The number, in words where it needs a unit.
        met: Whether the target is met; None where there is none.
    """

    what: str
    against: str
    target: str
    seen: str
    met: bool | None = None


def at_most(what: str, against: str, limit: float, seen: float) -> Row:
    """Make the row of a ratio that is to be small."""
    return Row(what, against, f"at most {limit:g}", f"{seen:.2f}", seen <= limit)


def at_least(what: str, against: str, limit: float, seen: float) -> Row:
    """Make the row of a ratio that is to be large."""
    return Row(what, against, f"at least {limit:g}", f"{seen:.2f}", seen >= limit)


def add_option(parser: argparse.ArgumentParser) -> None:
    """Let `run.py` say where rows are noted."""
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)


def note(rows: list[Row], path: Path | None) -> None:
    """Add rows to the file; no file, nothing is noted."""
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(asdict(row))}\n" for row in rows)


def read(path: Path) -> list[Row]:
    """Read what was noted."""
    return [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def to_markdown(rows: list[Row]) -> str:
    """Write the rows as docs/benchmarks.md has them."""
    words = {True: "yes", False: "**no**", None: ""}
    lines = [[row.what, row.against, row.target, row.seen, words[row.met]] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [list(HEADINGS), ["---"] * len(HEADINGS), *lines])
