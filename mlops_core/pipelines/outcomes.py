"""
The results of an execution's steps: saved as they come, and completed by what the tracking server knows of each.

A step has succeeded when its outputs are there. Its metrics, and whether it may be reused, are asked for behind the
backs of the steps that read its outputs: nobody waits for a server that is slow.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from threading import Lock

from mlops_core.pipelines.plan import PipelinePlan
from mlops_core.pipelines.results import Progress, StepResult, length, write_step_results
from mlops_core.pipelines.reuse import ReuseCache
from mlops_core.pipelines.step_run import RunContext, finish_run

_SHOWN_METRICS = 6


class Outcomes:
    """
    What became of each step so far.

    Args:
        folder: Where `steps.json` is written.
        cache: Where steps that may be reused are kept; None keeps none.
    """

    def __init__(self, plan: PipelinePlan, folder: Path, cache: ReuseCache | None, progress: Progress) -> None:
        self.results: dict[str, StepResult] = {}
        self._plan = plan
        self._folder = folder
        self._cache = cache
        self._progress = progress
        self._saving = Lock()
        self._completing: list[Future[None]] = []

    def take(self, context: RunContext, result: StepResult) -> None:
        """Save and tell a result; one that succeeded is completed later."""
        fresh = result.state == "succeeded"
        if fresh and context.tracking is None:
            self._tell(result)
            self._complete(context, result)
            return
        # Whether it may be reused is not known yet: should the job be killed now, its resume runs the step again.
        self._save(replace(result, reusable=False) if fresh else result)
        self._tell(result)
        if fresh:
            self._completing.append(context.background.submit(self._complete, context, result))

    def wait(self) -> None:
        """Wait until every result is complete."""
        for completing in self._completing:
            completing.result()

    def not_run(self, name: str, reason: str = "") -> None:
        """Note a step that never started."""
        self.results[name] = StepResult(name, "not_run", reason=reason)

    def _complete(self, context: RunContext, result: StepResult) -> None:
        result = finish_run(context, result)
        if self._cache and result.reusable and self._plan.step(result.name).deterministic:
            self._cache.keep(result)
        self._save(result)
        if result.metrics:
            shown = [f"{name} {value:.5g}" for name, value in list(result.metrics.items())[:_SHOWN_METRICS]]
            self._progress.tell("metric", f"{result.name}: {', '.join(shown)}")

    def _save(self, result: StepResult) -> None:
        with self._saving:
            self.results[result.name] = result
            write_step_results(self._folder, self.results)

    def _tell(self, result: StepResult) -> None:
        if result.state == "reused":
            self._progress.tell("stage", f"{result.name}: reused, nothing changed")
            return
        mark = "✓" if result.succeeded else "✗"
        self._progress.tell("stage", f"{mark} {result.name}  {length(result.seconds)}")
        if not result.succeeded:
            self._progress.tell("stage", result.reason)
