"""
What is new about a run since the last look: for whoever watches a push, line by line as it happens.

The asker sends back the position that the last answer gave, so that nothing is kept here between two looks but what a
deployment said last: that is asked of the deployer, on Azure over the network, and watchers look several times a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from mlops_core.domain import events as ev
from mlops_core.domain.gates import Outcome, Verdict
from mlops_core.domain.guards import deployed, requested
from mlops_core.domain.ids import ModelVersion, deployment_of_version, short_digest
from mlops_core.domain.run import Run, State
from mlops_core.world import World

Line = dict[str, Any]

_MARKS = {Outcome.PASSED: "✓", Outcome.FAILED: "✗", Outcome.WAIVED: "~", Outcome.PENDING: "…"}
_SHOWN_METRICS = 8
_MINUTE = 60
_WORTH_TELLING = 0.05
_ASKED_AGAIN_SECONDS = 1.0


@dataclass(frozen=True)
class Position:
    """
    Where the last look ended: how many states, lines of the jobs and judgements were seen, and what the deployment said.

    Attributes:
        serving: Digest of the sentence, 0 where there was none.
    """

    entries: int = 0
    build: int = 0
    train: int = 0
    judged: int = 0
    serving: str = "0"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read a position; anything else is the beginning."""
        parts = text.split(".")
        if len(parts) != len(fields(cls)) or not all(part.isdecimal() for part in parts[:-1]):
            return cls()
        entries, build, train, judged = (int(part) for part in parts[:-1])
        return cls(entries, build, train, judged, parts[-1])

    def __str__(self) -> str:
        return f"{self.entries}.{self.build}.{self.train}.{self.judged}.{self.serving}"


@dataclass
class RunProgress:
    """
    Tells of a run in lines, each with its time, its kind and the state that it belongs to.

    Attributes:
        monotonic: Seconds of a clock that never jumps.
    """

    world: World
    monotonic: Callable[[], float] = time.monotonic
    _said: dict[str, tuple[float, str]] = field(default_factory=dict)

    def lines(self, run: Run, after: Position) -> tuple[list[Line], Position]:
        """Tell what is new, in the order in which it happened, and where this look ends."""
        judgements = run.facts.all(ev.GatesJudged)
        lines = [*self._states(run, after), *_gates(judgements[after.judged :])]
        seen: dict[ev.JobStage, int] = {"build": after.build, "train": after.train}
        for stage, known in list(seen.items()):
            if run.facts.get(ev.JobSubmitted, stage) is None:
                continue
            for told in self.world.jobs.progress(run.job_name(stage), after=known):
                seen[stage] = told.sequence
                lines.append(_line(told.at, told.kind, stage, told.text))
        lines.sort(key=lambda line: line["at"])
        said = self._serving(run)
        digest = short_digest(said) if said else after.serving
        if digest != after.serving:
            lines.append(_line(self.world.clock.now(), "stage", "deploying", said))
        return lines, Position(len(run.entries), seen["build"], seen["train"], len(judgements), digest)

    def _states(self, run: Run, after: Position) -> list[Line]:
        lines = []
        for number, entry in enumerate(run.entries[after.entries :], after.entries):
            if number:
                before = run.entries[number - 1]
                seconds = (entry.at - before.at).total_seconds()
                if seconds >= _WORTH_TELLING:
                    lines.append(_line(entry.at, "took", before.state, f"{before.state} took {length(seconds)}"))
            lines.append(_line(entry.at, "state", entry.state, f"{entry.state}: {entry.reason}"))
            if entry.state is State.EVALUATING and run.model and run.version:
                text = f"{run.model} version {run.version}: {self._metrics(run, run.version)}"
                lines.append(_line(entry.at, "metric", entry.state, text))
        return lines

    def _metrics(self, run: Run, version: ModelVersion) -> str:
        if run.model is None:
            return ""
        metrics = sorted(self.world.registry.version(run.model, version).metrics.items())
        shown = ", ".join(f"{name} {value:.5g}" for name, value in metrics[:_SHOWN_METRICS])
        more = len(metrics) - _SHOWN_METRICS
        return (f"{shown} and {more} more" if more > 0 else shown) or "it has no metrics"

    def _serving(self, run: Run) -> str:
        """Ask what the deployment does that the run waits for: making its environment can take a minute."""
        waits = run.state is State.DEPLOYING and requested(run) is not None and deployed(run) is None
        if not waits or run.model is None or run.version is None:
            return ""
        name = deployment_of_version(run.model, run.version)
        asked_at, said = self._said.get(name, (0.0, ""))
        if not said or self.monotonic() - asked_at > _ASKED_AGAIN_SECONDS:
            self._said.clear()
            status = self.world.deployer.status(name)
            said = status.reason if status.state == "starting" else ""
            self._said[name] = (self.monotonic(), said)
        return said


def durations(run: Run) -> list[Line]:
    """Tell how long the run was in each state that it left."""
    return [
        {"state": entry.state, "seconds": (following.at - entry.at).total_seconds()}
        for entry, following in zip(run.entries, run.entries[1:], strict=False)
    ]


def say_verdict(verdict: Verdict) -> str:
    """Say a gate's verdict with its numbers in one line."""
    segment = f" [{verdict.segment}]" if verdict.segment else ""
    return f"{_MARKS[verdict.outcome]} {verdict.gate}{segment}: {verdict.reason}"


def length(seconds: float) -> str:
    """Say how long something took."""
    return f"{seconds:.1f} s" if seconds < _MINUTE else f"{int(seconds) // _MINUTE} min {int(seconds) % _MINUTE} s"


def _gates(judgements: list[ev.GatesJudged]) -> list[Line]:
    return [
        _line(judged.at, "gate", State.EVALUATING, say_verdict(verdict))
        for judged in judgements
        for verdict in judged.verdicts
    ]


def _line(at: datetime, kind: str, state: str, text: str) -> Line:
    return {"at": at.isoformat(), "kind": kind, "state": str(state), "text": text}
