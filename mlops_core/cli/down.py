"""`headrace down`: end what outlives the controller on this machine: it, its jobs, its deployments and MLflow."""

from __future__ import annotations

import json
import time
from collections.abc import Sized
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mlops_core.cli.context import out, settings, told_errors
from mlops_core.cli.up import DataOption
from mlops_core.domain.errors import TemporaryError
from mlops_core.settings import process_environment

if TYPE_CHECKING:
    from mlops_core.domain.ids import JobName

_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.1


def down(*, data: DataOption = None) -> None:
    """Stop the controller of a data folder, its jobs, its models and MLflow. Records stay; 'up' goes on from them."""
    with told_errors():
        folder = (data or settings().data_folder).expanduser().absolute()
        if not folder.is_dir():
            out.print(f"Nothing is up: there is no data folder '{folder}'. Another one: headrace down --data FOLDER.")
            return
        stopped = [*stop_controller(folder), *stop_processes(folder)]
        if stopped:
            out.print(f"stopped: {', '.join(stopped)}. What is on record stays in '{folder}'.")
            if any("job" in what for what in stopped):
                out.print("Runs whose jobs were stopped are cancelled, and say how to go on: headrace runs.")
        else:
            out.print(f"Nothing is up in '{folder}'. Start it: headrace up.")


def stop_controller(folder: Path) -> list[str]:
    """
    Stop the controller of a data folder; one that is not up is left alone.

    Returns: What was stopped, in words.
    Raises: TemporaryError: It does not stop.
    """
    from mlops_core.adapters.local import processes, running

    mark = running.controller_process(folder)
    if mark is None:
        # What a killed one left; its pid may be anybody's by now.
        running.forget(folder)
        return []
    processes.ask_to_end(mark)
    deadline = time.monotonic() + _STOP_SECONDS
    while processes.is_alive(mark):
        if time.monotonic() > deadline:
            raise TemporaryError(f"The controller, process {mark.pid}, does not stop. End it: kill -9 {mark.pid}.")
        time.sleep(_POLL_SECONDS)
    return ["the controller"]


def stop_processes(folder: Path) -> list[str]:
    """End what was started from a data folder and outlives the controller. Returns what was stopped, in words."""
    from mlops_core.adapters.local.deployer import ProcessDeployer
    from mlops_core.adapters.local.deployment_folders import DeploymentFolders
    from mlops_core.adapters.local.deployment_watcher import DeploymentWatcher
    from mlops_core.adapters.local.job_runner import ProcessJobRunner, RunnerOptions
    from mlops_core.adapters.local.mlflow_server import MlflowServer
    from mlops_core.pipelines.step_process import allowed

    environment = process_environment()
    options = RunnerOptions(folder=folder / "jobs", caches=folder / "caches", inherited=environment)
    jobs = ProcessJobRunner(options)
    running = unfinished_jobs(folder)
    for name in running:
        jobs.cancel(name, why=_how_to_go_on(folder, name))
    folders = DeploymentFolders(folder / "deployments")
    deployer = ProcessDeployer(folders)
    serving = deployer.list()
    for status in serving:
        deployer.delete(status.name)
    watcher = DeploymentWatcher(folders, prepare=_never)
    deadline = time.monotonic() + _STOP_SECONDS
    while folders.ending() and time.monotonic() < deadline:
        watcher.look()
        time.sleep(_POLL_SECONDS)
    stopped = [_counted(running, "job"), _counted(serving, "model")]
    if (folder / "mlflow").is_dir():
        mlflow = MlflowServer(folder / "mlflow", environment=allowed(environment))
        stopped.append("MLflow" if mlflow.is_healthy() else "")
        mlflow.stop()
    return [what for what in stopped if what]


def _how_to_go_on(folder: Path, name: JobName) -> str:
    """Say in a job's own end why it was stopped: its run says so when the controller is up again."""
    from mlops_core.jobs.request import REQUEST

    try:
        project = json.loads((folder / "jobs" / name / REQUEST).read_bytes())["project"]
    except (OSError, ValueError, KeyError):
        project = "PROJECT"
    run_id, _, stage = name.rpartition("-")
    resume = f" --resume {run_id}" if stage == "train" else ""
    return f"stopped by 'headrace down'. Go on with it: headrace retrain {project}{resume}"


def unfinished_jobs(folder: Path) -> list[JobName]:
    """Find the jobs of a data folder that have not ended."""
    from mlops_core.domain.ids import JobName
    from mlops_core.jobs.request import STATUS

    jobs = folder / "jobs"
    names = sorted(path.name for path in jobs.iterdir() if not path.name.startswith(".")) if jobs.is_dir() else []
    return [JobName(name) for name in names if not (jobs / name / STATUS).exists()]


def _counted(things: Sized, noun: str) -> str:
    number = len(things)
    return f"{number} {noun}{'s' if number > 1 else ''}" if number else ""


def _never(*_: object) -> NoReturn:
    raise AssertionError("nothing is prepared while everything is being stopped")
