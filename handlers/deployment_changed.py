"""A deployment became ready, failed or went away: find the run that waits for it and look."""

from __future__ import annotations

from handlers.inbound import Envelope
from mlops_core.application import Application
from mlops_core.domain.errors import BadInputError
from mlops_core.domain.ids import DeploymentName, ModelName, ModelVersion


def take_deployment_changed(app: Application, envelope: Envelope) -> None:
    """
    Ask for the deployment that the event names.

    Raises: BadInputError: The event does not say which.
    """
    model, version = envelope.data.get("model"), envelope.data.get("version")
    if not isinstance(model, str) or not isinstance(version, str):
        raise BadInputError(
            f"Event '{envelope.id}' does not name a deployment: data.model and data.version are needed."
        )
    app.intake.deployment_told(ModelName(model), ModelVersion(version))


def take_container_group(app: Application, envelope: Envelope) -> None:
    """
    Ask for the deployment of a container group that Azure's resource manager made, changed or deleted.

    The event says neither whether the group answers nor how it fares, so it is only a reason to ask.

    Raises: BadInputError: The event names no resource.
    """
    resource = envelope.data.get("resourceUri") or envelope.subject
    if not isinstance(resource, str) or not resource.strip("/"):
        raise BadInputError(f"Event '{envelope.id}' of type '{envelope.kind}' names no resource (data.resourceUri).")
    kind, _, name = resource.strip("/").lower().rpartition("/")
    if kind.endswith("microsoft.containerinstance/containergroups"):
        app.intake.group_told(DeploymentName(name))
