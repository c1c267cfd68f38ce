"""Gates: each rule, each direction, segments, and what happens where a number is missing."""

from __future__ import annotations

import math

import pytest

from mlops_core.domain.gates import Evidence, Outcome, describe, is_larger_better, judge
from mlops_core.domain.ids import ModelVersion
from mlops_core.domain.project import Gate


def evidence(version: str = "2", data_version: str | None = None, **metrics: float) -> Evidence:
    names = {name.replace("__", "/"): value for name, value in metrics.items()}
    return Evidence(version=ModelVersion(version), metrics=names, data_version=data_version)


def gate(**rule: object) -> Gate:
    return Gate.model_validate({"metric": "rmse", **rule})


def outcome(rule: Gate, challenger: Evidence, champion: Evidence | None = None) -> Outcome:
    verdicts = judge((rule,), challenger, champion)
    assert len(verdicts) == 1
    return verdicts[0].outcome


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        ({"max": 60}, 60.0, Outcome.PASSED),
        ({"max": 60}, 60.01, Outcome.FAILED),
        ({"min": 0.8, "metric": "auc"}, 0.8, Outcome.PASSED),
        ({"min": 0.8, "metric": "auc"}, 0.79, Outcome.FAILED),
    ],
    ids=str,
)
def test_a_limit_is_met_or_not(rule: dict[str, object], value: float, expected: Outcome) -> None:
    metric = str(rule.get("metric", "rmse"))

    assert outcome(gate(**rule), evidence(**{metric: value})) is expected


@pytest.mark.parametrize(
    ("metric", "challenger", "champion", "tolerance", "expected"),
    [
        ("rmse", 50.4, 50.0, 0.01, Outcome.PASSED),
        ("rmse", 50.6, 50.0, 0.01, Outcome.FAILED),
        ("r2", 0.495, 0.5, 0.01, Outcome.PASSED),
        ("r2", 0.494, 0.5, 0.01, Outcome.FAILED),
        ("rmse", 50.0, 50.0, 0.0, Outcome.PASSED),
        ("r2", -0.505, -0.5, 0.01, Outcome.PASSED),
        ("r2", -0.506, -0.5, 0.01, Outcome.FAILED),
    ],
    ids=str,
)
def test_a_challenger_is_held_against_the_champion_in_the_metrics_own_direction(
    metric: str, challenger: float, champion: float, tolerance: float, expected: Outcome
) -> None:
    rule = gate(metric=metric, no_worse_than="champion", tolerance=tolerance)

    assert outcome(rule, evidence(**{metric: challenger}), evidence("1", **{metric: champion})) is expected


def test_without_a_champion_a_relative_gate_passes_and_says_so() -> None:
    verdict = judge((gate(no_worse_than="champion"),), evidence(rmse=50), None)[0]

    assert verdict.outcome is Outcome.PASSED
    assert "there is no champion yet" in verdict.reason


def test_a_champion_without_the_metric_fails_the_gate_and_says_what_to_do() -> None:
    verdict = judge((gate(no_worse_than="champion"),), evidence(rmse=50), evidence("1", mae=40))[0]

    assert verdict.outcome is Outcome.FAILED
    assert "has no usable metric 'rmse'" in verdict.reason


def test_a_missing_metric_fails_the_gate_and_names_those_that_there_are() -> None:
    verdict = judge((gate(max=60),), evidence(mae=40.0, r2=0.5), None)[0]

    assert verdict.outcome is Outcome.FAILED
    assert "has no metric 'rmse' (it has: mae, r2)" in verdict.reason


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_passes_no_gate(value: float) -> None:
    assert outcome(gate(max=60), evidence(rmse=value)) is Outcome.FAILED
    assert outcome(gate(min=0), evidence(rmse=value)) is Outcome.FAILED


def test_a_gate_by_segment_gives_a_verdict_for_each() -> None:
    challenger = evidence(rmse=50, rmse__sex__1=40.0, rmse__sex__2=75.0)
    verdicts = judge((gate(max=70, by="sex"),), challenger, None)

    assert [(verdict.segment, verdict.outcome) for verdict in verdicts] == [
        ("1", Outcome.PASSED),
        ("2", Outcome.FAILED),
    ]


def test_a_segment_that_only_the_champion_has_fails_a_comparison_with_it() -> None:
    """A version that says nothing about some people is not better for them."""
    rule = gate(no_worse_than="champion", by="sex")
    verdicts = judge((rule,), evidence(rmse__sex__1=40), evidence("1", rmse__sex__1=50, rmse__sex__2=50))

    assert [(verdict.segment, verdict.outcome) for verdict in verdicts] == [
        ("1", Outcome.PASSED),
        ("2", Outcome.FAILED),
    ]
    assert "version 2 has no metric 'rmse/sex/2'" in verdicts[1].reason


def test_a_gate_by_segment_without_segments_fails_and_names_what_is_looked_for() -> None:
    verdict = judge((gate(max=70, by="sex"),), evidence(rmse=50), None)[0]

    assert verdict.outcome is Outcome.FAILED
    assert "'rmse/sex/<value>'" in verdict.reason


@pytest.mark.parametrize(("rule", "said"), [({}, True), ({"goal": "minimize"}, False)])
def test_a_direction_that_nobody_gave_is_said(rule: dict[str, object], said: bool) -> None:
    rule = {"metric": "profit", "no_worse_than": "champion", **rule}
    verdict = judge((gate(**rule),), evidence(profit=9.0), evidence("1", profit=10.0))[0]

    assert verdict.outcome is Outcome.PASSED
    assert ("give the gate 'goal: maximize'" in verdict.reason) is said


def test_numbers_of_different_data_are_said_to_be() -> None:
    verdict = judge(
        (gate(no_worse_than="champion"),), evidence(data_version="b", rmse=50), evidence("1", "a", rmse=51)
    )[0]

    assert "measured on different data ('b' and 'a')" in verdict.reason


@pytest.mark.parametrize(
    ("rule", "larger"),
    [
        ({"metric": "roc_auc", "no_worse_than": "champion"}, True),
        ({"metric": "test/accuracy", "no_worse_than": "champion"}, True),
        ({"metric": "log_loss", "no_worse_than": "champion"}, False),
        ({"metric": "test r2", "no_worse_than": "champion"}, True),
        ({"metric": "val_accuracy", "no_worse_than": "champion"}, True),
        ({"metric": "training_f1_score", "no_worse_than": "champion"}, True),
        ({"metric": "AUC_weighted", "no_worse_than": "champion"}, True),
        ({"metric": "explained_variance", "no_worse_than": "champion"}, True),
        ({"metric": "test rmse", "no_worse_than": "champion"}, False),
        ({"metric": "brier_score", "no_worse_than": "champion"}, False),
        ({"metric": "mean_squared_error", "no_worse_than": "champion"}, False),
        ({"metric": "neg_mean_squared_error", "no_worse_than": "champion"}, True),
        ({"metric": "profit", "no_worse_than": "champion"}, False),
        ({"metric": "profit", "no_worse_than": "champion", "goal": "maximize"}, True),
        ({"metric": "accuracy", "no_worse_than": "champion", "goal": "minimize"}, False),
    ],
    ids=str,
)
def test_the_direction_is_the_declared_goal_else_the_metrics_well_known_one(
    rule: dict[str, object], larger: bool
) -> None:
    assert is_larger_better(gate(**rule)) is larger


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"max": 60}, "rmse at most 60"),
        ({"min": 0.5, "metric": "r2"}, "r2 at least 0.5"),
        ({"max": 60, "by": "sex"}, "rmse at most 60 for each sex"),
        ({"no_worse_than": "champion", "tolerance": "1%"}, "rmse no worse than the champion's (tolerance 0.01)"),
    ],
    ids=str,
)
def test_a_gate_is_said_in_words(rule: dict[str, object], words: str) -> None:
    assert describe(gate(**rule)) == words


@pytest.mark.parametrize("rule", [{}, {"max": 1, "min": 0}, {"max": 1, "no_worse_than": "champion"}], ids=str)
def test_a_gate_has_exactly_one_rule(rule: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="exactly one of max, min and no_worse_than"):
        gate(**rule)
