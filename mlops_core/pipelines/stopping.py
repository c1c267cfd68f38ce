"""
Early termination of trials: bandit, median stopping and truncation selection, as Azure ML v2 defines them. Pure.

Trials are compared at the same interval, the last that is to be judged and that the trial has reached: how fast a trial
is, and when somebody looks, decides nothing. Each report of the metric is one interval.
Source: "Early termination policies" in Azure ML's page on hyperparameter tuning.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import median

from mlops_core.pipelines.search_space import (
    BanditPolicy,
    EarlyTermination,
    MedianStoppingPolicy,
    TruncationSelectionPolicy,
)


def should_stop(
    policy: EarlyTermination,
    trial: str,
    histories: Mapping[str, Sequence[float]],
    *,
    maximize: bool,
    finished: Collection[str] = (),
) -> bool:
    """
    Tell whether a running trial is to be stopped now.

    Args:
        histories: Reported values of the metric by trial, in order; finished trials included.
        finished: Names of trials that ended.
    """
    reports = len(histories.get(trial, ()))
    interval = reports - reports % policy.evaluation_interval
    if interval == 0 or interval < policy.delay_evaluation:
        return False
    # Higher is better from here on, and what is no number is worse than any.
    until = {
        name: [_score(value, maximize=maximize) for value in values[:interval]]
        for name, values in histories.items()
        if len(values) >= interval
    }
    if len(until) == 1:
        return False
    best = {name: max(scores) for name, scores in until.items()}
    match policy:
        case BanditPolicy():
            return best[trial] < _bandit_limit(policy, max(best.values()))
        case MedianStoppingPolicy():
            return best[trial] < median(sum(scores) / interval for scores in until.values())
        case TruncationSelectionPolicy():
            left_out = set(finished) if policy.exclude_finished_jobs else set()
            # By name too, so that of equals no more are stopped than the percentage says.
            ranked = sorted((score, name) for name, score in best.items() if name == trial or name not in left_out)
            return trial in {name for _, name in ranked[: int(len(ranked) * policy.truncation_percentage / 100)]}


def _score(value: float, *, maximize: bool) -> float:
    if math.isnan(value):
        return -math.inf
    return value if maximize else -value


def _bandit_limit(policy: BanditPolicy, best: float) -> float:
    if policy.slack_amount is not None:
        return best - policy.slack_amount
    slack = policy.slack_factor or 0.0
    # For a metric to be minimised the scores are negative: best * (1 + slack) is further away then.
    return best / (1 + slack) if best >= 0 else best * (1 + slack)
