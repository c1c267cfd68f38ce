"""Talk to a running controller over HTTP, and turn what goes wrong into a sentence."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from typing import Any

import httpx

from mlops_core.domain.errors import (
    BadInputError,
    HeadraceError,
    PermanentError,
    RefusedError,
    TemporaryError,
    UnauthorizedError,
)

_SECONDS = 120.0
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CONFLICT = 401, 403, 404, 409
_CLIENT_ERRORS = range(400, 500)

View = dict[str, Any]


class AbsentError(PermanentError):
    """What was asked for is not there; the controller's sentence says what."""


class Api:
    """
    The controller's HTTP interface.

    Args:
        base_url: Where the function app is, without `/api`.
        key: Function key, where the controller asks for one.
    """

    def __init__(self, base_url: str, key: str | None = None) -> None:
        self.base_url = base_url
        headers = {"x-functions-key": key} if key else {}
        self._client = httpx.Client(base_url=f"{base_url}/api", headers=headers, timeout=_SECONDS)

    def get(self, path: str, **query: str | int | None) -> View:
        """Ask for a JSON object. Raises HeadraceError with what the controller said."""
        given = {key: value for key, value in query.items() if value is not None}
        answer: View = self._send("GET", path, params=given).json()
        return answer

    def log(self, run_id: str, stage: str) -> tuple[str, int]:
        """Ask for the log of a run's job. Returns its text, and how many bytes before it were left out."""
        answer = self._send("GET", f"/runs/{run_id}/logs/{stage}")
        return answer.content.decode(errors="replace"), int(answer.headers.get("x-headrace-left-out", 0))

    def post(self, path: str, body: Mapping[str, Any]) -> View:
        """Send a JSON object and read the answer."""
        answer: View = self._send("POST", path, json=dict(body)).json()
        return answer

    def score(self, model: str, body: bytes) -> tuple[Any, Mapping[str, str]]:
        """Ask a model for predictions. Returns them as JSON, and the answer's headers."""
        answer = self._send(
            "POST", f"/models/{model}/score", content=body, headers={"content-type": "application/json"}
        )
        return answer.json(), answer.headers

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def is_up(self) -> bool:
        """Tell whether a controller answers at the address."""
        try:
            return self._client.get("/health", timeout=2.0).is_success
        except httpx.TransportError:
            return False

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **options)
        except httpx.ConnectError:
            raise TemporaryError(
                f"No controller answers at {self.base_url}. Start it in another terminal: headrace up."
            ) from None
        except httpx.TransportError as error:
            raise TemporaryError(f"The controller at {self.base_url} did not answer: {error}.") from error
        if not answer.is_success:
            raise _error_of(answer)
        return answer


def person() -> str:
    """Name who types, for the record of a decision."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unnamed"


def _error_of(answer: httpx.Response) -> HeadraceError:
    try:
        data = answer.json()
        sentence = str(data.get("error") or data)
    except ValueError:
        sentence = answer.text[:500] or f"The controller answered {answer.status_code}."
    if answer.status_code in (_UNAUTHORIZED, _FORBIDDEN):
        return UnauthorizedError(f"{sentence} Give the function key in HEADRACE_KEY.")
    if answer.status_code == _CONFLICT:
        return RefusedError(sentence)
    if answer.status_code == _NOT_FOUND:
        return AbsentError(sentence)
    if answer.status_code in _CLIENT_ERRORS:
        return BadInputError(sentence)
    return TemporaryError(sentence)
