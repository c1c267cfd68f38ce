"""
What the checks found so far: problems (wrong wherever it runs) and refusals (right, but not for a laptop).

Checks add to it instead of raising, since a person wants to hear of everything at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from mlops_core.pipelines.documents import Document, KeyPath
from mlops_core.pipelines.errors import PipelineInvalidError, PipelineNotLocalError, Problem


@dataclass
class Findings:
    """Problems and refusals, each once."""

    problems: list[Problem] = field(default_factory=list)
    refusals: list[Problem] = field(default_factory=list)

    def problem(self, document: Document, key: KeyPath, message: str, *, step: str | None = None) -> None:
        """Add something that is wrong wherever the pipeline runs."""
        self.add(document.problem(key, message, step=step))

    def add(self, problem: Problem) -> None:
        """Add a problem that was made elsewhere."""
        if problem not in self.problems:
            self.problems.append(problem)

    def refuse(self, document: Document, key: KeyPath, message: str, *, step: str | None) -> None:
        """Add something that a laptop cannot do."""
        refusal = document.problem(key, message, step=step)
        if refusal not in self.refusals:
            self.refusals.append(refusal)

    def raise_if_any(self, source_file: str) -> None:
        """
        End here where anything was found.

        Raises:
            PipelineInvalidError: There are problems; refusals are listed after them.
            PipelineNotLocalError: There are only refusals.
        """
        if self.problems:
            raise PipelineInvalidError(source_file, (*self.problems, *self.refusals))
        if self.refusals:
            raise PipelineNotLocalError(source_file, tuple(self.refusals))


def did_you_mean(name: str, known: Iterable[str], *, what: str) -> str:
    """Give the sentence that helps after an unknown name."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"Did you mean '{near[0]}'?"
    if not names:
        return f"There are no {what} here."
    return f"Known {what}: {', '.join(names)}."
