"""
What becomes of every pipeline of a folder: it runs here, or the reasons why not.

`python -m mlops_core.pipelines.survey FOLDER` writes a Markdown table; `docs/azureml-examples.md` is made with it.
Nothing is started.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlops_core.pipelines.assets import kind_of, yaml_files
from mlops_core.pipelines.documents import DocumentError, Reader
from mlops_core.pipelines.errors import PipelineInvalidError, PipelineNotLocalError, Problem
from mlops_core.pipelines.loader import LoadRequest, load_plan

Outcome = Literal["runs", "refused", "invalid"]


@dataclass(frozen=True, slots=True)
class Surveyed:
    """One pipeline and what becomes of it."""

    path: str
    """Relative to the surveyed folder."""
    outcome: Outcome
    detail: tuple[str, ...]
    """The steps of one that runs; else the reasons, each once."""


def survey(folder: Path, root: Path | None = None) -> tuple[Surveyed, ...]:
    """
    Plan every pipeline job below a folder.

    Args:
        root: The project's root, where declared assets are searched; default: the folder.
    Returns: One entry per pipeline job, by path. Pipeline components are no jobs, so they are not listed.
    """
    base = (root or folder).resolve()
    return tuple(_plan(path, folder.resolve(), base) for path in pipeline_jobs(folder))


def pipeline_jobs(folder: Path) -> Iterator[Path]:
    """List the files below a folder that are pipeline jobs."""
    reader = Reader(folder)
    for path in yaml_files(folder.resolve()):
        content = path.read_bytes()
        if b"pipeline" not in content.lower():
            continue
        try:
            data = reader.read(path).data
        except DocumentError:
            continue
        # Older files name the schema otherwise: `http://azureml/sdk-2-0/PipelineJob.json`.
        schema = str(data.get("$schema", "")).rpartition("/")[2].lower()
        if schema.startswith("pipelinejob.") or ("$schema" not in data and _looks_like_job(data)):
            yield path


def to_markdown(surveyed: Sequence[Surveyed]) -> str:
    """Write a table with one row per pipeline, after a line with the counts."""
    counts = Counter(entry.outcome for entry in surveyed)
    runs, refused, invalid = (counts[outcome] for outcome in ("runs", "refused", "invalid"))
    lines = [
        f"{len(surveyed)} pipelines: {runs} run, {refused} are refused, {invalid} are told to be wrong.",
        "",
        "| Pipeline | Outcome | Steps, or reasons |",
        "| --- | --- | --- |",
    ]
    for entry in surveyed:
        detail = ", ".join(entry.detail) if entry.outcome == "runs" else "<br>".join(entry.detail)
        lines.append(f"| `{entry.path}` | {entry.outcome} | {detail.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table of a folder to the standard output."""
    parser = argparse.ArgumentParser(prog="python -m mlops_core.pipelines.survey", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder whose pipelines are planned")
    parser.add_argument("--root", type=Path, help="where declared assets are searched; default: the folder")
    chosen = parser.parse_args(arguments)
    if not chosen.folder.is_dir():
        parser.error(f"'{chosen.folder}' is no folder.")
    sys.stdout.write(to_markdown(survey(chosen.folder, chosen.root)))
    return 0


def _looks_like_job(data: dict[str, object]) -> bool:
    return data.get("type") == "pipeline" and "jobs" in data and kind_of(data) is None and "version" not in data


def _plan(path: Path, folder: Path, root: Path) -> Surveyed:
    name = path.resolve().relative_to(folder).as_posix()
    try:
        plan = load_plan(LoadRequest(path, root))
    except PipelineInvalidError as error:
        return Surveyed(name, "invalid", _reasons(error.problems))
    except PipelineNotLocalError as error:
        return Surveyed(name, "refused", _reasons(error.refusals))
    return Surveyed(name, "runs", tuple(step.name for step in plan.steps))


def _reasons(problems: Sequence[Problem]) -> tuple[str, ...]:
    """One line per reason, with the steps that it concerns; the advice after it is in the full message."""
    steps: dict[str, list[str]] = {}
    for problem in problems:
        # The first sentence says what is wrong; a dot inside a file name or address ends none.
        reason = problem.message.split(". ", maxsplit=1)[0].rstrip(".")
        steps.setdefault(reason, []).append(problem.step or problem.key or problem.file)
    return tuple(f"{', '.join(dict.fromkeys(places))}: {reason}" for reason, places in steps.items())


if __name__ == "__main__":
    sys.exit(main())
