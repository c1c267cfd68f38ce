"""A message of the effect queue: perform the effect that it hints at."""

from __future__ import annotations

import json

from mlops_core.application import Application
from mlops_core.controller import MAX_TRIES
from mlops_core.domain.errors import BadInputError
from mlops_core.domain.ids import EffectKey, RunId


def take_effect(app: Application, message: str, tries: int) -> None:
    """
    Perform an effect if it is still pending.

    Args:
        tries: The how-manieth delivery of this message it is.
    Raises: TemporaryError: Deliver the message again.
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


def _parse(message: str) -> tuple[RunId, EffectKey]:
    try:
        data = json.loads(message)
        return RunId(str(data["run_id"])), EffectKey(str(data["key"]))
    except (ValueError, KeyError, TypeError):
        raise BadInputError(f"The message '{message[:200]}' names no effect.") from None
