"""
The host's HTTP side: routes of HTTP functions, Event Grid deliveries, and topics to publish to.

Follows the genuine host: header names in lower case, empty query values dropped, a function's exception is a 500
without its text, a function that returns nothing answers 204, an unknown route 404.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from azure.functions import HttpResponse
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mlops_core.adapters.local.host.functions import (
    Function,
    InvocationError,
    Invoker,
    event_grid_event,
    http_request,
)
from mlops_core.adapters.local.host.visitors import refusal

log = logging.getLogger(__name__)

_VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"
_DELIVERIES = "/runtime/webhooks/eventgrid"
_TEMPLATE = re.compile(r"\{(\*?)(\w+)(?::(\w+))?[^}]*\}")
_ANY_METHOD = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]

Json = dict[str, Any]


class Topics(Protocol):
    """Where events that are published to the host's own topics are kept until they are delivered."""

    def accept(self, topic: str, events: Sequence[Json]) -> None:
        """Store events durably. Raises BadInputError for a topic that is not there."""
        ...


class FunctionsWeb:
    """
    Makes the ASGI app of a set of functions.

    Args:
        prefix: Route prefix of HTTP functions, `api` unless host.json says otherwise.
        max_body_bytes: Bodies above it get 413 without being read to the end.
        keys: Function keys; none means that nobody is asked for one.
        names: What the host may be called in requests; none means anything. See `visitors.py`.
        topic_key: What publishers and deliveries of events show; empty means that nobody is asked for it.
    """

    def __init__(
        self,
        functions: Sequence[Function],
        invoker: Invoker,
        topics: Topics,
        *,
        prefix: str = "api",
        max_body_bytes: int = 104_857_600,
        keys: Sequence[str] = (),
        names: Sequence[str] = (),
        topic_key: str = "",
    ) -> None:
        self._functions = {function.name: function for function in functions}
        self._invoker = invoker
        self._topics = topics
        self._prefix = prefix.strip("/")
        self._max_body_bytes = max_body_bytes
        self._keys = [key.encode() for key in keys]
        self._names = names
        self._topic_key = topic_key.encode()

    def app(self) -> Starlette:
        """Build the app."""
        http = [function for function in self._functions.values() if function.kind == "httpTrigger"]
        # Fixed segments before placeholders, as the genuine host prefers them.
        http.sort(key=lambda function: ("{" in _route_of(function), _route_of(function)))
        routes = [
            Route(
                self._path(function), self._endpoint(function), methods=function.trigger.get("methods") or _ANY_METHOD
            )
            for function in http
        ]
        return Starlette(
            routes=[
                *routes,
                Route(_DELIVERIES, self._deliver, methods=["POST", "OPTIONS"]),
                Route("/topics/{topic}/api/events", self._publish, methods=["POST"]),
            ],
            exception_handlers={404: _not_found, 405: _not_found},
        )

    def _path(self, function: Function) -> str:
        def placeholder(match: re.Match[str]) -> str:
            star, name, constraint = match.groups()
            if star:
                return f"{{{name}:path}}"
            return f"{{{name}:int}}" if constraint in ("int", "long") else f"{{{name}}}"

        route = _TEMPLATE.sub(placeholder, _route_of(function))
        return "/" + "/".join(part for part in (self._prefix, route) if part)

    def _endpoint(self, function: Function) -> Callable[[Request], Awaitable[Response]]:
        level = str(function.trigger.get("authLevel") or "function").lower()

        async def endpoint(request: Request) -> Response:
            if level != "anonymous" and (stranger := self._stranger(request)) is not None:
                return stranger
            if level != "anonymous" and not self._has_key(request):
                return JSONResponse({"error": "This route needs a function key: x-functions-key or ?code="}, 401)
            body = await _read_body(request, self._max_body_bytes)
            if body is None:
                sentence = f"The body is larger than {self._max_body_bytes} bytes, the most that is taken."
                return JSONResponse({"error": sentence}, 413)
            value = http_request(
                method=request.method,
                url=str(request.url),
                headers=_headers(request),
                query={key: text for key, text in request.query_params.items() if text},
                route={key: str(text) for key, text in request.path_params.items()},
                body=body,
            )
            try:
                return _response(await self._invoker.invoke(function, value))
            except InvocationError as error:
                return JSONResponse({"error": str(error)}, 500)

        return endpoint

    def _stranger(self, request: Request) -> Response | None:
        sentence = refusal(request.headers, self._names)
        return None if sentence is None else JSONResponse({"error": sentence}, 403)

    def _has_key(self, request: Request) -> bool:
        given = (request.headers.get("x-functions-key") or request.query_params.get("code") or "").encode()
        return not self._keys or any(hmac.compare_digest(given, key) for key in self._keys)

    def _has_topic_key(self, request: Request) -> bool:
        given = (request.headers.get("aeg-sas-key") or request.query_params.get("code") or "").encode()
        return not self._topic_key or hmac.compare_digest(given, self._topic_key)

    async def _deliver(self, request: Request) -> Response:
        """Take a delivery of Event Grid. All events of a batch are taken, or the whole batch is delivered again."""
        if (stranger := self._stranger(request)) is not None:
            return stranger
        if not self._has_topic_key(request):
            return JSONResponse({"error": "Deliveries need the host's key: ?code="}, 401)
        function = self._functions.get(request.query_params.get("functionName", ""))
        if function is None or function.kind != "eventGridTrigger":
            return JSONResponse({"error": "There is no Event Grid function of this name."}, 404)
        if request.method == "OPTIONS":
            return _cloud_events_handshake(request)
        events = await _events(request, self._max_body_bytes)
        if isinstance(events, int):
            return JSONResponse({"error": "The body is no list of events, or too large."}, events)
        kind = request.headers.get("aeg-event-type", "Notification").lower()
        if kind == "subscriptionvalidation" or (len(events) == 1 and events[0].get("eventType") == _VALIDATION):
            return JSONResponse({"validationResponse": (events[0].get("data") or {}).get("validationCode", "")})
        if kind == "subscriptiondeletion":
            return Response(status_code=200)
        try:
            for event in events:
                await self._invoker.invoke(function, event_grid_event(event))
        except InvocationError as error:
            return JSONResponse({"error": str(error)}, 500)
        return Response(status_code=202)

    async def _publish(self, request: Request) -> Response:
        """Take events that somebody publishes to a topic, as the Event Grid client sends them."""
        if (stranger := self._stranger(request)) is not None:
            return stranger
        if not self._has_topic_key(request):
            message = "Publishing needs the key of the topic, in the header aeg-sas-key. It is in the data folder."
            return JSONResponse({"error": {"code": "Unauthorized", "message": message}}, 401)
        events = await _events(request, self._max_body_bytes)
        if isinstance(events, int):
            message = "The body is no list of events, or too large."
            return JSONResponse({"error": {"code": "BadRequest", "message": message}}, events)
        topic = request.path_params["topic"]
        for place, event in enumerate(events, 1):
            if not event.get("id") or not (event.get("eventType") or event.get("type")):
                message = (
                    f"Event {place} of {len(events)} has no id or no type: it is of neither schema. None was taken."
                )
                return JSONResponse({"error": {"code": "BadRequest", "message": message}}, 400)
        try:
            self._topics.accept(topic, events)
        except KeyError:
            return JSONResponse({"error": {"code": "NotFound", "message": f"There is no topic '{topic}'."}}, 404)
        return Response(status_code=200)


def _route_of(function: Function) -> str:
    route = function.trigger.get("route")
    return (function.name if route is None else str(route)).strip("/")


def _headers(request: Request) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


async def _read_body(request: Request, limit: int) -> bytes | None:
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limit:
        return None
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


async def _events(request: Request, limit: int) -> list[Json] | int:
    """Read the events of a body, or say with which status it is refused."""
    body = await _read_body(request, limit)
    if body is None:
        return 413
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return 400
    events = parsed if isinstance(parsed, list) else [parsed]
    return events if events and all(isinstance(event, dict) for event in events) else 400


def _cloud_events_handshake(request: Request) -> Response:
    origin = request.headers.get("webhook-request-origin", "")
    rate = request.headers.get("webhook-request-rate", "*")
    return Response(headers={"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": rate, "Allow": "POST"})


def _response(value: Any) -> Response:
    if value is None:
        return Response(status_code=204)
    if isinstance(value, HttpResponse):
        headers = dict(value.headers)
        if not any(name.lower() == "content-type" for name in headers):
            headers["content-type"] = f"{value.mimetype}; charset={value.charset}"
        return Response(value.get_body(), value.status_code, headers)
    return Response(str(value), media_type="text/plain")


async def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return JSONResponse({"error": f"There is no {request.method} {request.url.path} here."}, status)
