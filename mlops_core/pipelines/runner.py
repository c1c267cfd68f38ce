"""
Plan a pipeline file and execute it: what a training job and `headrace pipeline run FILE` have in common.

The environment of the process comes in as a parameter; this package reads none by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mlops_core.pipelines.data_assets import DataAssets
from mlops_core.pipelines.environments import EnvironmentMaker
from mlops_core.pipelines.executor import Execution, run_pipeline
from mlops_core.pipelines.loader import LoadRequest
from mlops_core.pipelines.plan import PipelinePlan, Scalar
from mlops_core.pipelines.plan_cache import PlanCache
from mlops_core.pipelines.results import Kind, PipelineResult
from mlops_core.pipelines.step_process import StepProcesses
from mlops_core.pipelines.tracking import MlflowTracking


@dataclass(frozen=True, kw_only=True)
class PipelineRun:
    """
    A pipeline file and how it is run.

    Attributes:
        caches: Folder of plans, environments and reusable steps, shared by all runs.
        assets: Folder of the data that steps register by name, and that pipelines find as they find declared assets.
        tracking_uri: Address of an MLflow server; None runs without one.
        reuse: Whether unchanged steps are taken over from earlier runs; those that run are kept for later ones anyway.
    """

    file: Path
    project_root: Path
    folder: Path
    caches: Path
    job_name: str
    inherited: Mapping[str, str]
    assets: Path | None = None
    tracking_uri: str | None = None
    inputs: Mapping[str, Scalar] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    environments: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    python: Literal["exact", "nearest"] = "nearest"
    cores: int = 2
    timeout_seconds: float | None = None
    resume_from: Path | None = None
    reuse: bool = True
    processes: StepProcesses = field(default_factory=StepProcesses)

    @property
    def request(self) -> LoadRequest:
        """What the planner is asked."""
        return LoadRequest(
            yaml_path=self.file,
            project_root=self.project_root,
            inputs=self.inputs,
            bindings=self.data,
            environments=self.environments,
            declared=DataAssets(self.assets).declared() if self.assets else (),
        )

    @property
    def maker(self) -> EnvironmentMaker:
        """What makes the environments of its steps."""
        return EnvironmentMaker(
            folder=self.caches / "environments",
            inherited=self.inherited,
            python=self.python,
            without=self.without,
            halted=self.processes.halted,
        )

    def plan(self) -> PipelinePlan:
        """
        Plan the file, from the cache where nothing changed.

        Raises: PipelineInvalidError, PipelineNotLocalError.
        """
        return PlanCache(self.caches / "plans").load(self.request)

    def execute(self, plan: PipelinePlan, listener: Callable[[Kind, str], None]) -> PipelineResult:
        """Execute a plan to its end."""
        tracking = MlflowTracking(self.tracking_uri, plan.experiment) if self.tracking_uri else None
        if tracking is not None:
            tracking.wait_until_ready()
        execution = Execution(
            folder=self.folder,
            project_root=self.project_root,
            job_name=self.job_name,
            environments=self.maker,
            inherited=self.inherited,
            tracking=tracking,
            cores=self.cores,
            timeout_seconds=self.timeout_seconds,
            resume_from=self.resume_from,
            cache=self.caches / "steps",
            assets=self.assets,
            reuse=self.reuse,
            processes=self.processes,
        )
        try:
            return run_pipeline(plan, execution, listener)
        finally:
            if tracking is not None:
                tracking.close()
