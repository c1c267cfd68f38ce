"""Early termination of trials: bandit, median stopping and truncation selection, as Azure ML v2 defines them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from mlops_core.pipelines.search_space import (
    BanditPolicy,
    EarlyTermination,
    MedianStoppingPolicy,
    TruncationSelectionPolicy,
)


def should_stop(
    policy: EarlyTermination, trial: str, histories: Mapping[str, Sequence[float]], *, maximize: bool
) -> bool:
    """
    Tell whether a running trial is to be stopped now.

    Args:
        histories: Reported values of the metric by trial, in order; finished trials included.
    """
    own = histories.get(trial, ())
    reports = len(own)
    if reports <= policy.delay_evaluation or reports % policy.evaluation_interval != 0:
        return False
    sign = 1.0 if maximize else -1.0
    scores = {name: [sign * value for value in values] for name, values in histories.items() if values}
    others = [values for name, values in scores.items() if name != trial]
    if not others:
        return False
    best = max(scores[trial])
    match policy:
        case BanditPolicy():
            return best < _bandit_limit(policy, max(max(values) for values in scores.values()))
        case MedianStoppingPolicy():
            averages = [sum(values[:reports]) / len(values[:reports]) for values in scores.values()]
            return best < median(averages)
        case TruncationSelectionPolicy():
            ranked = sorted(max(values[:reports]) for values in scores.values())
            cut = int(len(ranked) * policy.truncation_percentage / 100)
            return cut > 0 and best <= ranked[cut - 1]


def _bandit_limit(policy: BanditPolicy, best: float) -> float:
    if policy.slack_amount is not None:
        return best - policy.slack_amount
    slack = policy.slack_factor or 0.0
    # For a metric to be minimised the scores are negative: best * (1 + slack) is further away then.
    return best / (1 + slack) if best >= 0 else best * (1 + slack)
