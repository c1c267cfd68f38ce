"""
The local backend, composed over its data folder: SQLite, detached jobs, an MLflow server, watched scoring processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_core.application import Application, Limits, assemble
from mlops_core.services.reconcile import ReconcilePolicy
from mlops_core.settings import Settings
from mlops_core.world import World

if TYPE_CHECKING:
    from mlops_core.adapters.local.deployment_watcher import DeploymentWatcher, Prepare
    from mlops_core.adapters.local.effect_queue import SqliteEffectQueue
    from mlops_core.adapters.local.event_bus import SqliteEventBus
    from mlops_core.adapters.local.mlflow_server import MlflowServer
    from mlops_core.adapters.local.registry_watcher import RegistryWatcher
    from mlops_core.adapters.local.scoring_launch import Launch
    from mlops_core.ports import DeploymentRequest

# Two minutes, which a busy machine may need for its start.
_REGISTRY_LOOKS, _REGISTRY_SECONDS = 480, 0.25


@dataclass(frozen=True, kw_only=True)
class LocalParts:
    """The local backend, with what its host runs beside the functions."""

    application: Application
    queue: SqliteEffectQueue
    bus: SqliteEventBus
    mlflow: MlflowServer
    registry_watcher: RegistryWatcher
    deployment_watcher: DeploymentWatcher


def build_local(settings: Settings, inherited: Mapping[str, str]) -> LocalParts:
    """
    Compose the local backend over its data folder.

    Args:
        inherited: The environment that jobs, MLflow and deployments get an allow-list of.
    """
    from mlops_core.adapters.clock import SystemClock
    from mlops_core.adapters.hosts import build_verifiers
    from mlops_core.adapters.local.checkouts import ServingEnvironments, checkout
    from mlops_core.adapters.local.database import Database
    from mlops_core.adapters.local.dead_letters import SqliteDeadLetters
    from mlops_core.adapters.local.deployer import ProcessDeployer
    from mlops_core.adapters.local.deployment_folders import DeploymentFolders
    from mlops_core.adapters.local.deployment_watcher import DeploymentWatcher
    from mlops_core.adapters.local.effect_queue import SqliteEffectQueue
    from mlops_core.adapters.local.event_bus import SqliteEventBus
    from mlops_core.adapters.local.job_runner import ProcessJobRunner, RunnerOptions
    from mlops_core.adapters.local.mlflow_server import MlflowServer
    from mlops_core.adapters.local.model_files import ModelFiles
    from mlops_core.adapters.local.model_registry import MlflowModelRegistry
    from mlops_core.adapters.local.model_store import SqliteModelStore
    from mlops_core.adapters.local.processes import cores
    from mlops_core.adapters.local.project_store import SqliteProjectStore
    from mlops_core.adapters.local.registry_watcher import RegistryWatcher
    from mlops_core.adapters.local.repositories import webhook_secret
    from mlops_core.adapters.local.run_store import SqliteRunStore
    from mlops_core.adapters.local.scoring_launch import ScoringLaunch, environments_in
    from mlops_core.adapters.local.secret_files import TOPIC_KEY
    from mlops_core.adapters.local.source_host import LocalSourceHost
    from mlops_core.adapters.local.topics import SUBSCRIPTIONS, TOPICS, DeploymentNews
    from mlops_core.adapters.mlflow_api import MlflowApi
    from mlops_core.pipelines.step_process import allowed

    data = settings.data_folder
    caches = data / "caches"
    database = Database(data / "headrace.db")
    letters = SqliteDeadLetters(database)
    queue = SqliteEffectQueue(data / "queue.db", letters)
    bus = SqliteEventBus(data / "topics.db", SUBSCRIPTIONS, letters, topics=TOPICS)
    mlflow = MlflowServer(data / "mlflow", environment=allowed(inherited))
    api = MlflowApi(lambda: mlflow.address)
    folders = DeploymentFolders(data / "deployments")
    launch = ScoringLaunch(
        data=data,
        files=ModelFiles(data / "models", api),
        environment=inherited,
        make_environment=environments_in(caches / "environments", inherited),
        checkout=checkout,
        resolve_environment=ServingEnvironments(caches / "sources").resolve,
    )
    prepare = once_answered(mlflow.is_healthy, launch.prepare)
    watcher = DeploymentWatcher(folders, prepare=prepare, on_change=DeploymentNews(bus, folders).tell)
    jobs = ProcessJobRunner(
        RunnerOptions(
            folder=data / "jobs",
            caches=caches,
            inherited=inherited,
            tracking_uri=lambda: mlflow.address,
            events_url=lambda: f"{host_address(data) or settings.base_url}/topics/azureml/api/events",
            events_key=data / TOPIC_KEY,
            cores=cores(),
            at_once=settings.jobs_at_once or max(1, cores() // 2),
        )
    )
    world = World(
        runs=SqliteRunStore(database),
        models=SqliteModelStore(database),
        projects=SqliteProjectStore(database),
        dead_letters=letters,
        queue=queue,
        bus=bus,
        jobs=jobs,
        registry=MlflowModelRegistry(api),
        deployer=ProcessDeployer(folders, wake=watcher.wake),
        sources={"local": LocalSourceHost(data / "statuses")},
        clock=SystemClock(),
    )
    verifiers = build_verifiers({**settings.secrets_of_hosts(), "local": (webhook_secret(data),)})
    made = assemble(
        world,
        verifiers=verifiers,
        policy=ReconcilePolicy(resend_after=timedelta(seconds=settings.resend_after_seconds)),
        limits=Limits(webhook_bytes=settings.webhook_max_bytes, score_bytes=settings.score_max_bytes),
    )
    registry_watcher = RegistryWatcher(
        api, cursor=data / "registry-cursor.json", publish=lambda events: bus.accept("azureml", events)
    )
    return LocalParts(
        application=made,
        queue=queue,
        bus=bus,
        mlflow=mlflow,
        registry_watcher=registry_watcher,
        deployment_watcher=watcher,
    )


def once_answered(
    answers: Callable[[], bool], prepare: Prepare, *, pause: Callable[[float], None] = time.sleep
) -> Prepare:
    """
    Prepare a model once the registry answers.

    Where everything was stopped, the models in service are made ready again before the registry is up; three failures
    in a row would leave them out of service until the next reconciling.
    """

    def prepare_then(request: DeploymentRequest, folder: Path) -> Launch:
        for _ in range(_REGISTRY_LOOKS):
            if answers():
                break
            pause(_REGISTRY_SECONDS)
        return prepare(request, folder)

    return prepare_then


def host_address(data: Path) -> str | None:
    """Find where the host of a data folder is, as it noted itself; None where none is up."""
    from mlops_core.adapters.local.running import address_of_controller

    return address_of_controller(data)
