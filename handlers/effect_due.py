"""A message of the effect queue: perform the effect that it hints at, or keep what hints at none as a dead letter."""

from __future__ import annotations

import hashlib
import json
import logging

from mlops_core.application import Application
from mlops_core.controller import MAX_TRIES
from mlops_core.domain.errors import BadInputError, PermanentError
from mlops_core.domain.ids import EffectKey, RunId
from mlops_core.ports import DeadLetter

log = logging.getLogger(__name__)


def take_message(app: Application, message: str, tries: int) -> None:
    """
    Perform the effect of a message; one that can never be performed is kept as a dead letter.

    Args:
        tries: The how-manieth delivery of this message it is.
    Raises: TemporaryError: Deliver the message again.
    """
    try:
        take_effect(app, message, tries)
    except PermanentError as error:
        keep_message(app, message, error)


def take_effect(app: Application, message: str, tries: int) -> None:
    """
    Perform an effect if it is still pending.

    Raises:
        TemporaryError: Deliver the message again.
        PermanentError: It names no effect, or a run that is not there.
    """
    run_id, key = _parse(message)
    app.controller.perform(run_id, key, tries=tries)


def give_up_on_last_try(app: Application, message: str, tries: int, error: Exception) -> bool:
    """Record an unforeseen error on the run when the last delivery failed. Returns whether it was the last."""
    if tries < MAX_TRIES:
        return False
    run_id, key = _parse(message)
    app.controller.give_up(run_id, key, f"tried {tries} times: {type(error).__name__}: {error}")
    return True


def keep_message(app: Application, message: str, error: PermanentError) -> None:
    """Keep a message that names no effect of a known run. The same message again is kept once."""
    letter = DeadLetter(
        letter_id=f"message-{hashlib.sha256(message.encode()).hexdigest()[:16]}",
        kind="effect",
        subject="message of the effect queue",
        reason=str(error),
        body=message,
        created_at=app.world.clock.now(),
    )
    app.world.dead_letters.put(letter)
    log.error("message kept as a dead letter", extra={"letter_id": letter.letter_id, "reason": str(error)})


def _parse(message: str) -> tuple[RunId, EffectKey]:
    try:
        data = json.loads(message)
        return RunId(str(data["run_id"])), EffectKey(str(data["key"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadInputError(f"The message '{message[:200]}' names no effect.") from None
