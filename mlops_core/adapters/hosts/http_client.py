"""
Send what a dialect asks, with the host's token and the one layer of retries, and turn refusals into sentences.

Redirects are followed for downloads only, to hosts that are documented, and without the token on any other host: GitHub's
redirect has a secret of its own in its query, so addresses are kept out of errors, and httpx' log shows none with a query.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import urljoin, urlsplit

from mlops_core.adapters.hosts.credentials import Credential
from mlops_core.adapters.hosts.dialect import Ask, Dialect
from mlops_core.adapters.hosts.refusals import of_answer, pause_of_limit
from mlops_core.adapters.http_retry import (
    WORTH_REPEATING,
    Patience,
    Timing,
    WorthRepeatingError,
    asked_pause,
    patiently,
)
from mlops_core.domain.errors import PermanentError, TooLargeError

if TYPE_CHECKING:
    import ssl

    import httpx

T = TypeVar("T")

_TIMEOUT_SECONDS, _CONNECT_SECONDS = 20.0, 5.0
# A page of 1,000 refs of Azure DevOps has half a megabyte.
_JSON_BYTES = 10_000_000
_WORDS_BYTES = 4_096
_MOST_REDIRECTS = 3
# A function call ends at 230 s, and the files have to be unpacked and sent on within it.
_DOWNLOAD_SECONDS = 120.0
# Bodies as they are: what is counted is then what was sent, and nothing small becomes large.
_HEADERS = {"user-agent": "headrace", "accept": "*/*", "accept-encoding": "identity"}
_SECRET_HEADERS = ("authorization", "private-token")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class HostClient:
    """
    A client of one host.

    Args:
        plain_http: Lets http through and asks no proxy, as tests on loopback need it.
    """

    def __init__(
        self, dialect: Dialect, credential: Credential, *, patience: Patience, timing: Timing, plain_http: bool = False
    ) -> None:
        self._dialect = dialect
        self._credential = credential
        self._patience = patience
        self._timing = timing
        self._plain_http = plain_http

    @functools.cached_property
    def _http(self) -> httpx.Client:
        """Make the client at the first request: a cold start that asks nothing of a host need not import it."""
        import httpx

        for name in ("httpx", "httpcore.http11", "httpcore.http2"):
            logging.getLogger(name).addFilter(hide_addresses)
        timeout = httpx.Timeout(_TIMEOUT_SECONDS, connect=_CONNECT_SECONDS)
        return httpx.Client(timeout=timeout, follow_redirects=False, verify=_trusted(), trust_env=not self._plain_http)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def json(self, ask: Ask, *, repository: str, doing: str) -> tuple[Any, Mapping[str, str]]:
        """Ask for JSON. Returns: It, and the answer's headers. Raises: NotFoundError, TemporaryError, PermanentError."""

        def receive(response: httpx.Response) -> tuple[Any, Mapping[str, str]]:
            body = self._body(response, _JSON_BYTES, doing)
            try:
                return (json.loads(body) if body else None), response.headers
            except (ValueError, RecursionError):
                raise PermanentError(
                    f"{self._dialect.title}: {doing} was answered with something else than JSON. Is its address right?"
                ) from None

        return self._perform(ask, receive, repository=repository, doing=doing)

    def content(self, ask: Ask, *, repository: str, doing: str, limit_bytes: int) -> bytes:
        """Ask for bytes. Raises: TooLargeError, NotFoundError, TemporaryError, PermanentError."""

        def receive(response: httpx.Response) -> bytes:
            return self._body(response, limit_bytes, doing)

        return self._perform(ask, receive, repository=repository, doing=doing)

    def download(self, ask: Ask, file: BinaryIO, *, repository: str, doing: str, limit_bytes: int) -> None:
        """Ask for bytes and write them to a file, from its begin again where the answer broke off."""

        def receive(response: httpx.Response) -> None:
            file.seek(0)
            file.truncate()
            self._stream(response, limit_bytes, doing, file.write, seconds=_DOWNLOAD_SECONDS)

        patience = replace(self._patience, total_seconds=_DOWNLOAD_SECONDS)
        self._perform(ask, receive, repository=repository, doing=doing, redirects=_MOST_REDIRECTS, patience=patience)

    def send_once(self, ask: Ask, headers: Mapping[str, str], doing: str) -> Any:
        """Send a request of the credential itself, within an attempt that is repeated as a whole. Raises as `json` does."""
        request = self._request(ask, {**_HEADERS, **ask.headers, **headers})
        return self._send(request, lambda response: json.loads(self._body(response, _JSON_BYTES, doing)), ask, doing, 0)

    def _perform(
        self,
        ask: Ask,
        receive: Callable[[httpx.Response], T],
        *,
        repository: str,
        doing: str,
        redirects: int = 0,
        patience: Patience | None = None,
    ) -> T:
        def attempt() -> T:
            headers = {**_HEADERS, **ask.headers, **self._credential.headers(repository)}
            return self._send(self._request(ask, headers), receive, ask, doing, redirects)

        def once_more() -> T:
            try:
                return attempt()
            except _NotTakenError:
                # A token of an app may have been withdrawn before its time.
                if not self._credential.refused(repository):
                    raise
                return attempt()

        try:
            sentence = f"{self._dialect.title}: {doing}"
            return patiently(once_more, doing=sentence, patience=patience or self._patience, timing=self._timing)
        except _NotTakenError as error:
            raise error.refusal from None

    def _request(self, ask: Ask, headers: Mapping[str, str]) -> httpx.Request:
        body = json.dumps(ask.body).encode() if ask.body is not None else None
        kind = {"content-type": "application/json"} if body is not None else {}
        query = dict(ask.query) or None
        return self._http.build_request(ask.method, ask.url, params=query, content=body, headers={**headers, **kind})

    def _send(
        self, request: httpx.Request, receive: Callable[[httpx.Response], T], ask: Ask, doing: str, redirects: int
    ) -> T:
        response = self._http.send(request, stream=True)
        try:
            if response.is_success and response.status_code != 203:  # noqa: PLR2004 - Azure DevOps' page to sign in
                return receive(response)
            if response.status_code in _REDIRECTS and redirects:
                following = self._following(request, response, doing)
            else:
                self._refuse(response, ask, doing)
        finally:
            response.close()
        return self._send(following, receive, ask, doing, redirects - 1)

    def _following(self, request: httpx.Request, response: httpx.Response, doing: str) -> httpx.Request:
        """Follow a redirect of a download. Raises PermanentError where it leads to what is not documented."""
        here = urlsplit(str(request.url))
        try:
            target = urljoin(str(request.url), response.headers.get("location", ""))
            there = urlsplit(target)
        except ValueError:
            target, there = "", urlsplit("")
        same = (here.scheme, here.netloc) == (there.scheme, there.netloc)
        allowed = there.netloc in self._dialect.archive_hosts
        secure = there.scheme == "https" or (self._plain_http and there.scheme == "http")
        if not secure or not (same or allowed):
            raise PermanentError(
                f"{self._dialect.title}: {doing} was sent on to '{there.scheme}://{there.hostname}', which is none of its "
                "documented archive hosts. Where it is right, name it in the host's archive_hosts."
            )
        kept = dict(request.headers) if same else dict(_HEADERS)
        kept.pop("host", None)
        return self._http.build_request("GET", target, headers=kept)

    def _refuse(self, response: httpx.Response, ask: Ask, doing: str) -> None:
        """Raise for an answer that is no success."""
        words = self._words(response)
        pause = asked_pause(response.headers, self._timing.now())
        if response.status_code in WORTH_REPEATING:
            raise WorthRepeatingError(f"it answered {response.status_code}", retry_after_seconds=pause)
        limit = pause_of_limit(response.status_code, pause, words)
        if limit is not None:
            raise WorthRepeatingError("its limit of requests is reached", retry_after_seconds=limit)
        refusal = of_answer(
            response.status_code, words, title=self._dialect.title, doing=doing, needed=self._dialect.rights[ask.right]
        )
        if response.status_code in (203, 401):
            raise _NotTakenError(refusal)
        raise refusal

    def _words(self, response: httpx.Response) -> str:
        """Read what a host says of its refusal, in one line, with nothing secret in it."""
        body = bytearray()
        began = self._timing.monotonic()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) >= _WORDS_BYTES or self._timing.monotonic() - began > _TIMEOUT_SECONDS:
                break
        text = " ".join(bytes(body[:_WORDS_BYTES]).decode(errors="replace").split())
        sent = (response.request.headers.get(name, "").rpartition(" ")[2] for name in _SECRET_HEADERS)
        for secret in filter(None, (*self._credential.secrets(), *sent)):
            text = text.replace(secret, "***")
        return text[:500]

    def _body(self, response: httpx.Response, limit_bytes: int, doing: str) -> bytes:
        body = bytearray()
        self._stream(response, limit_bytes, doing, body.extend)
        return bytes(body)

    def _stream(
        self,
        response: httpx.Response,
        limit_bytes: int,
        doing: str,
        write: Callable[[bytes], object],
        *,
        seconds: float = _TIMEOUT_SECONDS,
    ) -> None:
        """Read a body, never more than the limit and never for longer than the seconds."""
        began, received = self._timing.monotonic(), 0
        # Each piece as it comes: gathered to larger ones, a host that sends a byte a second would never be noticed.
        for chunk in response.iter_bytes():
            received += len(chunk)
            if received > limit_bytes:
                raise TooLargeError(
                    f"{self._dialect.title}: {doing} gave more than {limit_bytes} bytes, the limit. Make it smaller."
                )
            if self._timing.monotonic() - began > seconds:
                raise WorthRepeatingError(f"its answer took more than {seconds:.0f} s")
            write(chunk)


@functools.cache
def _trusted() -> ssl.SSLContext:
    """Read the authorities that are trusted, once for all hosts: it takes as long as a request."""
    import httpx

    return httpx.create_ssl_context()


class _NotTakenError(Exception):
    """The host did not take the token; what is to be raised where there is no other."""

    def __init__(self, refusal: PermanentError) -> None:
        super().__init__()
        self.refusal = refusal


def hide_addresses(record: logging.LogRecord) -> bool:
    """Take queries out of the addresses that httpx logs, and drop httpcore's records of answers, which have redirects."""
    if record.name.startswith("httpcore"):
        return "response_headers" not in str(record.msg)
    if isinstance(record.args, tuple):
        record.args = tuple(_without_query(value) for value in record.args)
    return True


def _without_query(value: object) -> object:
    text = str(value)
    return text.partition("?")[0] if text.startswith("http") and "?" in text else value
