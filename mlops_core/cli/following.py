"""
Follow a run to its end: its states, what its jobs tell, and what its steps print, as it comes.

The controller gives a job's log whole, the steps' one after another, so each look prints what every step has printed
since the look before. Looks get rarer as they get dearer, as for a long log on Azure.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlops_core.cli.api import AbsentError, Api
from mlops_core.cli.context import out
from mlops_core.domain.errors import RefusedError

Line = Mapping[str, Any]

_LOOK_SECONDS = 0.5
# So many times as long as a look at the log took is waited before the next one.
_REST = 5
_SECTION = re.compile(r"^--- (?:step (?P<step>.+)|(?P<job>.+): user_logs/.+)$")
_UP_TO_TRAINING = ("received", "building", "training")
_STYLES = {"state": "bold", "log": "dim", "took": "dim", "output": "dim"}


@dataclass
class Printed:
    """
    What of the steps' logs was printed already.

    Attributes:
        lines: How many lines of each step.
    """

    lines: dict[str, int] = field(default_factory=dict)

    def news(self, log: str, *, ended: bool) -> Iterator[tuple[str, str]]:
        """Give step and text of each line that is new; the last one only when it is whole, or nothing follows it."""
        for step, text in _sections(log):
            lines = text.split("\n")
            whole = lines if ended and lines[-1] else lines[:-1]
            known = self.lines.get(step, 0)
            # A log that got shorter is another try of the step.
            known = 0 if known > len(whole) else known
            for line in whole[known:]:
                yield step, line.rstrip("\r")
            self.lines[step] = len(whole)


@dataclass
class Follower:
    """
    One run that somebody watches.

    Attributes:
        stage: Only what belongs to this stage's job, `build` or `train`; None: all.
        as_json: Print a JSON object per line.
    """

    client: Api
    run_id: str
    stage: str | None = None
    as_json: bool = False
    _printed: Printed = field(default_factory=Printed)
    _next_look_at: float = 0.0
    _log_is_long: bool = False

    def follow(self) -> dict[str, Any]:
        """Print until the run ends or waits for a person. Returns the last look at it."""
        after = ""
        while True:
            view = self.client.get(f"/runs/{self.run_id}/progress", after=after)
            over = bool(view["ended"]) or view["state"] == "awaiting_approval"
            before, after_it = _around_output(view["lines"])
            self._print_all(before)
            self._print_output(view, over=over)
            self._print_all(after_it)
            if over:
                return view
            if view["next"] == after:
                time.sleep(_LOOK_SECONDS)
            after = view["next"]

    def _print_all(self, lines: Sequence[Line]) -> None:
        for line in lines:
            self._print(line)

    def _print_output(self, view: Line, *, over: bool) -> None:
        trained = over or any(line["kind"] == "took" and line["state"] == "training" for line in view["lines"])
        if self.stage == "build" or self._log_is_long or not (trained or view["state"] == "training"):
            return
        started = time.monotonic()
        if started < self._next_look_at and not trained:
            return
        try:
            log, left_out = self.client.log(self.run_id, "train")
        except AbsentError:
            return
        self._next_look_at = time.monotonic() + _REST * (time.monotonic() - started)
        if left_out:
            self._log_is_long = True
            text = f"the steps printed too much to be followed; its end: headrace logs {self.run_id}"
            self._print({"kind": "log", "state": "training", "text": text})
            return
        for step, text in self._printed.news(log, ended=trained):
            self._print({"kind": "output", "state": "training", "step": step, "text": text})

    def _print(self, line: Line) -> None:
        if self.stage is not None and line["state"] != self.stage and line["kind"] != "output":
            return
        if self.as_json:
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
            return
        indent = "" if line["kind"] == "state" else "  "
        step = f"{line['step']} │ " if line["kind"] == "output" else ""
        out.print(f"{indent}{step}{line['text']}", style=_STYLES.get(line["kind"], ""), markup=False)


def follow_to_the_end(client: Api, run_id: str, *, stage: str | None = None, as_json: bool = False) -> None:
    """Follow a run; one that ends badly ends the command with its reason and exit code 1."""
    view = Follower(client, run_id, stage=stage, as_json=as_json).follow()
    if view["ended"] and not view["ok"]:
        raise RefusedError(f"run {run_id} ended {view['state']}: {_why(view)}")
    if view["state"] == "awaiting_approval" and not as_json:
        out.print(f"waits for a person: headrace approve {run_id}  (or: headrace reject {run_id})")


def _around_output(lines: Sequence[Line]) -> tuple[Sequence[Line], Sequence[Line]]:
    """Part what comes before the steps' words from what is said of a step's end, or after the training."""
    for number, line in enumerate(lines):
        of_end = line["state"] == "train" and line["text"].startswith(("✓", "✗"))
        later = line["kind"] == "state" and line["state"] not in _UP_TO_TRAINING
        if of_end or later or (line["kind"] == "took" and line["state"] == "training"):
            return lines[:number], lines[number:]
    return lines, []


def _why(view: Line) -> str:
    """Say why; of gates only how many, since each has its line already."""
    if view["state"] != "rejected" or not view["gates"]:
        return str(view["reason"])
    verdicts = view["gates"][-1]["verdicts"]
    failed = sum(1 for verdict in verdicts if verdict["outcome"] == "failed")
    if not failed:
        return str(view["reason"])
    return (
        f"{failed} of {len(verdicts)} gates failed. Release it all the same: headrace approve {view['run_id']} --waive."
    )


def _sections(log: str) -> Iterator[tuple[str, str]]:
    """Cut a job's log into what each step printed; its own lines, before the first step, are told as progress."""
    step, start, place = "", 0, 0
    for line in log.splitlines(keepends=True):
        found = _SECTION.match(line.rstrip("\n"))
        if found:
            if step:
                yield step, log[start:place].removesuffix("\n")
            step, start = found["step"] or found["job"], place + len(line)
        place += len(line)
    if step:
        yield step, log[start:]
