"""`/metrics` is what Prometheus reads, and counts what happened."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from scoring_asgi import ask, get, score, scorer_of

from mlops_core.serving.signature import ColumnSpec, Signature

SIGNATURE = Signature(columns=(ColumnSpec("a", "double"),))


def test_answers_and_errors_are_counted_by_status_and_kind() -> None:
    asked = [score([[1], [2]]), score([[1]]), score([["x"]]), score(b"{"), score(b"x", {"content-type": "text/csv"})]
    *_, answer = ask(scorer_of(SIGNATURE), *asked, get("/metrics"))

    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["headrace_scoring_requests_total", "200"] == 2
    assert samples["headrace_scoring_requests_total", "422"] == 1
    assert samples["headrace_scoring_requests_total", "400"] == 1
    assert samples["headrace_scoring_errors_total", "content_type"] == 1
    assert samples["headrace_scoring_seconds_count",] == 2
    assert samples["headrace_scoring_batch_rows_sum",] == 3
    assert samples["headrace_scoring_in_flight",] == 0
    assert samples["headrace_scoring_ready",] == 1
    assert samples["headrace_scoring_model_info", "model", "7"] == 1
