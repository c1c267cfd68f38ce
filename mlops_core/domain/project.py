"""
What `mlops.yaml` says: one frozen value per section.

This module knows meaning and defaults only. Reading the file, with lines and nearest known keys in its errors, is
`mlops_core/manifest.py`. A spec is taken into the run's facts when the run is admitted, so that a later change of the
file never changes a run that is under way.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from mlops_core.domain.values import Duration, Fraction, Value

_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
_PATH = r"^[^/\\\x00][^\\\x00]*$"
_LABEL = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$"


def _name(text: str) -> str:
    if re.fullmatch(_NAME, text) is None:
        raise ValueError(
            f"'{text}' is no name for it. Use lower-case letters, digits and hyphens, at most 63, a letter or digit first."
        )
    return text


def _repository_path(text: str) -> str:
    if "\\" in text:
        raise ValueError(f"'{text}' has a backslash. Write the path with '/', from the folder of this file.")
    if re.fullmatch(_PATH, text) is None:
        raise ValueError(
            f"'{text}' is no path in the repository. Write it from the folder of this file on, with no '/' before it."
        )
    return text


def _model_label(text: str) -> str:
    if re.fullmatch(_LABEL, text) is None:
        raise ValueError(
            f"'{text}' is no name of a model. Use letters, digits, '.', '_' and '-', at most 255, a letter or digit first."
        )
    return text


# What they must be is said by the functions above; the patterns are for editors, which read the schema.
Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": _NAME})]
RepositoryPath = Annotated[
    str,
    StringConstraints(min_length=1),
    AfterValidator(_repository_path),
    WithJsonSchema({"type": "string", "minLength": 1, "pattern": _PATH}),
]
ModelLabel = Annotated[str, AfterValidator(_model_label), WithJsonSchema({"type": "string", "pattern": _LABEL})]
Scalar = str | int | FiniteFloat | bool


class Triggers(Value):
    """Which pushes start a run."""

    branches: tuple[str, ...] = Field(
        ("main",),
        min_length=1,
        description="Branches that deliver (globs). Every other branch is built only.",
    )
    paths: tuple[str, ...] = Field(
        (),
        description="Globs of files; a push that touches none of them is skipped. Empty: every push counts.",
    )

    def delivers(self, branch: str) -> bool:
        """Tell whether a branch goes on to training and release."""
        return any(fnmatchcase(branch, pattern) for pattern in self.branches)

    def touches(self, changed: tuple[str, ...]) -> bool:
        """Tell whether any of the changed files matters. `**` crosses folders, and so does `*`, as in fnmatch."""
        return not self.paths or any(fnmatchcase(path, glob) for path in changed for glob in self.paths)


class Build(Value):
    """What is set up and tested before anything is trained."""

    assets: tuple[RepositoryPath, ...] = Field(
        (),
        description="Azure ML asset files (environment, data, compute, component) to set up before the tests.",
    )
    environment: str | None = Field(
        None,
        description="Environment of the tests: an asset or conda file, a requirements.txt, or 'current' for the "
        "interpreter that runs Headrace. Default: the first environment in assets, else 'current'.",
    )
    test: str | None = Field(None, min_length=1, description="Command that tests the project, such as 'pytest -q'.")
    timeout: Duration = Field(1800.0, description="After this the build job is stopped and the run fails.")


class Train(Value):
    """Which pipeline trains which model."""

    pipeline: RepositoryPath = Field(description="Azure ML v2 pipeline YAML.")
    model: ModelLabel = Field(description="The registered name that this pipeline produces.")
    inputs: dict[str, Scalar] = Field(default_factory=dict, description="Values for inputs of the pipeline.")
    timeout: Duration = Field(7200.0, description="After this the pipeline is stopped and the run fails.")


class Gate(Value):
    """One rule that a challenger must meet. Smaller is better with `max`, larger with `min`."""

    metric: str = Field(min_length=1, description="Name of a metric of the registered version.")
    max: FiniteFloat | None = Field(None, description="Passed when the metric is at most this.")
    min: FiniteFloat | None = Field(None, description="Passed when the metric is at least this.")
    no_worse_than: Literal["champion"] | None = Field(
        None,
        description="Passed when the metric is no worse than the champion's, give or take the tolerance.",
    )
    tolerance: Fraction = Field(0.0, description="Share of the champion's value by which the challenger may be worse.")
    goal: Literal["minimize", "maximize"] | None = Field(
        None,
        description="Which direction is better, for no_worse_than. Default: by words of its name, else minimize.",
    )
    by: str | None = Field(
        None,
        min_length=1,
        description="Judge every segment: metrics named '<metric>/<by>/<value of the segment>'.",
    )

    @model_validator(mode="after")
    def _one_rule(self) -> Gate:
        rules = [name for name in ("max", "min", "no_worse_than") if getattr(self, name) is not None]
        if len(rules) != 1:
            given = " and ".join(rules) or "none"
            raise ValueError(f"a gate has exactly one of max, min and no_worse_than; this one has {given}.")
        return self


class Serve(Value):
    """How a version is served."""

    code: RepositoryPath | None = Field(
        None, description="Azure ML scoring script with init() and run(). MLflow models need none."
    )
    environment: str | None = Field(
        None,
        description="Environment of the scoring app. Default: what the model itself declares, else the build's.",
    )
    cpu: FiniteFloat = Field(1.0, gt=0, le=4, description="Cores of one instance.")
    memory_gb: FiniteFloat = Field(1.5, gt=0, le=16, description="Memory of one instance in GB.")
    instances: Literal[1] = Field(1, description="Instances that share the traffic.")


LONGEST_SMOKE_SECONDS = 200
"""A smoke test is one call of a function, which ends at 230 s on Azure."""
WRITTEN_NOW = {"written_now": True}
"""The context in which a declaration is validated that somebody just wrote, and not one that rides with a run."""


class Smoke(Value):
    """Requests that a fresh deployment must answer before it gets traffic."""

    request: RepositoryPath = Field(description="JSON file with the body of one scoring request.")
    requests: int = Field(
        1, ge=1, le=10_000, description="How many times it is sent. All must be answered within 200 s."
    )
    per_second: FiniteFloat | None = Field(
        None, gt=0, le=1000, description="Sent at this pace, answered or not. Default: one after another."
    )
    p95_ms: FiniteFloat | None = Field(
        None, gt=0, description="Limit of the 95th percentile of the answers' time in ms."
    )

    @model_validator(mode="after")
    def _fits(self, info: ValidationInfo) -> Smoke:
        # What was taken before this rule was made is read as it is.
        written_now = bool(info.context)
        if written_now and self.per_second and (self.requests - 1) / self.per_second >= LONGEST_SMOKE_SECONDS:
            raise ValueError(
                f"{self.requests} requests at {self.per_second:g} a second take longer than the {LONGEST_SMOKE_SECONDS} s "
                "that a smoke test may take. Ask for fewer, or for more a second."
            )
        return self


class Stage(Value):
    """One stage of a release. The last one carries the traffic."""

    name: Name
    smoke: Smoke | None = None


class Release(Value):
    """What a registered version must pass on its way to the traffic."""

    gates: tuple[Gate, ...] = ()
    approval: Literal["manual", "none"] = Field("none", description="'manual' waits for a person after the gates.")
    approval_expires: Duration = Field(604_800.0, description="After this an unanswered approval expires.")
    serve: Serve = Serve()
    stages: tuple[Stage, ...] = Field((Stage(name="production"),), min_length=1)

    @model_validator(mode="after")
    def _distinct_stages(self) -> Release:
        names = [stage.name for stage in self.stages]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"there are two stages named '{name}'. Give each its own name.")
        return self


class Local(Value):
    """What only the laptop needs: where it finds what Azure ML has in the cloud."""

    data: dict[str, RepositoryPath] = Field(
        default_factory=dict,
        description="File or folder for a data asset, such as 'azureml:taxi-data@latest': data/taxi.csv.",
    )
    environments: dict[str, str] = Field(
        default_factory=dict,
        description="Conda file, requirements file or 'current' for an environment that is not declared.",
    )
    without: tuple[str, ...] = Field(
        (), description="Requirement lines that local environments leave out, such as packages from private servers."
    )
    python: Literal["exact", "nearest"] = Field(
        "nearest",
        description="What to do where the Python version that an environment asks for is not installed.",
    )


class ProjectSpec(Value):
    """The whole of one `mlops.yaml`."""

    project: Name
    triggers: Triggers = Triggers()
    build: Build = Build()
    train: Train
    release: Release = Release()
    local: Local = Local()
