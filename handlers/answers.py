"""
Answers to HTTP requests, in no framework's words, and which answer an error becomes.

Event Grid and some hosts never deliver again what was answered 400, 401, 403 or 413, so only the sender's own fault gets
one of these; ours is a 503 with the time after which to repeat.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from mlops_core.domain.errors import (
    BadInputError,
    HeadraceError,
    NotFoundError,
    PermanentError,
    RefusedError,
    TemporaryError,
    TooLargeError,
    UnauthorizedError,
)

# The first class that fits counts, so subclasses stand before their parents.
_STATUS: tuple[tuple[type[HeadraceError], HTTPStatus], ...] = (
    (UnauthorizedError, HTTPStatus.UNAUTHORIZED),
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (TooLargeError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (BadInputError, HTTPStatus.BAD_REQUEST),
    (RefusedError, HTTPStatus.CONFLICT),
    (PermanentError, HTTPStatus.CONFLICT),
    (TemporaryError, HTTPStatus.SERVICE_UNAVAILABLE),
)
_DEFAULT_RETRY_SECONDS = 5


@dataclass(frozen=True)
class Request:
    """An HTTP request as a handler needs it; header names in lower case."""

    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(view: Mapping[str, Any], status: int = HTTPStatus.OK) -> Answer:
    """Answer with a JSON object."""
    return Answer(int(status), json.dumps(view).encode(), {"content-type": "application/json"})


def error_answer(error: HeadraceError) -> Answer:
    """Answer with the error's own sentence and the status that its class stands for."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    answer = json_answer({"error": str(error)}, status)
    if isinstance(error, TemporaryError):
        seconds = error.retry_after_seconds or _DEFAULT_RETRY_SECONDS
        return Answer(answer.status, answer.body, {**answer.headers, "retry-after": str(max(1, round(seconds)))})
    return answer


def read_json(request: Request, *, limit_bytes: int = 65_536) -> dict[str, Any]:
    """
    Read a small JSON object from a request; an empty body is an empty object.

    Raises: TooLargeError, BadInputError: It is too large, no JSON, or no object.
    """
    if len(request.body) > limit_bytes:
        raise TooLargeError(f"The body has {len(request.body)} bytes; at most {limit_bytes} are taken here.")
    if not request.body.strip():
        return {}
    try:
        data = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"The body is no JSON: {error}. Send a JSON object.") from None
    if not isinstance(data, dict):
        raise BadInputError('The body must be a JSON object, such as {"reason": "..."}.')
    return data
