"""One trace per run: what is in it, and that nothing about it can hurt a run."""

from __future__ import annotations

import gzip
import json
import logging
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from builders import Bench, make_bench

from mlops_core.adapters.azure.insights import insights_exporter, write_fields
from mlops_core.adapters.traces import RunTraces, root_of, trace_of
from mlops_core.domain.errors import TemporaryError


class Collected:
    """The in-memory exporter of OpenTelemetry itself."""

    def __init__(self) -> None:
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self.exporter = InMemorySpanExporter()
        self.traces = RunTraces(lambda: self.exporter)

    def spans(self) -> list[Any]:
        self.traces.flush()
        return list(self.exporter.get_finished_spans())


def traced(folder: Path, traces: RunTraces, **options: Any) -> Bench:
    return make_bench(folder, wrap=lambda world: replace(world, telemetry=traces), **options)


def test_a_delivery_is_one_trace_with_its_jobs_and_its_deployment(tmp_path: Path) -> None:
    collected = Collected()
    bench = traced(tmp_path, collected.traces)
    run_id = bench.push()
    bench.deliver(run_id)
    assert bench.state(run_id) == "live"
    spans = collected.spans()
    assert {span.context.trace_id for span in spans} == {trace_of(run_id)}
    assert {span.parent.span_id for span in spans if span.parent} == {root_of(run_id)}
    names = {span.name for span in spans}
    assert {"job build", "job train", "deployment start", "effect submit_job", "event traffic_shifted"} <= names
    assert all(span.attributes["headrace.run_id"] == run_id for span in spans)


def test_two_function_apps_tell_of_the_same_run_in_the_same_trace(tmp_path: Path) -> None:
    first, second = Collected(), Collected()
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    ids = [traced(tmp_path / name, kept.traces).push() for name, kept in (("1", first), ("2", second))]
    assert ids[0] == ids[1]
    assert {span.context.trace_id for kept in (first, second) for span in kept.spans()} <= {trace_of(ids[0])}


def test_a_failed_run_ends_its_trace_with_the_reason(tmp_path: Path) -> None:
    collected = Collected()
    bench = traced(tmp_path, collected.traces)
    run_id = bench.push()
    bench.drain()
    bench.end_job(run_id, "build", "failed", "the tests failed")
    (root,) = [span for span in collected.spans() if span.parent is None]
    assert root.context.span_id == root_of(run_id)
    assert root.status.status_code.name == "ERROR"
    assert "the tests failed" in root.status.description
    assert root.end_time >= root.start_time


def test_an_effect_that_raises_is_a_failed_span(tmp_path: Path) -> None:
    collected = Collected()
    bench = traced(tmp_path, collected.traces)

    def hiccup(_: object) -> None:
        raise TemporaryError("the job runner hiccups")

    bench.jobs.submit = hiccup  # type: ignore[method-assign] - this bench only
    bench.push()
    bench.drain()
    failed = [span for span in collected.spans() if span.name == "effect submit_job"]
    assert {span.status.description for span in failed} == {"TemporaryError: the job runner hiccups"}


def test_an_exporter_that_breaks_stops_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Any:
        raise OSError("no exporter")

    traces = RunTraces(broken)
    bench = traced(tmp_path, traces)
    run_id = bench.push()
    bench.deliver(run_id)
    traces.flush()
    assert bench.state(run_id) == "live"
    assert "traces cannot be sent" in caplog.text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_genuine_exporter_sends_the_trace_to_application_insights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[dict[str, Any]] = []

    class Ingestion(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            text = gzip.decompress(raw) if self.headers.get("content-encoding") == "gzip" else raw
            items = json.loads(text) if text.startswith(b"[") else [json.loads(line) for line in text.splitlines()]
            received.extend(items)
            answer = json.dumps({"itemsReceived": len(items), "itemsAccepted": len(items), "errors": []}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Ingestion)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    # What it tells Microsoft about itself is none of this test's.
    monkeypatch.setenv("APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL", "true")
    key = "00000000-0000-0000-0000-000000000001"
    address = f"InstrumentationKey={key};IngestionEndpoint=http://127.0.0.1:{server.server_port}"
    traces = RunTraces(lambda: insights_exporter(address, None))
    bench = traced(tmp_path, traces)
    run_id = bench.push()
    bench.deliver(run_id)
    traces.flush()
    deadline = time.monotonic() + 10
    while not received and time.monotonic() < deadline:
        time.sleep(0.05)
    server.shutdown()
    server.server_close()
    thread.join()
    items = [
        item for item in received if item["data"]["baseData"].get("name", "").startswith(("job", "effect", "event"))
    ]
    assert {item["tags"]["ai.operation.id"] for item in items} == {f"{trace_of(run_id):032x}"}
    assert {item["data"]["baseData"]["properties"]["headrace.run_id"] for item in items} == {run_id}


def test_the_fields_of_a_log_line_are_in_its_message_once(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("headrace.own")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    first, second = logging.StreamHandler(), logging.StreamHandler()
    for handler in (first, second):
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    write_fields(logger)
    write_fields(logger)
    logger.info("event taken %s", "now", extra={"run_id": "diabetes-1", "to": "live"})
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["event taken now run_id=diabetes-1 to=live"] * 2
