"""
What a deployment is on Azure: one container group per model version, and what is asked for in it.

The deployer puts it, once; a second PUT would restart the group in place. The group's name follows from the deployment's,
so that whoever asks for the same deployment asks for the same group. Tags lead back, and say whose the group is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from mlops_core.domain.ids import DeploymentName, short_digest
from mlops_core.ports import DeploymentRequest

if TYPE_CHECKING:
    from azure.mgmt.containerinstance import models

OWNER_TAG = "headrace"
DEPLOYMENT_TAG = "headrace.deployment"
ASKED_TAG = "headrace.asked-at"
CONTAINER = "scoring"
PORT = 5001
MODEL_FOLDER = "/var/headrace/model"
CODE_FOLDER = "/var/headrace/code"

# A container group's name may be shorter and begin with a digit; its DNS label may not, and both are the same here.
# Source: "Naming rules and restrictions for Azure resources", and the DNS label's own message in the service.
_LEGAL = re.compile(r"[a-z][a-z0-9-]{3,61}[a-z0-9]")
# Values of tags end here; run ids and names of ours are shorter, repository names might not be.
_TAG_LETTERS = 256
_SERVE = ("python", "-m", "mlops_core.serving")

DnsScope = Literal["TenantReuse", "SubscriptionReuse", "ResourceGroupReuse", "Noreuse"]


@dataclass(frozen=True, kw_only=True)
class ContainerOptions:
    """
    Where container groups are made, and as whom they run.

    Attributes:
        owner: Value of the tag that tells this Headrace's groups from others in the same resource group.
        identity: Resource id of the user-assigned identity that pulls images and reads models.
        identity_client: Its client id, by which the container asks for its tokens.
        registry: Login server of the registry, such as `name.azurecr.io`; None for public images.
        subnet: Resource id of a delegated subnet: the groups then have private addresses only.
        dns_scope: Who may take a label over once its group is gone. `Unsecure` is not offered.
        log_workspace: Id of a Log Analytics workspace that gets the containers' output; None for none.
        log_key: Its key. It is sent, never told.
        environment: Further secure environment variables of the scoring app.
        start_seconds: A deployment that is not ready after so long has failed: images of gigabytes take minutes to pull.
        client: Further arguments of the management client, such as another cloud's address.
    """

    subscription: str
    resource_group: str
    location: str
    identity: str
    identity_client: str
    registry: str | None = None
    owner: str = "headrace"
    subnet: str | None = None
    dns_scope: DnsScope = "TenantReuse"
    log_workspace: str | None = None
    log_key: str | None = field(default=None, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    start_seconds: float = 1800.0
    client: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ServedFiles:
    """
    What a container fetches at its start.

    Attributes:
        manifest: Address of the list of files, each with its SHA-256.
        manifest_digest: SHA-256 of that list, in hex.
        model_digest: Digest of the model's folder, as `mlops_core/serving/digest.py` has it.
        model_folder: What the model's folder is called where it was registered.
    """

    manifest: str
    manifest_digest: str
    model_digest: str
    model_folder: str = ""


def group_of(name: DeploymentName) -> str:
    """Name the container group of a deployment: its own name where that is a legal DNS label, else one made from it."""
    if _LEGAL.fullmatch(name):
        return name
    return f"m-{name[:45].strip('-')}-{short_digest(name)}"


def tags_of(request: DeploymentRequest, options: ContainerOptions, digest: str, now: datetime) -> dict[str, str]:
    """Say whose a group is, what it serves, and since when."""
    tags = {
        OWNER_TAG: options.owner,
        ASKED_TAG: now.isoformat(timespec="seconds"),
        DEPLOYMENT_TAG: request.name,
        "headrace.model": request.model,
        "headrace.version": request.version,
        "headrace.project": request.project.name,
        "headrace.digest": digest,
    }
    if request.commit is not None:
        tags["headrace.commit"] = request.commit
    return {name: value[:_TAG_LETTERS] for name, value in tags.items()}


def describe(
    request: DeploymentRequest, options: ContainerOptions, image: str, files: ServedFiles, now: datetime
) -> models.ContainerGroup:
    """Describe the group to the client of Container Instances."""
    from azure.mgmt.containerinstance import models

    return models.ContainerGroup(
        location=options.location,
        tags=tags_of(request, options, files.model_digest, now),
        identity=models.ContainerGroupIdentity(
            type="UserAssigned", user_assigned_identities={options.identity: models.UserAssignedIdentities()}
        ),
        containers=[_container(request, options, image, files)],
        image_registry_credentials=_registry(options),
        os_type="Linux",
        restart_policy="Always",
        ip_address=_address(request, options),
        subnet_ids=[models.ContainerGroupSubnetId(id=options.subnet)] if options.subnet else None,
        diagnostics=_diagnostics(options),
    )


def _container(
    request: DeploymentRequest, options: ContainerOptions, image: str, files: ServedFiles
) -> models.Container:
    from azure.mgmt.containerinstance import models

    wanted = models.ResourceRequests(cpu=request.serve.cpu, memory_in_gb=request.serve.memory_gb)
    return models.Container(
        name=CONTAINER,
        image=image,
        command=list(_SERVE),
        ports=[models.ContainerPort(port=PORT, protocol="TCP")],
        resources=models.ResourceRequirements(requests=wanted),
        environment_variables=[
            *(models.EnvironmentVariable(name=key, value=value) for key, value in _told(request, files).items()),
            *(
                models.EnvironmentVariable(name=key, secure_value=value)
                for key, value in _secure(options, files).items()
            ),
        ],
        # The app answers /health/live while it fetches and loads, so a slow start is no reason to restart it.
        liveness_probe=_probe("/health/live", period=10, failures=6),
        readiness_probe=_probe("/health/ready", period=5, failures=3),
    )


def _told(request: DeploymentRequest, files: ServedFiles) -> dict[str, str]:
    """Tell the scoring app what to serve; the names are those of its options."""
    told = {
        "MODEL": MODEL_FOLDER,
        "NAME": request.model,
        "VERSION": request.version,
        "DIGEST": files.model_digest,
        "MANIFEST_DIGEST": files.manifest_digest,
        "HOST": "0.0.0.0",  # noqa: S104 - the group's own network, where only the published port is reached
        "PORT": str(PORT),
    }
    if request.serve.code is not None:
        told["CODE"] = f"{CODE_FOLDER}/{request.serve.code}"
        told["MODEL_FOLDER"] = files.model_folder
    return {f"HEADRACE_SERVING_{name}": value for name, value in told.items()}


def _secure(options: ContainerOptions, files: ServedFiles) -> dict[str, str]:
    """Give what nobody who may read the group needs to see."""
    own = {"HEADRACE_SERVING_MANIFEST": files.manifest, "HEADRACE_SERVING_IDENTITY": options.identity_client}
    return {**options.environment, **own}


def _probe(path: str, *, period: int, failures: int) -> models.ContainerProbe:
    from azure.mgmt.containerinstance import models

    return models.ContainerProbe(
        http_get=models.ContainerHttpGet(path=path, port=PORT, scheme="http"),
        initial_delay_seconds=5,
        period_seconds=period,
        failure_threshold=failures,
        success_threshold=1,
        timeout_seconds=5,
    )


def _address(request: DeploymentRequest, options: ContainerOptions) -> models.IpAddress:
    from azure.mgmt.containerinstance import models

    ports = [models.Port(port=PORT, protocol="TCP")]
    if options.subnet:
        return models.IpAddress(ports=ports, type="Private")
    return models.IpAddress(
        ports=ports,
        type="Public",
        dns_name_label=group_of(request.name),
        auto_generated_domain_name_label_scope=options.dns_scope,
    )


def _registry(options: ContainerOptions) -> list[models.ImageRegistryCredential] | None:
    from azure.mgmt.containerinstance import models

    if options.registry is None:
        return None
    return [models.ImageRegistryCredential(server=options.registry, identity=options.identity)]


def _diagnostics(options: ContainerOptions) -> models.ContainerGroupDiagnostics | None:
    from azure.mgmt.containerinstance import models

    if options.log_workspace is None or options.log_key is None:
        return None
    target = models.LogAnalytics(
        workspace_id=options.log_workspace, workspace_key=options.log_key, log_type="ContainerInstanceLogs"
    )
    return models.ContainerGroupDiagnostics(log_analytics=target)
