"""
The errors of reading a pipeline: each problem says in which file, line and key it is.

A plan is refused as a whole, with all problems in one message: who corrects a file wants to hear of all of them at
once.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlops_core.domain.errors import BadInputError, RefusedError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that keeps a pipeline from being planned."""

    file: str
    """Relative to the project's root where it lies in it."""
    message: str
    """What is wrong with which value, and what to do."""
    line: int | None = None
    """From 1; None where the whole file is meant."""
    key: str | None = None
    """Path of keys in the file, such as `jobs.train.inputs.data`."""
    step: str | None = None
    """The step that it concerns, where it concerns one."""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file} line {self.line}"
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class PipelineInvalidError(BadInputError):
    """The YAML is wrong wherever it runs: unknown keys, missing files, unbound inputs, cycles."""

    def __init__(self, source_file: str, problems: tuple[Problem, ...]) -> None:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"The pipeline '{source_file}' has {count}; nothing was started:\n{listed}")
        self.source_file = source_file
        self.problems = problems


class PipelineNotLocalError(RefusedError):
    """The YAML is right for Azure ML, but holds steps that a laptop cannot run."""

    def __init__(self, source_file: str, refusals: tuple[Problem, ...]) -> None:
        listed = "\n".join(f"  - {_of_step(refusal)}" for refusal in refusals)
        super().__init__(f"The pipeline '{source_file}' cannot run locally; nothing was started:\n{listed}")
        self.source_file = source_file
        self.refusals = refusals


def _of_step(refusal: Problem) -> str:
    place = refusal.file if refusal.line is None else f"{refusal.file} line {refusal.line}"
    return f"step '{refusal.step}' ({place}): {refusal.message}" if refusal.step else str(refusal)
