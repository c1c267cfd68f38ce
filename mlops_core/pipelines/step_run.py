"""
Run one step: prepare its folder, fill in its command, run it (or its trials), and say how it ended.

Each execution has a folder `steps/<step>/` with the code's copy, the outputs and the log. The step's MLflow run is made
beforehand, so that `mlflow.start_run()` in its code continues it, as on Azure ML.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import BoundedSemaphore, Event

from mlops_core.domain.errors import HeadraceError
from mlops_core.pipelines.commands import fill_in
from mlops_core.pipelines.data_assets import DataAssets
from mlops_core.pipelines.environments import Environment
from mlops_core.pipelines.plan import LiteralSource, PathSource, PipelinePlan, Step, StepOutput, StepOutputSource
from mlops_core.pipelines.results import Progress, StepResult, StepState
from mlops_core.pipelines.step_files import copy_code, digest_of_code, digest_of_path, folder_name
from mlops_core.pipelines.step_process import Ended, StepProcesses
from mlops_core.pipelines.tracking import Tracking

_KINDS_OF_MODEL = ("mlflow_model", "custom_model", "triton_model")


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """
    What all steps of an execution share.

    Attributes:
        base_environment: Allowed environment variables.
        slots: One per core; every process holds one.
        background: For calls to the tracking server that nothing waits for.
        assets: Where outputs with a name are kept that are data; None keeps none.
    """

    plan: PipelinePlan
    project_root: Path
    folder: Path
    job_name: str
    base_environment: Mapping[str, str]
    processes: StepProcesses
    slots: BoundedSemaphore
    cores: int
    background: ThreadPoolExecutor
    progress: Progress
    tracking: Tracking | None
    assets: DataAssets | None = None
    parent_run: str = ""
    calls: list[Future[object]] = field(default_factory=list)

    def later(self, call: Callable[..., object], *arguments: object) -> None:
        """Call the tracking server without waiting; failures are found when the pipeline ends."""
        self.calls.append(self.background.submit(call, *arguments))


@dataclass(frozen=True)
class Inputs:
    """The inputs of one step: texts for the command, those of them that are paths, and digests for reuse."""

    texts: dict[str, str | None]
    digests: dict[str, str]
    paths: frozenset[str] = frozenset()


def resolve_inputs(context: RunContext, step: Step, done: Mapping[str, StepResult]) -> Inputs:
    """Trace each input of a step to its value or path."""
    texts: dict[str, str | None] = {}
    digests: dict[str, str] = {}
    paths: set[str] = set()
    for name, declared in step.inputs.items():
        source = context.plan.source_of(declared)
        match source:
            case None:
                texts[name], digests[name] = None, "not given"
            case LiteralSource():
                texts[name], digests[name] = source.text, f"literal:{source.text}"
            case PathSource():
                path = source.absolute(context.project_root)
                texts[name], digests[name] = str(path), digest_of_path(path)
                paths.add(str(path))
            case StepOutputSource():
                path = Path(done[source.step].outputs[source.output])
                texts[name], digests[name] = str(path), digest_of_path(path)
                paths.add(str(path))
    return Inputs(texts, digests, frozenset(paths))


def code_digest(context: RunContext, step: Step) -> str:
    """Hash a step's code."""
    return digest_of_code(context.project_root / step.code) if step.code else "no code"


@dataclass(frozen=True)
class Attempt:
    """One process of a step: the step itself, or one trial of its sweep."""

    folder: Path
    run_id: str
    outputs: dict[str, str]
    ended: Ended

    @property
    def log(self) -> Path:
        """Where its output is."""
        return self.folder / "log.txt"


class StepRunner:
    """Runs the processes of one step."""

    def __init__(self, context: RunContext, step: Step, environment: Environment, inputs: Inputs) -> None:
        self.context = context
        self.step = step
        self._environment = environment
        self._inputs = inputs

    def run(self, run_id: str) -> StepResult:
        """Run a command step to its end."""
        started = time.monotonic()
        attempt = self.attempt(self.context.folder / "steps" / folder_name(self.step.name), run_id, {})
        return self.result(attempt, time.monotonic() - started)

    def attempt(
        self,
        folder: Path,
        run_id: str,
        parameters: Mapping[str, str],
        *,
        stop: Event | None = None,
        timeout_seconds: float | None = None,
    ) -> Attempt:
        """Run one process with its own copy of the code, and wait for it."""
        step, context = self.step, self.context
        work = folder / "code"
        if step.code:
            copy_code(context.project_root / step.code, work)
        (work / "outputs").mkdir(parents=True, exist_ok=True)
        outputs = self._make_outputs(folder, work)
        command = fill_in(
            step.command,
            inputs=self._inputs.texts,
            outputs=outputs,
            search_space=parameters,
            paths={*self._inputs.paths, *outputs.values()},
        )
        with context.slots:
            ended = context.processes.run(
                command,
                folder=work,
                environment=self._variables(run_id, outputs, parameters),
                log=folder / "log.txt",
                timeout_seconds=timeout_seconds or step.timeout_seconds,
                stop=stop,
            )
        return Attempt(folder, run_id, outputs, ended)

    def result(self, attempt: Attempt, seconds: float) -> StepResult:
        """Say how the step ended, by its process."""
        if attempt.ended.succeeded:
            return StepResult(self.step.name, "succeeded", attempt.outputs, seconds=seconds, run_id=attempt.run_id)
        state: StepState = "cancelled" if attempt.ended.cause == "stopped" else "failed"
        reason = f"step '{self.step.name}': {attempt.ended.sentence}"
        return StepResult(self.step.name, state, reason=reason, seconds=seconds, run_id=attempt.run_id, reusable=False)

    def _make_outputs(self, folder: Path, work: Path) -> dict[str, str]:
        outputs = {}
        for name, output in self.step.outputs.items():
            if output.holds_artifacts:
                # The folder that has ./outputs as a subfolder is the step's working folder.
                place = folder / "artifacts"
                place.mkdir(parents=True, exist_ok=True)
                if not (place / "outputs").exists():
                    (place / "outputs").symlink_to(work / "outputs", target_is_directory=True)
            else:
                place = folder / "outputs" / name
                (place.parent if output.type == "uri_file" else place).mkdir(parents=True, exist_ok=True)
                if output.type == "uri_file":
                    place = place.parent / (output.file_name or name)
            outputs[name] = str(place)
        return outputs

    def _variables(self, run_id: str, outputs: Mapping[str, str], parameters: Mapping[str, str]) -> dict[str, str]:
        context, step = self.context, self.step
        base = context.base_environment
        variables = {
            **base,
            "PATH": f"{self._environment.bin_folder}:{base.get('PATH', '/usr/bin:/bin')}",
            "VIRTUAL_ENV": str(Path(self._environment.bin_folder).parent),
            "PYTHONUNBUFFERED": "1",
            "AZUREML_RUN_ID": run_id or context.job_name,
            "AZUREML_ROOT_RUN_ID": context.job_name,
            "AZUREML_EXPERIMENT_NAME": context.plan.experiment,
            "AZUREML_CR_NODE_COUNT": "1",
        }
        if context.tracking is not None:
            variables["MLFLOW_TRACKING_URI"] = context.tracking.uri
            variables["MLFLOW_EXPERIMENT_NAME"] = context.plan.experiment
            variables["MLFLOW_RUN_ID"] = run_id
            # MLflow takes up that run once. Another that the code begins afterwards, as after a fit under autolog, is
            # a run below it then, and a model from there still leads to the job.
            tags = {"mlflow.parentRunId": run_id, "headrace.job": context.job_name, "headrace.step": step.name}
            variables["MLFLOW_RUN_CONTEXT"] = json.dumps(tags)
        for name, text in self._inputs.texts.items():
            if text is not None:
                variables[f"AZURE_ML_INPUT_{name}"] = text
        for name, path in outputs.items():
            variables[f"AZURE_ML_OUTPUT_{name}"] = path
        if step.distribution is not None:
            variables |= {
                "RANK": "0", "LOCAL_RANK": "0", "NODE_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": "0",
            }  # fmt: skip
        for name, text in step.environment_variables.items():
            variables[name] = fill_in(text, inputs=self._inputs.texts, outputs=outputs, search_space=parameters)
        return variables


def finish_run(context: RunContext, result: StepResult) -> StepResult:
    """Close a step's MLflow run, register named outputs, and read its metrics."""
    if context.tracking is None or not result.run_id:
        return result
    status = {"succeeded": "FINISHED", "cancelled": "KILLED"}.get(result.state, "FAILED")
    context.later(context.tracking.end_run, result.run_id, status)
    if result.state != "succeeded":
        return result
    try:
        metrics = context.tracking.metrics(result.run_id)
        reusable = result.reusable and not context.tracking.has_registered(result.started_at)
    except HeadraceError as error:
        context.progress.tell("log", f"{result.name}: metrics could not be read: {error}")
        return replace(result, reusable=False)
    return replace(result, metrics=metrics, reusable=reusable)


def _run_of_reused(context: RunContext, tracking: Tracking, result: StepResult) -> str:
    """Make a run for a step that was not run again: a model that it registers is judged by the metrics of its own run."""
    tags = {"mlflow.parentRunId": context.parent_run, "headrace.job": context.job_name, "headrace.step": result.name}
    run_id = tracking.start_run(result.name, {**tags, "headrace.reused": "true"})
    tracking.add_metrics(run_id, result.metrics)
    tracking.end_run(run_id, "FINISHED")
    return run_id


def register_outputs(context: RunContext, step: Step, result: StepResult) -> None:
    """
    Register the outputs that have a name: models in the registry with the step's run as their origin, data as assets.

    Raises:
        TemporaryError: The registry does not answer.
        BadInputError: There is nothing to register, or the version is taken.
    """
    for name, output in step.outputs.items():
        asset = output.registered_name
        if asset is None:
            continue
        version = _register(context, output, asset, result, Path(result.outputs[name]))
        said = (
            f"registered {asset} version {version}"
            if version
            else f"'{asset}' was not registered: there is no registry"
        )
        context.progress.tell("log", f"{step.name}: {said}")


def _register(context: RunContext, output: StepOutput, asset: str, result: StepResult, content: Path) -> str | None:
    if output.type not in _KINDS_OF_MODEL:
        if context.assets is None:
            return None
        return context.assets.register(asset, output.type, content, version=output.registered_version)
    if context.tracking is None:
        return None
    tags = {"headrace.job": context.job_name, "headrace.type": output.type}
    run_id = result.run_id or _run_of_reused(context, context.tracking, result)
    return context.tracking.register(run_id, asset, content, tags)
