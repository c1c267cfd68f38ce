"""
MLflow's REST API by httpx: reads only, with the one layer that repeats what failed.

The mlflow package itself would cost 2.7 seconds of import. Everything here may be repeated, so a failure of transport,
a 429 and the server's own failures are tried again, `Retry-After` kept; what remains is raised as one of our errors.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlops_core.domain.errors import NotFoundError, PermanentError, TemporaryError

if TYPE_CHECKING:
    import httpx

_TIMEOUT_SECONDS, _CONNECT_SECONDS = 30.0, 3.0
_TRIES = 5
_FIRST_PAUSE_SECONDS = 0.2
# A server that asks for more patience than this is left to whoever called: a function call is to be short.
_LONGEST_PAUSE_SECONDS = 5.0
_WORTH_REPEATING = {429, 500, 502, 503, 504}
_MISSING = "RESOURCE_DOES_NOT_EXIST"
_PAGE = 200
_CHUNK_BYTES = 1 << 20

Parameters = Mapping[str, str | int]


class MlflowApi:
    """A client of one MLflow server."""

    def __init__(
        self,
        address: Callable[[], str],
        *,
        sleep: Callable[[float], None] = time.sleep,
        token: Callable[[], str] | None = None,
        advice: str = "`headrace up` starts it again; its log is in the data folder.",
    ) -> None:
        """
        Remember where the server is.

        Args:
            address: Asked before each request, since a restarted server may answer elsewhere.
            token: Gives a bearer token, asked before each request; None where the server asks for none.
            advice: What to do where nobody answers.
        """
        self._address = address
        self._sleep = sleep
        self._token = token
        self._advice = advice

    @functools.cached_property
    def _client(self) -> httpx.Client:
        """Make the client at the first request: a cold start that asks nothing of MLflow need not import it."""
        import httpx

        timeout = httpx.Timeout(_TIMEOUT_SECONDS, connect=_CONNECT_SECONDS)
        # No proxies from the environment where the server is on this machine, which is where it asks for no token.
        return httpx.Client(timeout=timeout, trust_env=self._token is not None)

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token()}"} if self._token else {}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str, parameters: Parameters, *, kind: str, name: str) -> dict[str, Any]:
        """Read one thing, such as a run. Raises: NotFoundError, TemporaryError, PermanentError."""
        return self._json("GET", f"/api/2.0/mlflow/{path}", {"params": dict(parameters)}, kind, name)

    def pages(self, path: str, parameters: Parameters, *, items: str) -> Iterator[list[dict[str, Any]]]:
        """Read a list by GET, page by page. Raises: TemporaryError, PermanentError."""
        wanted: dict[str, str | int] = {"max_results": _PAGE, **parameters}
        while True:
            answer = self._json("GET", f"/api/2.0/mlflow/{path}", {"params": wanted}, "list", path)
            yield answer.get(items, [])
            if not answer.get("next_page_token"):
                return
            wanted["page_token"] = answer["next_page_token"]

    def search_runs(self, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Read the first page of runs that match. Raises: TemporaryError, PermanentError."""
        answer = self._json("POST", "/api/2.0/mlflow/runs/search", {"json": dict(query)}, "list", "runs")
        return list(answer.get("runs", []))

    def list_artifacts(self, folder: str) -> list[dict[str, Any]]:
        """Read the entries of an artifact folder, their paths relative to it."""
        request = {"params": {"path": folder}}
        answer = self._json("GET", "/api/2.0/mlflow-artifacts/artifacts", request, "artifact", folder)
        return list(answer.get("files", []))

    def download(self, path: str, target: Path) -> None:
        """Download one artifact into a file that must not exist. Raises: NotFoundError, TemporaryError."""
        import httpx

        url = f"{self._address()}/api/2.0/mlflow-artifacts/artifacts/{quote(path)}"
        try:
            with self._client.stream("GET", url) as response, target.open("xb") as file:
                if not response.is_success:
                    response.read()
                    self._refuse(response, "artifact", path)
                for chunk in response.iter_bytes(_CHUNK_BYTES):
                    file.write(chunk)
        except httpx.TransportError as error:
            raise TemporaryError(f"The MLflow server broke off while artifact '{path}' was read: {error!r}.") from error

    def _json(self, method: str, path: str, request: Mapping[str, Any], kind: str, name: str) -> dict[str, Any]:
        response = self._patiently(method, path, request)
        if not response.is_success:
            self._refuse(response, kind, name)
        try:
            answer: dict[str, Any] = response.json()
        except ValueError as error:
            message = f"The MLflow server answered {method} {path} with something else than JSON. Read its log."
            raise PermanentError(message) from error
        return answer

    def _patiently(self, method: str, path: str, request: Mapping[str, Any]) -> httpx.Response:
        """Send a request, again while that may help. Returns the last answer, whatever it is."""
        import httpx

        pause = _FIRST_PAUSE_SECONDS
        for left in reversed(range(_TRIES)):
            asked: float | None = None
            try:
                response = self._client.request(method, f"{self._address()}{path}", headers=self._headers(), **request)
            except httpx.TransportError as error:
                if not left:
                    message = f"The MLflow server at {self._address()} cannot be reached ({error!r}). {self._advice}"
                    raise TemporaryError(message) from error
            else:
                asked = _retry_after(response)
                hopeless = not left or (asked or 0) > _LONGEST_PAUSE_SECONDS
                if response.status_code not in _WORTH_REPEATING or hopeless:
                    return response
            self._sleep(max(pause, asked or 0))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        raise AssertionError  # unreachable: the last try returns or raises

    def _refuse(self, response: httpx.Response, kind: str, name: str) -> None:
        """Raise our own error for an answer that is not a success."""
        import httpx

        if response.status_code == httpx.codes.NOT_FOUND or _MISSING in response.text:
            raise NotFoundError(kind, name, advice="The MLflow server does not know it; it may have been deleted.")
        words = f"The MLflow server answered {response.status_code} for {kind} '{name}': {response.text[:500]}"
        if response.status_code in _WORTH_REPEATING:
            raise TemporaryError(words, retry_after_seconds=_retry_after(response))
        raise PermanentError(words)


def _retry_after(response: httpx.Response) -> float | None:
    """Read `Retry-After` in seconds (RFC 9110, 10.2.3); its form as a date is not used by servers that we ask."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdigit() else None
