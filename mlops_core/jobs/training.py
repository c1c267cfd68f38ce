"""The training job: fetch the commit (or find it fetched), and run its pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from mlops_core.jobs.outcome import JobFailedError
from mlops_core.jobs.request import JobOrder
from mlops_core.jobs.source import fetch_commit
from mlops_core.pipelines.results import Kind
from mlops_core.pipelines.runner import PipelineRun
from mlops_core.pipelines.step_process import StepProcesses


def train(
    order: JobOrder,
    folder: Path,
    *,
    inherited: Mapping[str, str],
    processes: StepProcesses,
    tell: Callable[[Kind, str], None],
) -> str:
    """
    Run the pipeline of a commit.

    Returns: A sentence about what was done.
    Raises: HeadraceError: With the reason; `JobFailedError` has the lines of the log that matter.
    """
    fetch_commit(order.repository, order.commit, order.source_folder)
    run = pipeline_run(order, folder, inherited=inherited, processes=processes)
    result = run.execute(run.plan(), tell)
    if result.outcome != "succeeded":
        raise JobFailedError(result.reason, log_tail=result.log_tail, cancelled=result.outcome == "cancelled")
    return result.reason


def pipeline_run(
    order: JobOrder, folder: Path, *, inherited: Mapping[str, str], processes: StepProcesses
) -> PipelineRun:
    """Say how the project's pipeline is run."""
    spec, root = order.spec, order.project_root
    return PipelineRun(
        file=root / spec.train.pipeline,
        project_root=root,
        folder=folder / "pipeline",
        caches=Path(order.caches),
        assets=order.assets_folder,
        job_name=order.name,
        inherited=inherited,
        tracking_uri=order.tracking_uri,
        inputs=spec.train.inputs,
        data=spec.local.data,
        environments=spec.local.environments,
        without=spec.local.without,
        python=spec.local.python,
        cores=order.cores,
        resume_from=Path(order.resume_from) / "pipeline" if order.resume_from else None,
        reuse=order.reuse,
        processes=processes,
    )
