"""
Judge a challenger: pure comparison of metrics with the gates of a release.

"No verdict" is a value here, never a missing number: a gate whose metric is absent is failed with a sentence that says
which metrics there are, and comparison code cannot be reached without both numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import StrEnum

from mlops_core.domain.ids import ModelVersion
from mlops_core.domain.project import Gate
from mlops_core.domain.values import Value

# Where `goal` is not given, a word of the metric's name says which way is better: `val_accuracy`, `test r2`, `AUC_weighted`,
# `training_f1_score`. An error or a loss is one whatever else its name says (`brier_score`, `precision_loss`), unless it is
# negated as scikit-learn's scorers are (`neg_log_loss`).
_ERRORS = frozenset(
    {"loss", "logloss", "error", "errors", "err", "rmse", "mse", "mae", "mape", "smape", "wape", "rmsle", "deviance",
     "brier", "perplexity", "wer", "cer", "latency", "regret", "hamming"}
)  # fmt: skip
_MERITS = frozenset(
    {"accuracy", "acc", "auc", "roc", "auroc", "auprc", "aucpr", "precision", "recall", "f1", "fbeta", "f2", "r2",
     "score", "specificity", "sensitivity", "explained", "correlation", "kappa", "mcc", "gini", "lift", "ndcg", "mrr", "map",
     "iou", "miou", "dice", "jaccard", "bleu", "rouge", "meteor", "silhouette", "likelihood"}
)  # fmt: skip


class Outcome(StrEnum):
    """What a gate answered."""

    PASSED = "passed"
    FAILED = "failed"
    WAIVED = "waived"
    PENDING = "pending"


class Verdict(Value):
    """
    What one gate answered about one segment, with its numbers.

    Attributes:
        gate: The rule in words, such as `rmse at most 60`. Together with `segment` it identifies the verdict.
        measured: The challenger's number; None when the registry has none.
        limit: The number it was held against; None when there was none.
    """

    gate: str
    metric: str
    segment: str | None = None
    outcome: Outcome
    measured: float | None = None
    limit: float | None = None
    reason: str


class Evidence(Value):
    """
    The numbers of one model version.

    Attributes:
        data_version: What the metrics were measured on, where the registry knows; two different ones make a comparison
            unfair, and the verdict says so.
    """

    version: ModelVersion
    metrics: Mapping[str, float]
    data_version: str | None = None


def judge(gates: tuple[Gate, ...], challenger: Evidence, champion: Evidence | None) -> tuple[Verdict, ...]:
    """
    Judge a challenger by each gate.

    Args:
        champion: The version in service; None when there is none, which relative gates pass and say.
    Returns: At least one verdict per gate; a gate with `by` gives one per segment.
    """
    return tuple(verdict for gate in gates for verdict in _judge_gate(gate, challenger, champion))


def describe(gate: Gate) -> str:
    """Say a gate's rule in words."""
    segment = f" for each {gate.by}" if gate.by else ""
    if gate.max is not None:
        return f"{gate.metric} at most {gate.max:g}{segment}"
    if gate.min is not None:
        return f"{gate.metric} at least {gate.min:g}{segment}"
    tolerance = f" (tolerance {gate.tolerance:.4g})" if gate.tolerance else ""
    return f"{gate.metric} no worse than the champion's{tolerance}{segment}"


def _judge_gate(gate: Gate, challenger: Evidence, champion: Evidence | None) -> list[Verdict]:
    if gate.by is None:
        return [_judge_metric(gate, gate.metric, None, challenger, champion)]
    prefix = f"{gate.metric}/{gate.by}/"
    # A segment of the champion's that the challenger says nothing about is no better for that.
    known = set(challenger.metrics) | set(champion.metrics if champion and gate.no_worse_than else ())
    names = sorted(name for name in known if name.startswith(prefix))
    if not names:
        return [_absent(gate, f"{prefix}<value>", None, challenger)]
    return [_judge_metric(gate, name, name.removeprefix(prefix), challenger, champion) for name in names]


def _judge_metric(
    gate: Gate, name: str, segment: str | None, challenger: Evidence, champion: Evidence | None
) -> Verdict:
    measured = challenger.metrics.get(name)
    if measured is None:
        return _absent(gate, name, segment, challenger)
    if not math.isfinite(measured):
        reason = f"'{name}' of version {challenger.version} is {measured}, which is no number to judge by."
        return _verdict(gate, segment, Outcome.FAILED, None, None, reason)
    if gate.no_worse_than is not None:
        return _judge_against_champion(gate, name, segment, measured, champion, challenger)
    limit = gate.max if gate.max is not None else gate.min
    if limit is None:
        raise AssertionError("a gate without a rule passed its own validation")
    passed = measured <= limit if gate.max is not None else measured >= limit
    word = "at most" if gate.max is not None else "at least"
    return _verdict(
        gate, segment, Outcome.PASSED if passed else Outcome.FAILED, measured, limit,
        f"'{name}' is {measured:g}; it must be {word} {limit:g}.",
    )  # fmt: skip


def _judge_against_champion(
    gate: Gate,
    name: str,
    segment: str | None,
    measured: float,
    champion: Evidence | None,
    challenger: Evidence,
) -> Verdict:
    if champion is None:
        reason = f"'{name}' is {measured:g}; there is no champion yet, so there is nothing to be worse than."
        return _verdict(gate, segment, Outcome.PASSED, measured, None, reason)
    theirs = champion.metrics.get(name)
    if theirs is None or not math.isfinite(theirs):
        reason = (
            f"the champion, version {champion.version}, has no usable metric '{name}', so nobody can tell which is "
            "better. Log it for the champion, or waive this gate."
        )
        return _verdict(gate, segment, Outcome.FAILED, measured, None, reason)
    larger = is_larger_better(gate)
    slack = abs(theirs) * gate.tolerance
    limit = theirs - slack if larger else theirs + slack
    passed = measured >= limit if larger else measured <= limit
    reason = (
        f"'{name}' is {measured:g}; the champion, version {champion.version}, has {theirs:g}, "
        f"so it must be at {'least' if larger else 'most'} {limit:g}."
    )
    if not _is_direction_known(gate):
        reason += f" Smaller '{gate.metric}' is taken as better; where it is not, give the gate 'goal: maximize'."
    if champion.data_version != challenger.data_version:
        reason += (
            f" The two were measured on different data ('{challenger.data_version or 'unknown'}' and "
            f"'{champion.data_version or 'unknown'}')."
        )
    return _verdict(gate, segment, Outcome.PASSED if passed else Outcome.FAILED, measured, limit, reason)


def is_larger_better(gate: Gate) -> bool:
    """Tell in which direction a metric improves: by `goal`, else by the words of its name, else smaller is better."""
    if gate.goal is not None:
        return gate.goal == "maximize"
    words = _words(gate.metric)
    return "neg" in words if words & _ERRORS else bool(words & _MERITS)


def _is_direction_known(gate: Gate) -> bool:
    return gate.goal is not None or bool(_words(gate.metric) & (_ERRORS | _MERITS))


def _words(metric: str) -> frozenset[str]:
    return frozenset(re.split(r"[^a-z0-9]+", metric.lower()))


def _absent(gate: Gate, name: str, segment: str | None, challenger: Evidence) -> Verdict:
    known = ", ".join(sorted(challenger.metrics)[:20]) or "none at all"
    reason = (
        f"version {challenger.version} has no metric '{name}' (it has: {known}). "
        "Log it in the MLflow run that the version comes from."
    )
    return _verdict(gate, segment, Outcome.FAILED, None, None, reason)


def _verdict(
    gate: Gate,
    segment: str | None,
    outcome: Outcome,
    measured: float | None,
    limit: float | None,
    reason: str,
) -> Verdict:
    return Verdict(
        gate=describe(gate), metric=gate.metric, segment=segment, outcome=outcome, measured=measured, limit=limit,
        reason=reason,
    )  # fmt: skip
