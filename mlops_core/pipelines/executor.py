"""
Execute a plan: steps without mutual dependency side by side, each as soon as what it reads is there.

Called by the training job and by `headrace pipeline run`. It keeps no state but its folder: killed at any point, a
later execution of the same plan takes over what was finished (`resume_from`, the reuse cache).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import BoundedSemaphore, Timer

from mlops_core.domain.errors import HeadraceError
from mlops_core.pipelines.data_assets import DataAssets
from mlops_core.pipelines.environments import Environment, EnvironmentMaker
from mlops_core.pipelines.log_tail import what_matters
from mlops_core.pipelines.outcomes import Outcomes
from mlops_core.pipelines.plan import PipelinePlan, Step
from mlops_core.pipelines.preparation import check_sweeps, environment_key, make_environments
from mlops_core.pipelines.results import (
    Kind,
    PipelineResult,
    Progress,
    StepResult,
    counted,
    length,
    read_step_results,
    write_status,
)
from mlops_core.pipelines.reuse import ReuseCache, key_of
from mlops_core.pipelines.step_files import folder_name
from mlops_core.pipelines.step_process import StepProcesses, allowed
from mlops_core.pipelines.step_run import (
    RunContext,
    StepRunner,
    code_digest,
    finish_run,
    register_outputs,
    resolve_inputs,
)
from mlops_core.pipelines.sweep_run import SweepRunner, first_log, seed_of
from mlops_core.pipelines.tracking import Tracking

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Execution:
    """
    How a plan is executed.

    Attributes:
        folder: The job's folder; made where it is missing.
        job_name: What the lineage of registered models leads to.
        inherited: The environment variables of this process; steps get an allow-list of them.
        resume_from: Folder of an earlier execution whose finished steps are taken over.
        cache: Folder of the reuse cache; None reuses nothing.
        assets: Folder of the data that steps register by name; None keeps none.
        reuse: Whether steps are taken over from it; what ran is kept in it anyway.
    """

    folder: Path
    project_root: Path
    job_name: str
    environments: EnvironmentMaker
    inherited: Mapping[str, str]
    tracking: Tracking | None = None
    cores: int = 2
    timeout_seconds: float | None = None
    resume_from: Path | None = None
    cache: Path | None = None
    assets: Path | None = None
    reuse: bool = True
    processes: StepProcesses = field(default_factory=StepProcesses)


def run_pipeline(
    plan: PipelinePlan, execution: Execution, listener: Callable[[Kind, str], None] = lambda _kind, _text: None
) -> PipelineResult:
    """
    Execute a plan to its end.

    Args:
        listener: Is told each line of progress.
    Returns: How it ended. What fails inside of it is a result, not an exception.
    """
    execution.folder.mkdir(parents=True, exist_ok=True)
    progress = Progress(execution.folder / "progress.jsonl", listener)
    started = time.monotonic()
    try:
        result = _Executor(plan, execution, progress).run()
    except HeadraceError as error:
        execution.processes.halt()
        result = PipelineResult("failed", str(error), {}, time.monotonic() - started)
    except BaseException:
        progress.close()
        raise
    write_status(execution.folder, result)
    progress.tell("stage", f"pipeline {result.outcome} in {length(result.seconds)}")
    progress.close()
    return result


class _Executor:
    def __init__(self, plan: PipelinePlan, execution: Execution, progress: Progress) -> None:
        self._plan = plan
        self._execution = execution
        self._progress = progress
        self._cache = ReuseCache(execution.cache) if execution.cache else None
        self._earlier = read_step_results(execution.resume_from) if execution.resume_from else {}
        self._environments: dict[str, Environment] = {}
        self._outcomes = Outcomes(plan, execution.folder, self._cache, progress)
        self._results = self._outcomes.results
        self._timed_out = False

    def run(self) -> PipelineResult:
        started = time.monotonic()
        with ThreadPoolExecutor(4, "tracking") as background, ThreadPoolExecutor(32, "step") as pool:
            context = self._context(background)
            timer = self._start_timer()
            try:
                result = self._run(context, pool, started)
            except BaseException:
                self._execution.processes.halt()
                raise
            finally:
                if timer:
                    timer.cancel()
            self._end_parent(context, result)
        return result

    def _run(self, context: RunContext, pool: ThreadPoolExecutor, started: float) -> PipelineResult:
        try:
            check_sweeps(self._plan, self._execution.tracking)
            self._environments = make_environments(self._plan, self._execution.environments, self._progress)
        except HeadraceError as error:
            for step in self._plan.steps:
                self._outcomes.not_run(step.name)
            halted = self._execution.processes.halted.is_set()
            return self._result(time.monotonic() - started, failure=None if halted else str(error))
        self._run_steps(context, pool)
        return self._result(time.monotonic() - started)

    def _context(self, background: ThreadPoolExecutor) -> RunContext:
        execution, tracking = self._execution, self._execution.tracking
        parent = ""
        if tracking is not None:
            parent = tracking.start_run(execution.job_name, {"headrace.job": execution.job_name, **self._plan.tags})
        return RunContext(
            plan=self._plan,
            project_root=execution.project_root,
            folder=execution.folder,
            job_name=execution.job_name,
            base_environment=allowed(execution.inherited),
            processes=execution.processes,
            slots=BoundedSemaphore(execution.cores),
            cores=execution.cores,
            background=background,
            progress=self._progress,
            tracking=tracking,
            assets=DataAssets(execution.assets) if execution.assets else None,
            parent_run=parent,
        )

    def _start_timer(self) -> Timer | None:
        if self._execution.timeout_seconds is None:
            return None
        timer = Timer(self._execution.timeout_seconds, self._time_out)
        timer.daemon = True
        timer.start()
        return timer

    def _time_out(self) -> None:
        self._timed_out = True
        self._execution.processes.halt()

    def _run_steps(self, context: RunContext, pool: ThreadPoolExecutor) -> None:
        waiting = {step.name: step for step in self._plan.steps}
        running: dict[Future[StepResult], str] = {}
        while waiting or running:
            if not self._execution.processes.halted.is_set():
                for step in self._ready(waiting):
                    del waiting[step.name]
                    running[pool.submit(self._run_step, context, step)] = step.name
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future]
                self._take(context, future.result(), waiting)
        self._outcomes.wait()
        for name in waiting:
            self._outcomes.not_run(name)

    def _ready(self, waiting: Mapping[str, Step]) -> list[Step]:
        return [step for step in waiting.values() if all(self._has_succeeded(name) for name in step.depends_on)]

    def _has_succeeded(self, name: str) -> bool:
        result = self._results.get(name)
        return result is not None and result.succeeded

    def _take(self, context: RunContext, result: StepResult, waiting: dict[str, Step]) -> None:
        self._outcomes.take(context, result)
        if not result.succeeded:
            if not self._plan.continue_on_step_failure:
                self._execution.processes.halt()
            for name in self._dependants(result.name, waiting):
                del waiting[name]
                self._outcomes.not_run(name, f"step '{result.name}' did not succeed")

    def _dependants(self, name: str, waiting: Mapping[str, Step]) -> list[str]:
        lost = {name}
        for step in waiting.values():
            if lost & set(step.depends_on):
                lost.add(step.name)
        return [step for step in waiting if step in lost]

    def _run_step(self, context: RunContext, step: Step) -> StepResult:
        try:
            return self._run_or_reuse(context, step)
        except HeadraceError as error:
            return StepResult(step.name, "failed", reason=f"step '{step.name}': {error}", reusable=False)

    def _run_or_reuse(self, context: RunContext, step: Step) -> StepResult:
        environment = self._environments[environment_key(step.environment)]
        inputs = resolve_inputs(context, step, self._results)
        key = key_of(
            step,
            environment=environment.digest,
            code=code_digest(context, step),
            inputs=inputs.digests,
            tracked=context.tracking is not None,
        )
        earlier = self._reusable(step, key)
        if earlier is not None:
            result = replace(earlier, name=step.name, state="reused", seconds=0.0, run_id="")
            register_outputs(context, step, result)
            return result
        for note in step.notes:
            self._progress.tell("log", f"{step.name}: {note}")
        started_at = time.time()
        run_id = self._start_run(context, step)
        runner = StepRunner(context, step, environment, inputs)
        if step.sweep is not None:  # noqa: SIM108 - two ways of running read better apart
            result = SweepRunner(runner, step.sweep, seed_of(key)).run(run_id)
        else:
            result = runner.run(run_id)
        result = replace(result, key=key, started_at=started_at)
        if not result.succeeded:
            return finish_run(context, result)
        register_outputs(context, step, result)
        return result

    def _reusable(self, step: Step, key: str) -> StepResult | None:
        finished = self._earlier.get(step.name)
        if finished is not None and finished.succeeded and finished.key == key and finished.reusable:
            return finished if all(Path(path).exists() for path in finished.outputs.values()) else None
        if self._cache is None or not self._execution.reuse or self._plan.force_rerun or not step.deterministic:
            return None
        return self._cache.find(key)

    def _start_run(self, context: RunContext, step: Step) -> str:
        if context.tracking is None:
            return ""
        tags = {
            "mlflow.parentRunId": context.parent_run,
            "headrace.job": context.job_name,
            "headrace.step": step.name,
        }
        return context.tracking.start_run(step.name, {**step.tags, **tags})

    def _result(self, seconds: float, *, failure: str | None = None) -> PipelineResult:
        if failure is not None:
            return PipelineResult("failed", failure, self._results, seconds)
        failed = [result for result in self._results.values() if result.state == "failed"]
        if self._timed_out:
            reason = f"the pipeline ran into its timeout of {length(self._execution.timeout_seconds or 0)}"
            return PipelineResult("failed", reason, self._results, seconds)
        if failed:
            return PipelineResult("failed", failed[0].reason, self._results, seconds, self._log_tail(failed[0].name))
        if self._execution.processes.halted.is_set():
            return PipelineResult("cancelled", "the pipeline was cancelled", self._results, seconds)
        reused = sum(1 for result in self._results.values() if result.state == "reused")
        said = counted(len(self._results), "step") + (f", {reused} reused" if reused else "")
        return PipelineResult("succeeded", said, self._results, seconds)

    def _log_tail(self, step: str) -> str:
        folder = self._execution.folder / "steps" / folder_name(step)
        path = folder / "log.txt"
        found = path if path.exists() else first_log(folder)
        return what_matters(found) if found else ""

    def _end_parent(self, context: RunContext, result: PipelineResult) -> None:
        if context.tracking is None:
            return
        status = {"succeeded": "FINISHED", "cancelled": "KILLED"}.get(result.outcome, "FAILED")
        context.later(context.tracking.end_run, context.parent_run, status)
        for call in context.calls:
            error = call.exception()
            if error is not None:
                self._progress.tell("log", f"the tracking server did not take something: {error}")
