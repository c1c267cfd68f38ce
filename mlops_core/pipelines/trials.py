"""Draw the trials of a sweep: from every v2 search space, at random with a recorded seed, or as a grid. Pure."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from random import Random

from mlops_core.domain.errors import BadInputError
from mlops_core.pipelines.search_space import (
    Choice,
    LogNormal,
    LogUniform,
    Normal,
    QLogNormal,
    QLogUniform,
    QNormal,
    QUniform,
    Randint,
    SearchDistribution,
    Sweep,
    Uniform,
)

Drawn = dict[str, bool | int | float | str]
# A random draw that only finds combinations seen before has exhausted a small space.
_MOST_REDRAWS = 50


def draw_trials(sweep: Sweep, seed: int) -> Iterator[Drawn]:
    """
    Draw the parameters of each trial, at most `max_total_trials`, none twice.

    Raises: BadInputError: A grid over something that is no choice.
    """
    combinations = _grid(sweep) if sweep.algorithm == "grid" else _random(sweep, Random(seed))  # noqa: S311 - reproducible, not secret
    return itertools.islice(combinations, sweep.limits.max_total_trials)


def _grid(sweep: Sweep) -> Iterator[Drawn]:
    names, values = [], []
    for name, space in sweep.search_space.items():
        if not isinstance(space, Choice):
            raise BadInputError(f"Sampling 'grid' needs 'choice' spaces; '{name}' is '{space.type}'. Use 'random'.")
        names.append(name)
        values.append([plain(value) for value in space.values])
    for combination in itertools.product(*values):
        yield dict(zip(names, combination, strict=True))


def _random(sweep: Sweep, random: Random) -> Iterator[Drawn]:
    seen: set[str] = set()
    redraws = 0
    base = sweep.logbase or math.e
    while redraws < _MOST_REDRAWS:
        drawn = {name: draw(space, random, base) for name, space in sweep.search_space.items()}
        key = json.dumps(drawn, sort_keys=True)
        if key in seen:
            redraws += 1
            continue
        seen.add(key)
        redraws = 0
        yield drawn


def draw(space: SearchDistribution, random: Random, base: float) -> bool | int | float | str:  # noqa: C901 - one case per kind
    """Draw a value of one parameter; `base` is what exponents are exponents of."""
    match space:
        case Choice():
            return plain(random.choice(space.values))
        case Randint():
            return random.randrange(space.upper)
        case Uniform():
            return random.uniform(space.min_value, space.max_value)
        case QUniform():
            return quantised(random.uniform(space.min_value, space.max_value), space.q)
        case LogUniform():
            return _power(base, random.uniform(space.min_value, space.max_value))
        case QLogUniform():
            return quantised(_power(base, random.uniform(space.min_value, space.max_value)), space.q)
        case Normal():
            return random.gauss(space.mu, space.sigma)
        case QNormal():
            return quantised(random.gauss(space.mu, space.sigma), space.q)
        case LogNormal():
            return _power(base, random.gauss(space.mu, space.sigma))
        case QLogNormal():
            return quantised(_power(base, random.gauss(space.mu, space.sigma)), space.q)


def _power(base: float, exponent: float) -> float:
    return math.exp(exponent) if base == math.e else float(base**exponent)


def quantised(value: float, q: float) -> float:
    """Round to a multiple of `q`."""
    # Without the last digits' noise: 0.3, not 0.30000000000000004.
    return float(f"{round(value / q) * q:.12g}")


def plain(value: object) -> bool | int | float | str:
    """Give a value of a choice as a trial gets it: a mapping as JSON."""
    return value if isinstance(value, (bool, int, float, str)) else json.dumps(value, sort_keys=True)
