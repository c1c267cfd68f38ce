"""Which kind of event goes to which handler: the table below, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

from handlers import azure_ml, dead_letters, deployment_changed, git_push
from handlers.inbound import Envelope, read_envelope
from mlops_core.application import Application
from mlops_core.domain.errors import BadInputError, PermanentError

EVENTS: dict[str, Callable[[Application, Envelope], None]] = {
    "Headrace.GitPush": git_push.take_git_push,
    "Headrace.DeploymentChanged": deployment_changed.take_deployment_changed,
    "Microsoft.Resources.ResourceWriteSuccess": deployment_changed.take_container_group,
    "Microsoft.Resources.ResourceWriteFailure": deployment_changed.take_container_group,
    "Microsoft.Resources.ResourceDeleteSuccess": deployment_changed.take_container_group,
    "Microsoft.MachineLearningServices.ModelRegistered": azure_ml.take_model_registered,
    "Microsoft.MachineLearningServices.RunCompleted": azure_ml.take_job_status,
    "Microsoft.MachineLearningServices.RunStatusChanged": azure_ml.take_job_status,
    "Microsoft.MachineLearningServices.ModelDeployed": azure_ml.take_nothing,
    "Microsoft.MachineLearningServices.DatasetDriftDetected": azure_ml.take_nothing,
}


def take_trigger(app: Application, event: object) -> None:
    """
    Take what an Event Grid trigger hands over; what is no event at all is kept as a dead letter too.

    Raises: TemporaryError: Deliver it again.
    """
    try:
        envelope = read_envelope(event, received_at=app.world.clock.now())
    except BadInputError as error:
        dead_letters.keep_unreadable(app, event, error)
        return
    take_event(app, envelope)


def take_event(app: Application, envelope: Envelope) -> None:
    """
    Take an event, or keep it as a dead letter with the reason.

    Raises: TemporaryError: Deliver it again.
    """
    try:
        dispatch(app, envelope)
    except PermanentError as error:
        dead_letters.keep_event(app, envelope, error)


def dispatch(app: Application, envelope: Envelope) -> None:
    """Give an event to its handler. Raises BadInputError for a kind that nobody knows, and what the handler raises."""
    handler = EVENTS.get(envelope.kind)
    if handler is None:
        raise BadInputError(f"Nothing here takes events of type '{envelope.kind}'. Narrow the subscription's filter.")
    handler(app, envelope)
