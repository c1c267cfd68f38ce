"""What an execution leaves: results of steps and of the pipeline, written to its folder, and lines of progress."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

StepState = Literal["succeeded", "reused", "failed", "cancelled", "not_run"]
Kind = Literal["log", "stage", "metric"]


@dataclass(frozen=True)
class StepResult:
    """
    How a step ended.

    Attributes:
        outputs: Absolute path of each output.
        key: Digest of all that it was made from; equal keys give equal outputs.
        started_at: Seconds since 1970.
    """

    name: str
    state: StepState
    outputs: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    started_at: float = 0.0
    seconds: float = 0.0
    key: str = ""
    run_id: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    reusable: bool = True

    @property
    def succeeded(self) -> bool:
        """Tell whether its outputs are there."""
        return self.state in ("succeeded", "reused")


@dataclass(frozen=True)
class PipelineResult:
    """How a pipeline ended."""

    outcome: Literal["succeeded", "failed", "cancelled"]
    reason: str
    steps: dict[str, StepResult]
    seconds: float
    log_tail: str = ""


class Progress:
    """
    Lines of progress, appended to a file that others follow.

    Args:
        listener: Is told each line too.
    """

    def __init__(self, path: Path | None, listener: Callable[[Kind, str], None] = lambda _kind, _text: None) -> None:
        self._file = path.open("a", encoding="utf-8") if path else None
        self._listener = listener
        self._lock = threading.Lock()
        self._sequence = 0

    def tell(self, kind: Kind, text: str) -> None:
        """Write a line."""
        with self._lock:
            self._sequence += 1
            line = {"sequence": self._sequence, "at": datetime.now(UTC).isoformat(), "kind": kind, "text": text}
            if self._file:
                self._file.write(json.dumps(line) + "\n")
                self._file.flush()
            self._listener(kind, text)

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


def write_status(folder: Path, result: PipelineResult) -> None:
    """Write a pipeline's result to its folder, whole or not at all."""
    _write(folder / "status.json", {**asdict(result), "ended_at": time.time()})


def read_step_results(folder: Path) -> dict[str, StepResult]:
    """Read the results of steps from an earlier execution's folder; none where it left none."""
    try:
        steps = json.loads((folder / "steps.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: StepResult(**values) for name, values in steps.items()}


def write_step_results(folder: Path, steps: dict[str, StepResult]) -> None:
    """Write the results so far: after a crash, a resume goes on from here."""
    _write(folder / "steps.json", {name: asdict(result) for name, result in steps.items()})


def _write(path: Path, content: dict[str, Any]) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=1)
    Path(temporary).replace(path)


def counted(number: int, noun: str) -> str:
    """Say how many of something there are."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def length(seconds: float) -> str:
    """Say how long something took."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60} s"  # noqa: PLR2004
