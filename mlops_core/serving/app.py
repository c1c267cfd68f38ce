"""
The HTTP side: bare ASGI, since a framework's routing and middleware cost as much as a small model.

An answer is Azure ML's bare list for `input_data` and bare lists, and MLflow's `{"predictions": ...}` for MLflow's
forms; the prediction's id and the model's version ride in headers, so existing clients of either keep working, and in
the body where `?details=true` asks.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Optional

from mlops_core.serving.answers import to_json
from mlops_core.serving.batching import Batcher, ModelThread
from mlops_core.serving.bodies import Receive, read_body
from mlops_core.serving.errors import (
    BodyTooLargeError,
    ModelLoadError,
    ModelRaisedError,
    NotReadyError,
    ScoringError,
)
from mlops_core.serving.metrics import ScoringMetrics
from mlops_core.serving.openapi import openapi
from mlops_core.serving.options import Options
from mlops_core.serving.page import page
from mlops_core.serving.schemas import example_request
from mlops_core.serving.scorers import Declared, Question, RawAnswer, Scorer

_log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_JSON = b"application/json"
_OK = 200
_NOTHING = Declared(None, None)
_REQUEST_ID, _LONGEST_ID = b"x-request-id", 200
_PATHS = {
    "/": "GET",
    "/score": "POST",
    "/schema": "GET",
    "/metrics": "GET",
    "/health/live": "GET",
    "/health/ready": "GET",
}


@dataclass(frozen=True)
class Answered:
    """A good answer that was sent; what whoever records predictions gets to see."""

    prediction_id: str
    question: Question
    predictions: Any
    seconds: float


AfterAnswer = Callable[[Answered], None]


class ScoringApp:
    """One model behind HTTP. `after_answer` is called on the event loop once an answer was sent: it must not block."""

    def __init__(
        self,
        options: Options,
        load: Callable[[], Scorer],
        *,
        after_answer: Optional[AfterAnswer] = None,  # noqa: UP045 - read at run time by Python 3.9
        on_load_failure: Optional[Callable[[], None]] = None,  # noqa: UP045 - as above
    ) -> None:
        self._options = options
        self._load = load
        self._after_answer = after_answer
        self._on_load_failure = on_load_failure
        self._metrics = ScoringMetrics(options.name, options.version)
        self._scorer: Scorer | None = None
        self._stopping = False
        self._batcher: Batcher | None = None
        self._not_ready = "The model is still loading. Try again in a moment."
        self._model_headers = [
            (b"x-headrace-model", options.name.encode("latin-1", "replace")),
            (b"x-headrace-model-version", options.version.encode("latin-1", "replace")),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            path = scope["path"]
            if path == "/score" and scope["method"] == "POST":
                await self._score(scope, receive, send)
            else:
                await self._read_only(path, scope, send)

    def stop_taking(self) -> None:
        """Say "not ready" from now on; requests that are here, or still come in on open connections, are answered."""
        self._stopping = True
        self._metrics.ready.set(0)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._start_loading()
                await send({"type": "lifespan.startup.complete"})
            else:
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _start_loading(self) -> None:
        loop, thread, start = asyncio.get_running_loop(), ModelThread(), time.perf_counter()

        def job() -> None:
            try:
                scorer = self._load()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - user code runs here; the reason is shown, then the process ends
                loop.call_soon_threadsafe(self._failed, error)
            else:
                loop.call_soon_threadsafe(self._loaded, scorer, thread, time.perf_counter() - start)

        thread.run(job)

    def _loaded(self, scorer: Scorer, thread: ModelThread, seconds: float) -> None:
        self._batcher = Batcher(scorer, thread, self._options, self._metrics)
        self._scorer = scorer
        self._metrics.ready.set(1)
        _log.info("model %s version %s is ready after %.2f s", self._options.name, self._options.version, seconds)

    def _failed(self, error: BaseException) -> None:
        self._not_ready = (
            str(error) if isinstance(error, ModelLoadError) else f"Loading raised {type(error).__name__}: {error}"
        )
        _log.error("the model was not loaded: %s", self._not_ready, exc_info=error.__cause__ or error)
        if self._on_load_failure is not None:
            self._on_load_failure()

    async def _score(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._metrics.in_flight.inc()
        # The caller's own id goes back as it came, so that both sides' logs can be put together.
        headers = [pair for pair in scope["headers"] if pair[0] == _REQUEST_ID and len(pair[1]) <= _LONGEST_ID]
        headers += self._model_headers
        try:
            await self._answer(scope, receive, send, headers)
        except ScoringError as error:
            await self._refuse(error, send, headers)
        except Exception as error:  # noqa: BLE001 - a client gets a sentence whatever its data or the answer did
            error_id = uuid.uuid4().hex[:12]
            _log.error("a request raised, error id %s", error_id, exc_info=error)
            await self._refuse(ModelRaisedError(error_id), send, headers)
        finally:
            self._metrics.in_flight.dec()

    async def _refuse(self, error: ScoringError, send: Send, headers: Headers) -> None:
        if error.retry_after_seconds is not None:
            headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
        if isinstance(error, BodyTooLargeError):
            headers.append((b"connection", b"close"))
        self._metrics.count_error(error.status, error.kind)
        await _respond(send, error.status, to_json(error.body()), headers)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        scorer, batcher = self._scorer, self._batcher
        if scorer is None or batcher is None:
            raise NotReadyError(self._not_ready)
        body = await read_body(scope, receive, limit=self._options.max_body_bytes, needs_json=scorer.needs_json)
        start = time.perf_counter()
        question = scorer.read(body)
        answer = await batcher.ask(question)
        prediction_id = uuid.uuid4().hex
        headers.append((b"x-headrace-prediction-id", prediction_id.encode()))
        if isinstance(answer, RawAnswer):
            await _respond(send, answer.status, answer.body, headers, answer.content_type.encode("latin-1", "replace"))
        else:
            await _respond(send, 200, to_json(self._wrapped(answer, question, prediction_id, scope)), headers)
        seconds = time.perf_counter() - start
        if isinstance(answer, RawAnswer) and answer.status != _OK:
            self._metrics.count_error(answer.status, "script")
        else:
            self._metrics.count_answer(seconds)
        if self._after_answer is not None:
            self._after_answer(Answered(prediction_id, question, answer, seconds))

    def _wrapped(self, answer: Any, question: Question, prediction_id: str, scope: Scope) -> Any:
        if b"details=true" in scope["query_string"]:
            model = {"name": self._options.name, "version": self._options.version}
            return {"predictions": answer, "prediction_id": prediction_id, "model": model}
        return {"predictions": answer} if question.wraps_answer else answer

    async def _read_only(self, path: str, scope: Scope, send: Send) -> None:
        allowed = _PATHS.get(path)
        if allowed is None:
            known = ", ".join(_PATHS)
            content = {"error": f"There is nothing at '{path}'. Known paths: {known}.", "kind": "not_found"}
            await _respond(send, 404, to_json(content), [])
        elif scope["method"] not in (allowed, "HEAD" if allowed == "GET" else allowed):
            content = {"error": f"'{path}' takes {allowed}, not {scope['method']}.", "kind": "method"}
            await _respond(send, 405, to_json(content), [(b"allow", allowed.encode())])
        else:
            status, body, content_type = self._read(path, scope)
            await _respond(send, status, body, self._model_headers, content_type)

    def _read(self, path: str, scope: Scope) -> tuple[int, bytes, bytes]:
        name, version = self._options.name, self._options.version
        signature = self._scorer.signature if self._scorer is not None else None
        state = self._state()
        if path == "/health/live":
            return 200, to_json({"status": "live"}), _JSON
        if path == "/health/ready":
            ready = self._scorer is not None and not self._stopping
            content = {"status": "ready" if ready else "not ready", "reason": state, "model": name, "version": version}
            return 200 if ready else 503, to_json(content), _JSON
        if path == "/metrics":
            return 200, self._metrics.exposition(), b"text/plain; version=0.0.4; charset=utf-8"
        if path == "/schema":
            if self._scorer is None:
                return 503, to_json({"error": state, "kind": "not_ready"}), _JSON
            takes_any_body, declared = not self._scorer.needs_json, self._scorer.declared
            described = openapi(name, version, signature, takes_any_body=takes_any_body, declared=declared)
            return 200, to_json(described), _JSON
        host = next((value.decode("latin-1") for key, value in scope["headers"] if key == b"host"), "localhost")
        declared_example = ((self._scorer.declared if self._scorer else None) or _NOTHING).request or {}
        example = declared_example.get("example", example_request(signature))
        return 200, page(name, version, state, example, host), b"text/html; charset=utf-8"

    def _state(self) -> str:
        if self._stopping:
            return "The process is stopping. Send requests to another one."
        if self._scorer is None:
            return self._not_ready
        return (
            "Ready."
            if self._scorer.signature is not None
            else "Ready. The model has no signature, so requests are not checked."
        )


async def _respond(send: Send, status: int, body: bytes, headers: Headers, content_type: bytes = _JSON) -> None:
    full = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": full})
    await send({"type": "http.response.body", "body": body})
