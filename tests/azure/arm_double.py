"""
A stateful double of the resource manager on loopback: container groups, and the registry's task runs.

Every request and every answer is held against the published specification, and what the specification leaves open but Azure
refuses (unknown keys, a missing location, illegal names) is refused here too. A test can make it answer 429 or 500, cut a
reply after the work is done, and much that only Azure can do otherwise: see `arm_containers` and `arm_registry`.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from azure.core.pipeline import PipelineRequest
from azure.core.pipeline.policies import SansIOHTTPPolicy
from specs import Specification

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
GROUP = "headrace-test"
LOCATION = "westeurope"


@dataclass
class Fault:
    """What to answer instead: before the work, or after it with `after`; `cut` breaks the connection off."""

    status: int = 500
    method: str = "*"
    path: str = ""
    times: int = 1
    code: str = "InternalServerError"
    message: str = "asked for by a test"
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False
    cut: bool = False


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


Part = Callable[[Request], Answer | None]


class ArmDouble:
    """One resource manager. `parts` are asked in turn who knows a path."""

    def __init__(self, *specifications: Specification) -> None:
        self.parts: list[Part] = []
        self.open_parts: list[Part] = []
        """Asked before a token is: what addresses with their own right lead to."""
        self.calls: list[tuple[Request, int]] = []
        self.complaints: list[str] = []
        self.faults: list[Fault] = []
        self.trouble: Callable[[Request], Fault | None] = lambda _: None
        self._specifications = specifications
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def client_options(self) -> dict[str, Any]:
        """What points a management client here; bearer tokens are sent over TLS only, so the token is put in by hand."""
        return {"base_url": self.address, "authentication_policy": PlainToken(), "polling_interval": 0}

    def count(self, method: str, path: str) -> int:
        return sum(1 for request, _ in self.calls if request.method == method and re.search(path, request.path))

    # ---------------------------------------------------------------- answering

    def answer(self, request: Request) -> Answer | None:
        """Answer a request; None breaks the connection off."""
        fault = self._fault(request)
        if fault is not None and not fault.after:
            return self._noted(request, None if fault.cut else _refusal(fault))
        made = self._judged(request)
        if fault is not None:
            return self._noted(request, None if fault.cut else _refusal(fault))
        return self._noted(request, made)

    def _fault(self, request: Request) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method in ("*", request.method) and re.search(fault.path, request.path):
                    fault.times -= 1
                    return fault
        return self.trouble(request)

    def _judged(self, request: Request) -> Answer:
        for part in self.open_parts:
            opened = part(request)
            if opened is not None:
                return opened
        if not request.headers.get("authorization", "").startswith("Bearer "):
            return refuse(401, "AuthenticationFailed", "no token")
        if "api-version" not in request.query:
            return refuse(400, "MissingApiVersionParameter", "no api-version")
        faults = [
            fault
            for spec in self._specifications
            for fault in spec.faults_of_request(request.method, request.path, request.query, request.body)
        ]
        if faults:
            self.complaints += faults
            return refuse(400, "InvalidRequestContent", "; ".join(faults))
        for part in self.parts:
            made = part(request)
            if made is not None:
                for spec in self._specifications:
                    found = spec.faults_of_answer(request.method, request.path, made.status, made.body)
                    self.complaints += found
                return made
        self.complaints.append(f"nobody knows {request.method} {request.path}")
        return refuse(404, "InvalidResourceType", f"there is no {request.path}")

    def _noted(self, request: Request, answer: Answer | None) -> Answer | None:
        with self._lock:
            self.calls.append((request, answer.status if answer else 0))
        return answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _serve(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                raw = self.rfile.read(length) if length else b""
                parts = urlsplit(self.path)
                body = json.loads(raw) if "json" in self.headers.get("content-type", "") and raw else raw or None
                headers = {key.lower(): value for key, value in self.headers.items()}
                answer = double.answer(Request(self.command, parts.path, dict(parse_qsl(parts.query)), headers, body))
                if answer is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                content = _bytes(answer.body)
                self.send_response(answer.status)
                for key, value in answer.headers.items():
                    self.send_header(key, value)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _serve  # noqa: N815 - the names that the base class looks for

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


class PlainToken(SansIOHTTPPolicy[Any, Any]):
    """Puts a token into requests to loopback."""

    def on_request(self, request: PipelineRequest[Any]) -> None:
        request.http_request.headers["Authorization"] = "Bearer loopback"


def _bytes(body: Any) -> bytes:
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def refuse(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, {"error": {"code": code, "message": message}}, headers or {})


def _refusal(fault: Fault) -> Answer:
    return refuse(fault.status, fault.code, fault.message, fault.headers)
