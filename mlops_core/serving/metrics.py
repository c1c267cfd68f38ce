"""What `/metrics` tells, in Prometheus' words. One registry per app, so that two apps in one process do not meet."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class ScoringMetrics:
    """Counters of one app."""

    def __init__(self, name: str, version: str) -> None:
        self._registry = CollectorRegistry()
        answered = Counter("headrace_scoring_requests", "Answers to /score", ["status"], registry=self._registry)
        self._errors = Counter("headrace_scoring_errors", "Errors by kind", ["kind"], registry=self._registry)
        self._seconds = Histogram(
            "headrace_scoring_seconds", "From the body's end to the answer", buckets=_SECONDS, registry=self._registry
        )
        self.batch_rows = Histogram(
            "headrace_scoring_batch_rows", "Rows per call", buckets=_SIZES, registry=self._registry
        )
        self.batch_requests = Histogram(
            "headrace_scoring_batch_requests", "Requests per call", buckets=_SIZES, registry=self._registry
        )
        self.in_flight = Gauge("headrace_scoring_in_flight", "Requests not answered yet", registry=self._registry)
        self.ready = Gauge("headrace_scoring_ready", "1 when the model is loaded", registry=self._registry)
        info = Gauge("headrace_scoring_model_info", "Always 1", ["model", "version"], registry=self._registry)
        info.labels(name, version).set(1)
        self._answered = answered
        self._ok = answered.labels("200")

    def count_answer(self, seconds: float) -> None:
        """Count a good answer."""
        self._ok.inc()
        self._seconds.observe(seconds)

    def count_error(self, status: int, kind: str) -> None:
        """Count an answer that was an error."""
        self._answered.labels(str(status)).inc()
        self._errors.labels(kind).inc()

    def exposition(self) -> bytes:
        """Give the text that Prometheus reads."""
        return generate_latest(self._registry)
