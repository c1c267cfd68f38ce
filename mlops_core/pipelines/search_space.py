"""
The search spaces and limits of a sweep step as Azure ML v2 defines them, as frozen values.

The loader builds them, the sweep's executor draws from them. Field names are those of the YAML, so that a plan reads
like the file that it came from. Source: the `sweepJob` schema of Azure ML v2 and the parameter expressions of its
documentation.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mlops_core.domain.values import Value


class Choice(Value):
    """One of `values`, each as likely; a value that is a mapping is passed to the trial as a whole."""

    type: Literal["choice"] = "choice"
    values: tuple[bool | int | float | str | dict[str, object], ...] = Field(min_length=1)


class _Range(Value):
    """What has a lower and an upper end."""

    min_value: float
    max_value: float

    @model_validator(mode="after")
    def _ends_in_order(self) -> _Range:
        if self.max_value < self.min_value:
            raise ValueError(f"max_value {self.max_value} is below min_value {self.min_value}. Swap the two.")
        return self


class Uniform(_Range):
    """Uniform between both ends."""

    type: Literal["uniform"] = "uniform"


class QUniform(_Range):
    """`round(uniform / q) * q`."""

    type: Literal["quniform"] = "quniform"
    q: float = Field(gt=0)


class LogUniform(_Range):
    """`exp(uniform)`: both ends are exponents."""

    type: Literal["loguniform"] = "loguniform"


class QLogUniform(_Range):
    """`round(exp(uniform) / q) * q`: both ends are exponents."""

    type: Literal["qloguniform"] = "qloguniform"
    q: float = Field(gt=0)


class Normal(Value):
    """Normal with mean `mu` and deviation `sigma`."""

    type: Literal["normal"] = "normal"
    mu: float
    sigma: float = Field(gt=0)


class QNormal(Value):
    """`round(normal / q) * q`."""

    type: Literal["qnormal"] = "qnormal"
    mu: float
    sigma: float = Field(gt=0)
    q: float = Field(gt=0)


class LogNormal(Value):
    """`exp(normal)`."""

    type: Literal["lognormal"] = "lognormal"
    mu: float
    sigma: float = Field(gt=0)


class QLogNormal(Value):
    """`round(exp(normal) / q) * q`."""

    type: Literal["qlognormal"] = "qlognormal"
    mu: float
    sigma: float = Field(gt=0)
    q: float = Field(gt=0)


class Randint(Value):
    """A whole number from 0 up to, and without, `upper`."""

    type: Literal["randint"] = "randint"
    upper: int = Field(gt=0)


SearchDistribution = Annotated[
    Choice | Uniform | QUniform | LogUniform | QLogUniform | Normal | QNormal | LogNormal | QLogNormal | Randint,
    Field(discriminator="type"),
]


class BanditPolicy(Value):
    """Stops a trial that is worse than the best one by more than the slack, which is given in one of two ways."""

    type: Literal["bandit"] = "bandit"
    slack_factor: float | None = None
    """Share of the best metric, such as 0.1."""
    slack_amount: float | None = None
    """Absolute distance from the best metric."""
    evaluation_interval: int = Field(default=1, ge=1)
    """Judge at every n-th report of the metric."""
    delay_evaluation: int = Field(default=0, ge=0)
    """Judge no trial before that many reports."""


class MedianStoppingPolicy(Value):
    """Stops a trial whose best metric is worse than the median of the running averages of all trials."""

    type: Literal["median_stopping"] = "median_stopping"
    evaluation_interval: int = Field(default=1, ge=1)
    delay_evaluation: int = Field(default=0, ge=0)


class TruncationSelectionPolicy(Value):
    """Stops the worst `truncation_percentage` percent of the trials at each evaluation."""

    type: Literal["truncation_selection"] = "truncation_selection"
    truncation_percentage: int = Field(ge=1, le=99)
    evaluation_interval: int = Field(default=1, ge=1)
    delay_evaluation: int = Field(default=0, ge=0)
    exclude_finished_jobs: bool = True


EarlyTermination = Annotated[
    BanditPolicy | MedianStoppingPolicy | TruncationSelectionPolicy,
    Field(discriminator="type"),
]


class Objective(Value):
    """What the best trial is chosen by: a metric that the trial logs with MLflow."""

    goal: Literal["minimize", "maximize"]
    primary_metric: str


class SweepLimits(Value):
    """How many trials, how many side by side, and for how long; a missing timeout means none."""

    max_total_trials: int = Field(default=1000, ge=1)
    max_concurrent_trials: int | None = Field(default=None, ge=1)
    timeout_seconds: float | None = Field(default=None, gt=0)
    """For the whole sweep."""
    trial_timeout_seconds: float | None = Field(default=None, gt=0)


class Sweep(Value):
    """
    The search of a sweep step.

    A drawn value replaces `${{search_space.NAME}}` in the step's command; where the trial is a component, it is given
    to the component's input of the same name, `${{inputs.NAME}}`. Do both: the names never collide.
    """

    algorithm: Literal["random", "grid", "bayesian"]
    seed: int | None = None
    """Of the random algorithm."""
    rule: Literal["random", "sobol"] | None = None
    """Of the random algorithm."""
    logbase: float | None = Field(default=None, gt=0)
    """Of the random algorithm: what the exponents of the log spaces are exponents of; None: e."""
    objective: Objective
    limits: SweepLimits
    search_space: dict[str, SearchDistribution] = Field(min_length=1)
    early_termination: EarlyTermination | None = None
