"""
The Azure backend: tables and queue of a storage account, Event Grid, an Azure ML workspace, container groups.

Composing it imports no SDK and asks nothing of Azure: each adapter makes its client at its first call, so that a webhook
pays for tables and Event Grid and for nothing else.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlops_core.application import Application, Limits, assemble
from mlops_core.domain.errors import PermanentError
from mlops_core.ports import NoTelemetry, Telemetry
from mlops_core.services.reconcile import ReconcilePolicy
from mlops_core.settings import Settings
from mlops_core.world import World

if TYPE_CHECKING:
    import httpx
    from azure.core.credentials import AzureKeyCredential, TokenCredential
    from azure.storage.blob import ContainerClient

    from mlops_core.adapters.azure.container_group import ServedFiles
    from mlops_core.adapters.azure.served_files import ServedFilesStore
    from mlops_core.adapters.azure.tables import StorageAccount
    from mlops_core.adapters.azure.workspace import Workspace
    from mlops_core.ports import DeploymentRequest

# What containers fetch: manifests and code. The serving identity may read this container of the controller's account.
SERVED_CONTAINER = "scoring"


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """
    How to reach another cloud than the public one; tests name their doubles here.

    Attributes:
        credential: In the place of the process' own.
        workspace, management: Further arguments of `MLClient` and of the management clients.
        http: Asks scoring apps, and reads logs and sources.
        storage_hosts: What the hosts of storage accounts end with.
        plain_http: Lets repository hosts be reached by http on loopback.
    """

    credential: TokenCredential | None = None
    workspace: Mapping[str, Any] = field(default_factory=dict)
    management: Mapping[str, Any] = field(default_factory=dict)
    topic: Mapping[str, Any] = field(default_factory=dict)
    http: httpx.Client | None = None
    storage_hosts: tuple[str, ...] = (".blob.core.windows.net",)
    plain_http: bool = False


def build_azure(settings: Settings, elsewhere: Elsewhere | None = None) -> Application:
    """Compose the Azure backend. Raises PermanentError: Repository hosts are not set up as they must be."""
    from mlops_core.adapters.azure.credential import LazyCredential
    from mlops_core.adapters.azure.dead_letters import TableDeadLetters
    from mlops_core.adapters.azure.effect_queue import StorageEffectQueue
    from mlops_core.adapters.azure.event_bus import EventGridBus
    from mlops_core.adapters.azure.insights import write_fields
    from mlops_core.adapters.azure.job_runner import AzureMlJobRunner
    from mlops_core.adapters.azure.model_registry import AzureMlModelRegistry
    from mlops_core.adapters.azure.model_store import TableModelStore
    from mlops_core.adapters.azure.project_store import TableProjectStore
    from mlops_core.adapters.azure.run_store import TableRunStore
    from mlops_core.adapters.azure.source import CommitFiles
    from mlops_core.adapters.azure.tables import Tables
    from mlops_core.adapters.azure.workspace import Workspace, WorkspaceOptions
    from mlops_core.adapters.clock import SystemClock
    from mlops_core.adapters.hosts import build_sources, build_verifiers, fetch_commits

    other = elsewhere or Elsewhere()
    credential: TokenCredential = other.credential or LazyCredential(settings.client_id)
    clock = SystemClock()
    account = storage_account(settings, credential)
    tables = Tables(account)
    workspace = Workspace(
        WorkspaceOptions(
            subscription=settings.subscription or "",
            resource_group=settings.workspace_resource_group or settings.resource_group or "",
            workspace=settings.workspace or "",
            compute=settings.compute,
            client=other.workspace,
        ),
        credential,
    )
    registry = AzureMlModelRegistry(workspace)
    sources = build_sources(
        host_options(settings),
        run_address=lambda run_id: f"{settings.base_url}/api/runs/{run_id}",
        plain_http=other.plain_http,
    )
    commits = CommitFiles(fetch_commits(sources))
    world = World(
        runs=TableRunStore(tables),
        models=TableModelStore(tables),
        projects=TableProjectStore(tables),
        dead_letters=TableDeadLetters(tables),
        queue=StorageEffectQueue(account),
        bus=EventGridBus(settings.topic_endpoint or "", _topic_credential(settings, credential), other.topic),
        jobs=AzureMlJobRunner(workspace, commits, clock, http=other.http),
        registry=registry,
        deployer=_deployer(settings, other, credential, workspace, registry, commits, clock),
        sources=dict(sources),
        clock=clock,
        telemetry=_telemetry(settings, credential),
    )
    write_fields(logging.getLogger())
    # It logs whole addresses, and those of logs and uploads carry their own right.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return assemble(
        world,
        verifiers=build_verifiers(settings.secrets_of_hosts()),
        policy=ReconcilePolicy(resend_after=timedelta(seconds=settings.resend_after_seconds)),
        limits=Limits(webhook_bytes=settings.webhook_max_bytes, score_bytes=settings.score_max_bytes),
    )


def _telemetry(settings: Settings, credential: TokenCredential) -> Telemetry:
    connection = settings.insights
    if connection is None:
        return NoTelemetry()
    from mlops_core.adapters.azure.insights import insights_exporter
    from mlops_core.adapters.traces import RunTraces

    return RunTraces(lambda: insights_exporter(connection.get_secret_value(), credential))


def storage_account(settings: Settings, credential: TokenCredential) -> StorageAccount:
    """Say where the controller's own records are."""
    from mlops_core.adapters.azure.tables import StorageAccount

    connection = settings.storage.get_secret_value() if settings.storage else None
    return StorageAccount(connection_string=connection, account=settings.storage_account, credential=credential)


def host_options(settings: Settings) -> dict[str, Any]:
    """Say what the operator gave for each repository host."""
    from mlops_core.adapters.hosts.options import HostOptions

    return {
        host: HostOptions(
            token=given.token.get_secret_value(),
            user=given.user,
            app_id=given.app_id,
            app_private_key=given.app_private_key.get_secret_value(),
            base_url=given.base_url,
            archive_hosts=given.archive_hosts,
        )
        for host, given in settings.hosts.items()
    }


def _owner(settings: Settings) -> str:
    """Name this Headrace by its address: two in one resource group must not tidy up each other's container groups."""
    return f"headrace-{urlsplit(settings.base_url).hostname or 'here'}"[:200]


def _topic_credential(settings: Settings, credential: TokenCredential) -> TokenCredential | AzureKeyCredential:
    if settings.topic_key is None:
        return credential
    from azure.core.credentials import AzureKeyCredential

    return AzureKeyCredential(settings.topic_key.get_secret_value())


def _deployer(
    settings: Settings,
    other: Elsewhere,
    credential: TokenCredential,
    workspace: Workspace,
    registry: Any,
    commits: Any,
    clock: Any,
) -> Any:
    from mlops_core.adapters.azure.container_group import ContainerOptions
    from mlops_core.adapters.azure.deployer import ContainerDeployer
    from mlops_core.adapters.azure.scoring_image import ImageOptions, ScoringImages

    subscription, group = settings.subscription or "", settings.resource_group or ""
    images = ScoringImages(
        ImageOptions(
            subscription=subscription, resource_group=group, registry=settings.registry or "", client=other.management
        ),
        credential,
        clock,
        http=other.http,
    )
    files = _LazyFiles(settings, other, credential, workspace, registry, commits)
    options = ContainerOptions(
        subscription=subscription,
        resource_group=group,
        location=settings.location or "",
        identity=settings.serving_identity or "",
        identity_client=settings.serving_client_id or "",
        registry=f"{settings.registry}.azurecr.io",
        owner=_owner(settings),
        subnet=settings.serving_subnet or None,
        log_workspace=settings.log_analytics_id,
        log_key=settings.log_analytics_key.get_secret_value() if settings.log_analytics_key else None,
        client=other.management,
    )

    def files_of(request: DeploymentRequest) -> ServedFiles:
        return files.store.files_of(request)

    return ContainerDeployer(
        options,
        credential,
        image_of=lambda request: images.ensure(files.store.environment_of(request)),
        files_of=files_of,
        clock=clock,
        http=other.http,
    )


@dataclass(frozen=True)
class _LazyFiles:
    """What containers fetch, opened at the first deployment: blob storage's SDK is not needed before."""

    settings: Settings
    other: Elsewhere
    credential: TokenCredential
    workspace: Workspace
    registry: Any
    commits: Any

    @functools.cached_property
    def store(self) -> ServedFilesStore:
        from mlops_core.adapters.azure.served_files import ServedFilesStore

        return ServedFilesStore(
            self.registry,
            self._own(),
            open_container=self._open,
            find_datastore=self.workspace.find_datastore,
            commits=self.commits,
            storage_hosts=self.other.storage_hosts,
        )

    def _own(self) -> ContainerClient:
        from azure.storage.blob import ContainerClient

        from mlops_core.adapters.azure.failures import BLOB_RETRIES, azure_calls

        account = storage_account(self.settings, self.credential)
        with azure_calls(f"opening container '{SERVED_CONTAINER}'"):
            if account.connection_string is not None:
                own = ContainerClient.from_connection_string(
                    account.connection_string, SERVED_CONTAINER, **BLOB_RETRIES
                )
                if not own.exists():
                    own.create_container()
                return own
            address = account.endpoint("blob")
            return ContainerClient(address, SERVED_CONTAINER, credential=self.credential, **BLOB_RETRIES)

    def _open(self, account: str, container: str) -> ContainerClient:
        from azure.storage.blob import ContainerClient

        from mlops_core.adapters.azure.failures import BLOB_RETRIES

        if not account.startswith("https://"):
            raise PermanentError(f"Storage account '{account}' is not reached over https.")
        return ContainerClient(account, container, credential=self.credential, **BLOB_RETRIES)
