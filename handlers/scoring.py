"""The stable address of a model: pass the request on to the deployment in service."""

from __future__ import annotations

from handlers.answers import Answer, Request
from mlops_core.application import Application
from mlops_core.domain.errors import TooLargeError
from mlops_core.domain.ids import ModelName


async def score(app: Application, request: Request) -> Answer:
    """
    Answer a scoring request with what the model's deployment answers.

    Raises:
        TooLargeError: The body is over the limit.
        NotFoundError: Nothing serves this model.
        TemporaryError: Nobody answered in time.
    """
    limit = app.limits.score_bytes
    if len(request.body) > limit:
        raise TooLargeError(f"The request has {len(request.body)} bytes; at most {limit} are taken. Send fewer rows.")
    details = request.query.get("details") == "true"
    scored = await app.router.score(ModelName(request.params["model"]), request.body, request.headers, details=details)
    return Answer(scored.status, scored.body, scored.headers)
