"""`headrace down`: end what outlives the controller on this machine: it, its jobs, its deployments and MLflow."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import NoReturn

import psutil

from mlops_core.cli.context import out, settings, told_errors
from mlops_core.cli.up import DataOption
from mlops_core.domain.errors import TemporaryError
from mlops_core.settings import process_environment

_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.1


def down(*, data: DataOption = None) -> None:
    """Stop the controller of a data folder, its jobs, its models and MLflow. Records stay; 'up' goes on from them."""
    with told_errors():
        folder = (data or settings().data_folder).expanduser().absolute()
        stop_controller(folder)
        stop_processes(folder)
        out.print(f"stopped. What is on record stays in '{folder}'.")


def stop_controller(folder: Path) -> None:
    """
    Stop the controller of a data folder; one that is not up is left alone.

    Raises: TemporaryError: It does not stop.
    """
    try:
        pid = int(json.loads((folder / "up.json").read_text())["pid"])
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError, KeyError):
        return
    deadline = time.monotonic() + _STOP_SECONDS
    while (folder / "up.json").exists() and psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie":
        if time.monotonic() > deadline:
            raise TemporaryError(f"The controller, process {pid}, does not stop. End it: kill -9 {pid}.")
        time.sleep(_POLL_SECONDS)


def stop_processes(folder: Path) -> None:
    """End what was started from a data folder and outlives the controller."""
    from mlops_core.adapters.local.deployer import ProcessDeployer
    from mlops_core.adapters.local.deployment_folders import DeploymentFolders
    from mlops_core.adapters.local.deployment_watcher import DeploymentWatcher
    from mlops_core.adapters.local.job_runner import ProcessJobRunner, RunnerOptions
    from mlops_core.adapters.local.mlflow_server import MlflowServer
    from mlops_core.domain.ids import JobName
    from mlops_core.pipelines.step_process import allowed

    environment = process_environment()
    options = RunnerOptions(folder=folder / "jobs", caches=folder / "caches", inherited=environment)
    jobs = ProcessJobRunner(options)
    for path in sorted(options.folder.iterdir()):
        jobs.cancel(JobName(path.name))
    folders = DeploymentFolders(folder / "deployments")
    deployer = ProcessDeployer(folders)
    for status in deployer.list():
        deployer.delete(status.name)
    watcher = DeploymentWatcher(folders, prepare=_never)
    deadline = time.monotonic() + _STOP_SECONDS
    while folders.ending() and time.monotonic() < deadline:
        watcher.look()
        time.sleep(_POLL_SECONDS)
    MlflowServer(folder / "mlflow", environment=allowed(environment)).stop()


def _never(*_: object) -> NoReturn:
    raise AssertionError("nothing is prepared while everything is being stopped")
