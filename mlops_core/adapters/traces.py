"""
One trace per run: across function calls, jobs and deployments, without passing anything from one to the other.

The trace's id is made from the run's id, so each call finds its trace by itself. What runs elsewhere, a job or the start of
a deployment, becomes a span when its end is heard of, with the times that the run's own facts have. Spans are handed to a
thread that imports OpenTelemetry and the exporter, which would cost a cold start half a second.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlops_core.domain import events as ev
from mlops_core.domain.effects import Effect
from mlops_core.domain.limits import cut
from mlops_core.domain.run import Run

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger(__name__)

_REASON_LETTERS = 1_000
_MOST_WAITING = 2_000
_BATCH = 100
_LONGEST_WAIT_SECONDS = 2.0
_FLUSH_SECONDS = 5.0
_NANOSECONDS = 1_000_000_000


def trace_of(run_id: str) -> int:
    """Make the trace id of a run: 128 bits, never zero."""
    return int.from_bytes(hashlib.sha256(f"trace {run_id}".encode()).digest()[:16], "big") or 1


def root_of(run_id: str) -> int:
    """Make the id of a run's root span: 64 bits, never zero."""
    return int.from_bytes(hashlib.sha256(f"root {run_id}".encode()).digest()[:8], "big") or 1


@dataclass(frozen=True)
class Span:
    """A span as plain values, until the exporting thread makes one of OpenTelemetry of it."""

    name: str
    run_id: str
    started_ns: int
    ended_ns: int
    attributes: Mapping[str, str | int | float | bool]
    failure: str = ""
    is_root: bool = False
    span_id: int = field(default_factory=lambda: int.from_bytes(os.urandom(8), "big") or 1)


class RunTraces:
    """
    The `Telemetry` of every backend that has an exporter.

    Args:
        make_exporter: Called on the exporting thread, once, with the first span.
    """

    def __init__(self, make_exporter: Callable[[], SpanExporter]) -> None:
        self._make_exporter = make_exporter
        self._spans: queue.Queue[Span | None] = queue.Queue(_MOST_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def event_taken(self, before: Run, after: Run, event: ev.Event) -> None:
        """Tell of an event; the end of a job or of a deployment's start also tells how long that was."""
        now = time.time_ns()
        changed = {"headrace.from": str(before.state), "headrace.to": str(after.state)}
        self._put(Span(f"event {event.kind}", after.id, now, now, {**_about(after), **changed}))
        match event:
            case ev.JobEnded():
                self._job_ended(after, event)
            case ev.DeploymentReady() | ev.DeploymentFailed():
                self._deployed(after, event)
        if after.ended and not before.ended:
            started, ended = _ns(after.created_at), max(_ns(after.updated_at), _ns(after.created_at))
            failure = "" if str(after.state) in ("built", "skipped", "retired") else f"{after.state}: {after.reason}"
            about = {**_about(after), "headrace.reason": cut(after.reason, _REASON_LETTERS)}
            self._put(Span(f"run {after.project}", after.id, started, ended, about, failure, is_root=True))

    def _job_ended(self, run: Run, event: ev.JobEnded) -> None:
        submitted = run.facts.get(ev.JobSubmitted, event.stage)
        if submitted is not None:
            failure = "" if event.outcome == "succeeded" else event.reason or event.outcome
            about = {**_about(run), "headrace.job": event.job_name}
            ended = max(_ns(event.at), _ns(submitted.at))
            self._put(Span(f"job {event.stage}", run.id, _ns(submitted.at), ended, about, failure))

    def _deployed(self, run: Run, event: ev.DeploymentReady | ev.DeploymentFailed) -> None:
        requested = run.facts.get(ev.DeploymentRequested)
        if requested is not None:
            failure = event.reason if isinstance(event, ev.DeploymentFailed) else ""
            ended = max(_ns(event.at), _ns(requested.at))
            self._put(Span("deployment start", run.id, _ns(requested.at), ended, _about(run), failure))

    @contextmanager
    def performing(self, run: Run, effect: Effect) -> Iterator[None]:
        """Tell how long an effect takes."""
        started, failure = time.time_ns(), ""
        try:
            yield
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
            raise
        finally:
            about = {**_about(run), "headrace.effect": effect.key}
            self._put(Span(f"effect {effect.kind}", run.id, started, time.time_ns(), about, failure))

    def _put(self, span: Span) -> None:
        try:
            self._spans.put_nowait(span)
        except queue.Full:
            self.dropped += 1
            return
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._export, name="traces", daemon=True)
                self._thread.start()
                atexit.register(self.flush)

    def flush(self) -> None:
        """Send what waits, for a few seconds at the most."""
        thread = self._thread
        if thread is not None and thread.is_alive():
            self._spans.put(None)
            thread.join(_FLUSH_SECONDS)

    def _export(self) -> None:
        try:
            exporter = self._make_exporter()
            while self._export_batch(exporter):
                continue
            exporter.shutdown()
        except Exception:
            # Traces are for looking at; a run must not notice that they cannot be sent.
            log.warning("traces cannot be sent", exc_info=True)

    def _export_batch(self, exporter: SpanExporter) -> bool:
        """Send the next spans. Returns False when no more will come."""
        first = self._spans.get()
        batch = [first] if first is not None else []
        deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
        ended = first is None
        while not ended and len(batch) < _BATCH:
            try:
                following = self._spans.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            ended = following is None
            if following is not None:
                batch.append(following)
        if batch:
            exporter.export(_readable(batch))
        return not ended


def _readable(spans: Sequence[Span]) -> list[ReadableSpan]:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    resource = Resource({"service.name": "headrace", "service.namespace": "headrace"})

    def context(run_id: str, span_id: int) -> SpanContext:
        return SpanContext(trace_of(run_id), span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    def made(span: Span) -> Any:
        root = root_of(span.run_id)
        return ReadableSpan(
            name=span.name,
            context=context(span.run_id, root if span.is_root else span.span_id),
            parent=None if span.is_root else context(span.run_id, root),
            kind=SpanKind.SERVER if span.is_root else SpanKind.INTERNAL,
            resource=resource,
            attributes=dict(span.attributes),
            start_time=span.started_ns,
            end_time=span.ended_ns,
            status=Status(StatusCode.ERROR, span.failure) if span.failure else Status(StatusCode.OK),
        )

    return [made(span) for span in spans]


def _about(run: Run) -> dict[str, str | int | float | bool]:
    found: dict[str, str | int | float | bool] = {
        "headrace.run_id": run.id,
        "headrace.project": run.project,
        "headrace.state": str(run.state),
        "headrace.trigger": run.trigger.kind,
    }
    if run.trigger.commit:
        found["headrace.commit"] = run.trigger.commit
    if run.model:
        found["headrace.model"] = run.model
    if run.version:
        found["headrace.version"] = run.version
    return found


def _ns(moment: datetime) -> int:
    return int(moment.timestamp() * _NANOSECONDS)
