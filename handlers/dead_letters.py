"""Dead letters: keep what cannot be taken, list it, replay it."""

from __future__ import annotations

import hashlib
import json
import logging

from handlers.answers import Answer, Request, json_answer, read_json
from handlers.inbound import Envelope, fields_of, read_envelope
from mlops_core.application import Application
from mlops_core.domain.errors import PermanentError
from mlops_core.ports import DeadLetter
from mlops_core.services.queries import letter_view

log = logging.getLogger(__name__)


def keep_event(app: Application, envelope: Envelope, error: PermanentError) -> None:
    """Keep an event that cannot be taken, whole and with the reason. The same event again is kept once."""
    digest = hashlib.sha256(f"{envelope.kind}|{envelope.id}".encode()).hexdigest()[:16]
    letter = DeadLetter(
        letter_id=f"event-{digest}",
        kind="event",
        subject=f"{envelope.kind} {envelope.subject}",
        reason=str(error),
        body=json.dumps(envelope.raw),
        created_at=app.world.clock.now(),
    )
    app.world.dead_letters.put(letter)
    log.error("event kept as a dead letter", extra={"event_id": envelope.id, "reason": str(error)})


def keep_unreadable(app: Application, event: object, error: PermanentError) -> None:
    """Keep something that is no event of either schema, as far as it can be told."""
    body = json.dumps(fields_of(event), default=str)
    digest = hashlib.sha256(body.encode()).hexdigest()[:16]
    letter = DeadLetter(
        letter_id=f"unreadable-{digest}",
        kind="event",
        subject="not an event",
        reason=str(error),
        body=body,
        created_at=app.world.clock.now(),
    )
    app.world.dead_letters.put(letter)
    log.error("unreadable event kept as a dead letter", extra={"letter_id": letter.letter_id, "reason": str(error)})


def list_letters(app: Application, request: Request) -> Answer:
    """List what could not be taken, newest first."""
    return json_answer(app.queries.dead_letters(request.query.get("cursor"), 50))


def show_letter(app: Application, request: Request) -> Answer:
    """Tell a dead letter whole."""
    return json_answer(letter_view(app.world.dead_letters.get(request.params["letter_id"])))


def replay_letter(app: Application, request: Request) -> Answer:
    """
    Take a dead letter again, after its cause was mended. It is forgotten only when that worked.

    Raises: NotFoundError, and whatever taking it raises.
    """
    from handlers import effect_due
    from handlers.events import dispatch

    letter = app.world.dead_letters.get(request.params["letter_id"])
    if letter.kind == "effect" and letter.run_id is not None and letter.key is not None:
        by = request.headers.get("x-ms-client-principal-name") or str(read_json(request).get("by") or "unnamed")
        app.controller.replay_effect(letter.run_id, letter.key, by=by)
    elif letter.kind == "effect":
        effect_due.take_effect(app, letter.body, tries=1)
    else:
        dispatch(app, read_envelope(json.loads(letter.body), received_at=letter.created_at))
    app.world.dead_letters.remove(letter.letter_id)
    return json_answer({"replayed": letter.letter_id})
