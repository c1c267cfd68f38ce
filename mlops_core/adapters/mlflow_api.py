"""
MLflow's REST API by httpx: reads only, with the layer that repeats what failed (`http_retry.py`).

The mlflow package itself would cost 2.7 seconds of import. Everything here may be repeated; what remains is raised as
one of our errors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlops_core.adapters.http_retry import (
    WORTH_REPEATING,
    Patience,
    Timing,
    WorthRepeatingError,
    asked_pause,
    patiently,
)
from mlops_core.domain.errors import NotFoundError, PermanentError, TemporaryError

if TYPE_CHECKING:
    import httpx

_TIMEOUT_SECONDS, _CONNECT_SECONDS = 30.0, 3.0
# A server on this machine that is started again answers within seconds. One that asks for more patience is left to
# whoever called: a function call is to be short.
_PATIENCE = Patience(tries=5, first_pause_seconds=0.2, longest_pause_seconds=5.0)
_MISSING = "RESOURCE_DOES_NOT_EXIST"
_PAGE = 200
_CHUNK_BYTES = 1 << 20
_WORDS = 500

Parameters = Mapping[str, str | int]


class MlflowApi:
    """A client of one MLflow server."""

    def __init__(
        self,
        address: Callable[[], str],
        *,
        timing: Timing | None = None,
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
        self._timing = timing or Timing()
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
        """Send a request, again while that may help. Returns an answer that repeating would not change."""

        def attempt() -> httpx.Response:
            response = self._client.request(method, f"{self._address()}{path}", headers=self._headers(), **request)
            if response.status_code in WORTH_REPEATING:
                asked = asked_pause(response.headers, self._timing.now())
                said = " ".join(response.text[:_WORDS].split())
                raise WorthRepeatingError(
                    f"it answered {response.status_code}{f': {said}' if said else ''}", retry_after_seconds=asked
                )
            return response

        doing = f"The MLflow server at {self._address()}: {method} {path}"
        return patiently(attempt, doing=doing, patience=_PATIENCE, timing=self._timing, advice=self._advice)

    def _refuse(self, response: httpx.Response, kind: str, name: str) -> None:
        """Raise our own error for an answer that is not a success."""
        import httpx

        if response.status_code == httpx.codes.NOT_FOUND or _MISSING in response.text:
            raise NotFoundError(kind, name, advice="The MLflow server does not know it; it may have been deleted.")
        words = f"The MLflow server answered {response.status_code} for {kind} '{name}': {response.text[:_WORDS]}"
        raise (TemporaryError if response.status_code in WORTH_REPEATING else PermanentError)(words)
