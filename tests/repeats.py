"""What goes over the wire to Azurite: counted, and cut, refused or the end of the process where a test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from azure.core.exceptions import ServiceRequestError, ServiceResponseError
from azure.core.pipeline.transport import RequestsTransport
from azurite import Azurite, open_tables

from mlops_core.adapters.azure.tables import StorageAccount, Tables


class Death(BaseException):
    """The process ends here."""


class _Transport(RequestsTransport):
    """Asks its owner before and after each request."""

    def __init__(self, owner: Cutting) -> None:
        super().__init__()
        self._owner = owner

    def send(self, request: Any, **options: Any) -> Any:
        owner = self._owner
        with owner.lock:
            owner.calls.append(f"{request.method} {request.url.partition('?')[0].rpartition('/')[2]}")
            answer = owner.answers.pop(0) if owner.answers else ""
            owner.dead = owner.dead or answer == "die before"
        owner.before_call()
        if owner.dead:
            raise Death
        if answer == "unreachable":
            raise ServiceRequestError("the connection was refused")
        response = super().send(request, **options)
        if answer == "die after":
            owner.dead = True
            response.close()
            raise Death
        if answer == "cut":
            response.close()
            raise ServiceResponseError("the connection was cut")
        if answer.startswith("busy"):
            _make_busy(response, answer.partition(":")[2])
        return response


def _make_busy(response: Any, seconds: str) -> None:
    """Make of an answer the one that Azure gives when it is asked too much; Azurite never gives it."""
    is_table = "json" in response.request.headers.get("Accept", "")
    text = '{"odata.error": {"code": "ServerBusy", "message": {"lang": "en-US", "value": "The server is busy."}}}'
    if not is_table:
        text = "<Error><Code>ServerBusy</Code><Message>The server is busy.</Message></Error>"
    internal = response.internal_response if hasattr(response, "internal_response") else response._internal_response
    response._content = internal._content = text.encode()
    internal._content_consumed = True
    internal.status_code = response.status_code = 503
    kind = "application/json" if is_table else "application/xml"
    response.headers["Content-Type"] = internal.headers["Content-Type"] = kind
    response.content_type = kind
    if seconds:
        response.headers["Retry-After"] = seconds


@dataclass
class Cutting:
    """
    The wire between a test's adapters and Azurite.

    Attributes:
        calls: What was sent, each repeat too.
        answers: What becomes of the next requests, one each: "" is as it is, "cut" is done and not answered,
            "unreachable" not sent, "busy" and "busy:SECONDS" done and answered 503, "die before" and "die after"
            are done or not, and nothing is sent from then on.
        before_call: Is called before each request.
        pauses: How long the adapters would have waited.
    """

    calls: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    before_call: Callable[[], None] = lambda: None
    dead: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def account(self, storage: Azurite) -> StorageAccount:
        """Give the account behind this wire."""
        client = {"transport": _Transport(self)}
        return StorageAccount(connection_string=storage.connection_string, client=client, pause=self.pauses.append)

    def tables(self, storage: Azurite, prefix: str) -> Tables:
        """Give tables behind this wire."""
        return open_tables(self.account(storage), prefix)

    @contextmanager
    def counted(self) -> Iterator[list[str]]:
        """Give what is sent within the block."""
        before = len(self.calls)
        sent: list[str] = []
        yield sent
        sent += self.calls[before:]
