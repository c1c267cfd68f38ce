"""
Run a sweep step: trials side by side within the cores, early termination by the metric they log, the best one wins.

The best trial's outputs become the step's outputs, its metrics and parameters those of the step's run. What a trial was
drawn is the tag `hyperparameters` of its run while it runs, and becomes parameters afterwards: a parameter that is there
beforehand would make the trial's own `mlflow.log_param` fail wherever it writes the value otherwise.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Event, Lock, Thread

from mlops_core.domain.errors import HeadraceError
from mlops_core.pipelines.bayesian import draw_next
from mlops_core.pipelines.plan import Step
from mlops_core.pipelines.results import StepResult, length
from mlops_core.pipelines.search_space import Sweep
from mlops_core.pipelines.step_files import folder_name
from mlops_core.pipelines.step_run import Attempt, StepRunner
from mlops_core.pipelines.stopping import should_stop
from mlops_core.pipelines.trials import Drawn, draw_trials

_WATCH_SECONDS = 1.0


@dataclass
class _Trial:
    number: int
    drawn: Drawn
    stop: Event
    run_id: str = ""
    metric: float | None = None
    attempt: Attempt | None = None
    error: str = ""

    @property
    def measured(self) -> float | None:
        return None if self.metric is None or math.isnan(self.metric) else self.metric

    @property
    def parameters(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.drawn.items()}

    @property
    def label(self) -> str:
        shown = {name: f"{value:.5g}" if isinstance(value, float) else value for name, value in self.drawn.items()}
        return ", ".join(f"{name} {value}" for name, value in shown.items())


class SweepRunner:
    """
    Runs the trials of one sweep step.

    Args:
        seed: What the trials are drawn by where the sweep names no seed of its own.
    """

    def __init__(self, runner: StepRunner, sweep: Sweep, seed: int) -> None:
        self._runner = runner
        self._context = runner.context
        self._step: Step = runner.step
        self._sweep = sweep
        self._seed = sweep.seed if sweep.seed is not None else seed
        self._lock = Lock()
        self._running: dict[str, _Trial] = {}
        self._histories: dict[str, list[float]] = {}
        self._timed_out = False
        self._trials: list[_Trial] = []
        self._random = Random(self._seed)  # noqa: S311 - reproducible, not secret

    def run(self, run_id: str) -> StepResult:
        """Run the trials and give the step's result."""
        started = time.monotonic()
        tell = self._context.progress.tell
        for note in self._notes():
            tell("log", f"{self._step.name}: {note}")
        trials = self._trials = [_Trial(number, drawn, Event()) for number, drawn in enumerate(self._draw(), 1)]
        limits = self._sweep.limits
        side_by_side = min(self._context.cores, limits.max_concurrent_trials or self._context.cores)
        tell("log", f"{self._step.name}: {len(trials)} trials, {side_by_side} side by side, seed {self._seed}")
        over = Event()
        watcher = Thread(target=self._watch, args=(over, started), daemon=True)
        watcher.start()
        try:
            with ThreadPoolExecutor(side_by_side) as pool:
                list(pool.map(lambda trial: self._run_trial(trial, run_id, len(trials), over), trials))
        finally:
            over.set()
        return self._best(trials, run_id, time.monotonic() - started)

    def _draw(self) -> list[Drawn]:
        if self._sweep.algorithm == "bayesian":
            # Each is drawn when its turn comes, by what is known until then.
            return [{} for _ in range(self._sweep.limits.max_total_trials)]
        return list(draw_trials(self._sweep, self._seed))

    def _choose(self, trial: _Trial) -> bool:
        """Draw a trial's parameters where that was left until now; returns whether there are any."""
        if self._sweep.algorithm == "bayesian":
            sign = 1.0 if self._sweep.objective.goal == "maximize" else -1.0
            with self._lock:
                drawn = [each.drawn for each in self._trials if each.drawn]
                ended = [(each.drawn, each.measured) for each in self._trials]
                scores = [(parameters, sign * metric) for parameters, metric in ended if metric is not None]
                trial.drawn = draw_next(self._sweep, self._random, drawn, scores) or {}
        return bool(trial.drawn)

    def _notes(self) -> list[str]:
        return ["sampling by the rule 'sobol' is drawn at random here"] if self._sweep.rule == "sobol" else []

    def _run_trial(self, trial: _Trial, parent: str, total: int, over: Event) -> None:
        if self._context.processes.halted.is_set() or over.is_set() or not self._choose(trial):
            return
        try:
            self._attempt(trial, f"{self._step.name}/trial-{trial.number}", parent)
            self._finish(trial, total)
        except (HeadraceError, OSError) as error:
            # One trial that could not be started or measured is one trial lost, not the sweep.
            trial.error = str(error)
            self._context.progress.tell("metric", f"trial {trial.number}/{total} ({trial.label}): {error}")

    def _attempt(self, trial: _Trial, name: str, parent: str) -> None:
        tracking = self._context.tracking
        if tracking is not None:
            drawn = json.dumps(trial.drawn)
            tags = {"mlflow.parentRunId": parent, "headrace.job": self._context.job_name, "headrace.step": name}
            trial.run_id = tracking.start_run(name, {**tags, "hyperparameters": drawn})
        with self._lock:
            self._running[name] = trial
        folder = self._context.folder / "steps" / folder_name(self._step.name) / f"trial-{trial.number}"
        try:
            trial.attempt = self._runner.attempt(
                folder,
                trial.run_id,
                trial.parameters,
                stop=trial.stop,
                timeout_seconds=self._sweep.limits.trial_timeout_seconds,
            )
        finally:
            with self._lock:
                self._running.pop(name, None)
        if self._sweep.early_termination is not None and tracking is not None:
            # Whole, for those that go on: it may have ended between two looks.
            metric = self._sweep.objective.primary_metric
            self._histories[name] = tracking.metric_history(trial.run_id, metric)

    def _finish(self, trial: _Trial, total: int) -> None:
        attempt, tracking = trial.attempt, self._context.tracking
        metric = self._sweep.objective.primary_metric
        if attempt is None:
            return
        if tracking is not None:
            status = (
                "FINISHED" if attempt.ended.succeeded else "KILLED" if attempt.ended.cause == "stopped" else "FAILED"
            )
            self._context.later(tracking.end_run, trial.run_id, status)
            self._context.later(tracking.add_params, trial.run_id, trial.parameters)
            trial.metric = tracking.metrics(trial.run_id).get(metric)
        early = attempt.ended.cause == "stopped" and trial.stop.is_set()
        late = early and self._timed_out
        said = "stopped early" if early else attempt.ended.sentence if not attempt.ended.succeeded else "done"
        said = "stopped at the sweep's timeout" if late else said
        value = f"{metric} {trial.metric:.5g}" if trial.metric is not None else f"no metric '{metric}'"
        self._context.progress.tell("metric", f"trial {trial.number}/{total} ({trial.label}): {value}, {said}")

    def _watch(self, over: Event, started: float) -> None:
        """Stop trials that are not worth going on with, and all of them when the sweep's time is up."""
        policy, limits = self._sweep.early_termination, self._sweep.limits
        while not over.wait(_WATCH_SECONDS):
            with self._lock:
                running = dict(self._running)
            if limits.timeout_seconds is not None and time.monotonic() - started > limits.timeout_seconds:
                self._timed_out = True
                over.set()
                for trial in running.values():
                    trial.stop.set()
                return
            if policy is not None:
                self._judge(running)

    def _judge(self, running: Mapping[str, _Trial]) -> None:
        policy, tracking = self._sweep.early_termination, self._context.tracking
        if policy is None or tracking is None:
            return
        objective = self._sweep.objective
        for name, trial in running.items():
            try:
                self._histories[name] = tracking.metric_history(trial.run_id, objective.primary_metric)
            except HeadraceError:
                # Judged the next time; a trial is never stopped for a server that did not answer.
                continue
        seen = dict(self._histories)
        finished = seen.keys() - running.keys()
        for name, trial in running.items():
            maximize = objective.goal == "maximize"
            if should_stop(policy, name, seen, maximize=maximize, finished=finished):
                trial.stop.set()

    def _best(self, trials: list[_Trial], run_id: str, seconds: float) -> StepResult:
        name, objective = self._step.name, self._sweep.objective
        if self._context.processes.halted.is_set():
            return StepResult(name, "cancelled", reason=f"step '{name}' was stopped", run_id=run_id, reusable=False)
        finished = [trial for trial in trials if trial.attempt and trial.attempt.ended.succeeded]
        measured = [trial for trial in finished if trial.measured is not None]
        if not measured:
            reason = self._nothing_measured(trials, finished)
            return StepResult(name, "failed", reason=reason, seconds=seconds, run_id=run_id, reusable=False)
        sign = 1.0 if objective.goal == "maximize" else -1.0
        best = max(measured, key=lambda trial: (sign * (trial.metric or 0.0), -trial.number))
        if best.attempt is None or best.metric is None:
            raise AssertionError("a measured trial has an attempt and a metric")
        said = (
            f", when its timeout of {length(self._sweep.limits.timeout_seconds or 0)} ended it"
            if self._timed_out
            else ""
        )
        self._context.progress.tell(
            "metric",
            f"best of {len(measured)} trials: {best.label}, {objective.primary_metric} {best.metric:.5g}, "
            f"in {length(seconds)}{said}",
        )
        self._hand_over(best, run_id)
        return StepResult(
            name,
            "succeeded",
            best.attempt.outputs,
            seconds=seconds,
            run_id=run_id,
            metrics={objective.primary_metric: best.metric},
            # A sweep that was cut short is no answer to the question of a later one.
            reusable=not self._timed_out,
        )

    def _hand_over(self, best: _Trial, run_id: str) -> None:
        """Write the best trial's numbers to the sweep's own run."""
        tracking = self._context.tracking
        if tracking is None:
            return
        self._context.later(tracking.add_params, run_id, best.parameters)
        try:
            tracking.add_metrics(run_id, tracking.metrics(best.run_id))
        except HeadraceError as error:
            self._context.progress.tell("log", f"{self._step.name}: the best trial was not recorded: {error}")

    def _nothing_measured(self, trials: list[_Trial], finished: list[_Trial]) -> str:
        metric = self._sweep.objective.primary_metric
        if finished:
            return (
                f"step '{self._step.name}': none of {len(finished)} trials logged the metric '{metric}' that "
                f"'objective' names. Log it: mlflow.log_metric('{metric}', value)."
            )
        if self._timed_out:
            limit = length(self._sweep.limits.timeout_seconds or 0)
            return f"step '{self._step.name}': no trial ended within the sweep's timeout of {limit}"
        said = (trial.error or (trial.attempt.ended.sentence if trial.attempt else "") for trial in trials)
        first = next((text for text in said if text), "none was started")
        return f"step '{self._step.name}': all {len(trials)} trials failed; the first: {first}"


def seed_of(key: str) -> int:
    """Make a seed from a step's key, so that the same sweep draws the same trials again."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")


def first_log(folder: Path) -> Path | None:
    """Find the log of the first trial, to show why all failed."""
    return next(iter(sorted(folder.glob("trial-*/log.txt"))), None)
