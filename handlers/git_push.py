"""A `Headrace.GitPush` event: start the runs of the pushed repository's projects."""

from __future__ import annotations

from pydantic import ValidationError

from handlers.inbound import Envelope
from mlops_core.application import Application
from mlops_core.domain.errors import BadInputError
from mlops_core.domain.events import GitPush


def take_git_push(app: Application, envelope: Envelope) -> None:
    """
    Start a run per project; a push that was heard of before starts nothing.

    Raises: BadInputError: The event's data is no push.
    """
    try:
        push = GitPush.model_validate(dict(envelope.data))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg'].lower()}" for each in error.errors())
        raise BadInputError(
            f"Event '{envelope.id}' is no push: {wrong}. Mend whoever published it, and let it publish the push again."
        ) from None
    app.intake.push(push)
