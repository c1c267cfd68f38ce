"""The queries and alerts of docs/azure.md ask for what the code tells: names of spans, attributes, messages, functions."""

from __future__ import annotations

import ast
import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

from builders import make_bench
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mlops_core.adapters.traces import RunTraces

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "azure.md").read_text(encoding="utf-8")
(BLOCK,) = re.findall(r"```kusto\n(.*?)```", PAGE, flags=re.DOTALL)
QUERIES = {
    title.removeprefix("// "): query for title, _, query in (part.partition("\n") for part in BLOCK.split("\n\n"))
}
ALERTS = [line for line in PAGE.split("Alerts worth having")[1].split("## Upgrading")[0].splitlines() if "`" in line]


def told(folder: Path) -> list[Any]:
    """Read the spans of a delivery that goes well, and of one that fails."""
    exporter = InMemorySpanExporter()
    traces = RunTraces(lambda: exporter)
    bench = make_bench(folder, wrap=lambda world: replace(world, telemetry=traces))
    bench.deliver(bench.push(1))
    failing = bench.push(2)
    bench.drain()
    bench.end_job(failing, "build", "failed", "2 tests failed")
    bench.settle()
    traces.flush()
    return list(exporter.get_finished_spans())


def messages() -> set[str]:
    """Read every message that is logged, from the code."""
    found = set()
    for path in [*(CHECKOUT / "mlops_core").rglob("*.py"), CHECKOUT / "function_app.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_log = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if is_log and isinstance(node.func.value, ast.Name) and node.func.value.id == "log":  # type: ignore[attr-defined]
                found |= {part.value for part in node.args[:1] if isinstance(part, ast.Constant)}  # type: ignore[attr-defined]
    return found


def test_each_query_is_read_by_this_test() -> None:
    assert len(QUERIES) == BLOCK.count("// ") == 5


def test_names_and_attributes_in_the_queries_are_those_of_the_spans(tmp_path: Path) -> None:
    spans = told(tmp_path)
    for title, query in QUERIES.items():
        names = {
            name for found in re.findall(r"Name in \(([^)]*)\)", query) for name in re.findall(r'"([^"]+)"', found)
        }
        starts = re.findall(r'Name startswith "([^"]+)"', query)
        asked = [
            span
            for span in spans
            if (span.name in names if names else True) and all(span.name.startswith(start) for start in starts)
        ]
        assert names <= {span.name for span in spans}, title
        assert asked or "AppTraces" in query, title
        for attribute in re.findall(r'Properties\["([^"]+)"\]', query):
            assert all(attribute in span.attributes for span in asked), f"{title}: {attribute}"


def test_runs_are_requests_and_all_else_dependencies_as_the_queries_have_it(tmp_path: Path) -> None:
    """Spans of servers are kept as requests. Source: "Data model of Azure Monitor Application Insights"."""
    kinds = {(span.kind.name, span.name.startswith("run ")) for span in told(tmp_path)}
    assert kinds == {("SERVER", True), ("INTERNAL", False)}
    for query in QUERIES.values():
        if "Name startswith" in query:
            assert query.startswith("AppRequests")
        if "Name in" in query:
            assert query.startswith("AppDependencies")


def test_a_failed_run_tells_its_reason_where_the_query_looks_for_it(tmp_path: Path) -> None:
    (failed,) = [span for span in told(tmp_path) if span.name.startswith("run ") and not span.status.is_ok]
    assert failed.attributes["headrace.state"] == "failed"
    assert "2 tests failed" in failed.attributes["headrace.reason"]


def test_messages_that_queries_and_alerts_look_for_are_logged() -> None:
    logged = messages()
    wanted = re.findall(r'Message startswith "([^"]+)"', BLOCK)
    wanted += re.findall(r'`AppTraces` "([^"]+)"', "\n".join(ALERTS))
    assert len(wanted) >= 3
    for message in wanted:
        assert any(str(known).startswith(message) for known in logged), message


def test_functions_and_queues_that_alerts_name_are_there() -> None:
    functions = list(runpy.run_path(str(CHECKOUT / "function_app.py"))["app"].get_functions())
    named = re.findall(r"function `(\w+)`", "\n".join(ALERTS))
    assert named
    assert set(named) <= {function.get_function_name() for function in functions}
    # The host puts what it gives up into a queue of this name.
    queues = {function.get_trigger().get_dict_repr().get("queueName") for function in functions}
    assert set(re.findall(r"`([\w-]+)-poison`", "\n".join(ALERTS))) <= queues
