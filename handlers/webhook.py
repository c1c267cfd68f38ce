"""A repository host's webhook: verify, then publish each push to a known repository as a `Headrace.GitPush` event."""

from __future__ import annotations

from http import HTTPStatus

from handlers.answers import Answer, Request, json_answer
from mlops_core.application import Application
from mlops_core.domain.errors import NotFoundError, TooLargeError
from mlops_core.domain.events import GitPush

EVENT_TYPE = "Headrace.GitPush"


def take_webhook(app: Application, request: Request) -> Answer:
    """
    Answer a delivery of a webhook.

    Returns: 202 with the runs that its pushes lead to; for a ping, a tag or a deletion an empty list.
    Raises:
        TooLargeError: The body is over the limit; it was not read.
        UnauthorizedError: The signature is missing or wrong.
        BadInputError: It is signed, but not what this host sends.
        NotFoundError: Unknown host, or a repository that nobody allowed.
    """
    host = request.params.get("host", "")
    limit = app.limits.webhook_bytes
    if len(request.body) > limit:
        raise TooLargeError(f"The webhook's body has {len(request.body)} bytes; at most {limit} are taken.")
    verifier = app.verifiers.get(host)
    if verifier is None:
        advice = f"Known: {', '.join(sorted(app.verifiers)) or 'none'}."
        raise NotFoundError("repository host", host[:100], advice=advice)
    pushes = verifier.pushes(request.headers, request.body, received_at=app.world.clock.now())
    runs = [run for push in pushes for run in _publish(app, push)]
    return json_answer({"accepted": True, "runs": runs}, HTTPStatus.ACCEPTED)


def _publish(app: Application, push: GitPush) -> list[dict[str, str]]:
    records = app.intake.known_repository(push.host, push.repository)
    app.world.bus.publish(
        event_id=push.event_id,
        event_type=EVENT_TYPE,
        subject=f"repositories/{push.host}/{push.repository}/{push.ref}",
        data=push.model_dump(mode="json"),
        at=push.pushed_at,
    )
    return [
        {"run_id": app.intake.run_of(record, push), "project": record.name, "branch": push.branch} for record in records
    ]
