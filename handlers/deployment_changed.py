"""A deployment became ready, failed or went away: find the run that waits for it and look."""

from __future__ import annotations

from handlers.inbound import Envelope
from mlops_core.application import Application
from mlops_core.domain.errors import BadInputError
from mlops_core.domain.ids import ModelName, ModelVersion


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
