"""Durations, shares, identifiers and people's wishes."""

from __future__ import annotations

import pytest
from builders import Bench
from pydantic import TypeAdapter, ValidationError

from mlops_core.domain.errors import RefusedError
from mlops_core.domain.ids import ModelName, ModelVersion, deployment_of_version
from mlops_core.domain.requests import Decision
from mlops_core.domain.values import Duration, Fraction

DURATION: TypeAdapter[float] = TypeAdapter(Duration)
FRACTION: TypeAdapter[float] = TypeAdapter(Fraction)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("10m", 600.0), ("2h", 7200.0), ("7d", 604_800.0), ("1.5 h", 5400.0)]
)
def test_a_duration_is_read_with_its_unit(text: str, seconds: float) -> None:
    assert DURATION.validate_python(text) == seconds
    assert DURATION.validate_json(DURATION.dump_json(seconds)) == seconds


@pytest.mark.parametrize("wrong", [30, 1.5, "30", "ten minutes", "-5m", "0s", True, None])
def test_a_duration_without_a_unit_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError):
        DURATION.validate_python(wrong)


@pytest.mark.parametrize(("text", "share"), [("1%", 0.01), ("12.5 %", 0.125), (0.2, 0.2), ("0.3", 0.3)])
def test_a_share_is_read_as_percentage_or_fraction(text: object, share: float) -> None:
    assert FRACTION.validate_python(text) == pytest.approx(share)


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="is no share"):
        FRACTION.validate_python("a bit")


@pytest.mark.parametrize(
    ("model", "version", "name"),
    [("diabetes", "3", "diabetes-v3"), ("taxi-model", "12", "taxi-model-v12")],
)
def test_a_deployment_is_named_after_model_and_version(model: str, version: str, name: str) -> None:
    assert deployment_of_version(ModelName(model), ModelVersion(version)) == name


def test_names_that_must_be_changed_do_not_meet() -> None:
    long = ModelName("m" * 90)
    names = {
        deployment_of_version(ModelName("Taxi"), ModelVersion("1")),
        deployment_of_version(ModelName("taxi"), ModelVersion("1")),
        deployment_of_version(long, ModelVersion("1")),
        deployment_of_version(ModelName(long + "n"), ModelVersion("1")),
    }

    assert len(names) == 4
    assert all(len(name) <= 63 for name in names)


def test_a_live_run_cannot_be_cancelled_and_the_way_back_is_named(bench: Bench) -> None:
    run_id = bench.push()
    bench.deliver(run_id)

    with pytest.raises(RefusedError, match="headrace rollback diabetes"):
        bench.app.controller.decide(run_id, Decision(wish="cancel", by="ada"))


def test_a_run_that_ended_cannot_be_cancelled(bench: Bench) -> None:
    run_id = bench.push()
    bench.drain()
    bench.end_job(run_id, "build", "failed", "2 of 14 tests failed")

    with pytest.raises(RefusedError, match=r"it is 'failed'\. There is nothing to cancel"):
        bench.app.controller.decide(run_id, Decision(wish="cancel", by="ada"))


def test_only_failed_gates_can_be_waived(bench: Bench) -> None:
    run_id = bench.push()
    bench.drain()

    with pytest.raises(RefusedError, match="has no failed gates to waive"):
        bench.app.controller.decide(run_id, Decision(wish="waive", by="ada", reason="because"))


def test_waiving_needs_a_reason(bench: Bench) -> None:
    run_id = bench.push()
    bench.deliver(run_id, rmse=99)

    with pytest.raises(RefusedError, match="needs a reason"):
        bench.app.controller.decide(run_id, Decision(wish="waive", by="ada"))
