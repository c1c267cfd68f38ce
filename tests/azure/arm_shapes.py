"""What the double's container groups share: Azure's names on loopback, events in Azure's form, a plain environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx


class ByName(httpx.BaseTransport):
    """Sends what is for a group's name to the port where its app listens."""

    def __init__(self, port_of: Callable[[str], int | None]) -> None:
        self._port_of = port_of
        self._inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        port = self._port_of(request.url.host)
        if port is None:
            raise httpx.ConnectError(f"nobody is at {request.url.host}", request=request)
        request.url = request.url.copy_with(host="127.0.0.1", port=port)
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


def plain_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}  # noqa: TID251 - real processes


def event(name: str, message: str, *, count: int = 1, kind: str = "Normal") -> dict[str, Any]:
    now = moment(datetime.now(UTC))
    return {"count": count, "firstTimestamp": now, "lastTimestamp": now, "name": name, "message": message, "type": kind}


def moment(at: datetime | None) -> str:
    return (at or datetime.now(UTC)).isoformat().replace("+00:00", "Z")
