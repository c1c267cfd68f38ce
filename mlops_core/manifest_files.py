"""
See that the files which `mlops.yaml` names are there and are what they are named for, before anything runs for minutes.

The build job and `headrace validate` call it. Nothing is imported or run: scripts are parsed, requests are read as JSON.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlops_core.domain.project import ProjectSpec
from mlops_core.manifest import Path as Place
from mlops_core.manifest import Problem, dotted, load_with_lines, longest_known

_ADD_IT = "Add and commit it, or change the path."
_CURRENT = "current"


@dataclass(frozen=True)
class _Named:
    """A file that `mlops.yaml` names, and what it must be beside being there."""

    place: Place
    path: str
    fault: Callable[[Path], str | None] = lambda _: None


def problems_of_files(root: Path, spec: ProjectSpec, text: bytes, filename: str) -> list[Problem]:
    """
    Find what `mlops.yaml` names and the repository does not have, or has as something else.

    Args:
        root: The folder of `mlops.yaml`, which its paths start at.
        text: What it says, for the lines.
    """
    _, lines = load_with_lines(text, filename)
    problems = []
    for named in _declared(spec):
        file = root / named.path
        message = named.fault(file) if file.exists() else f"there is no '{named.path}' in the repository. {_ADD_IT}"
        if message:
            problems.append(Problem(lines.get(longest_known(named.place, lines), 1), dotted(named.place), message))
    return sorted(problems, key=lambda problem: problem.line)


def _declared(spec: ProjectSpec) -> Iterator[_Named]:
    yield _Named(("train", "pipeline"), spec.train.pipeline, _no_file)
    for number, path in enumerate(spec.build.assets):
        yield _Named(("build", "assets", number), path, _no_file)
    for place, environment in (
        (("build", "environment"), spec.build.environment),
        (("release", "serve", "environment"), spec.release.serve.environment),
        *((("local", "environments", name), file) for name, file in spec.local.environments.items()),
    ):
        if environment is not None and environment != _CURRENT:
            yield _Named(place, environment, _no_file)
    if spec.release.serve.code:
        yield _Named(("release", "serve", "code"), spec.release.serve.code, _no_scoring_script)
    for number, stage in enumerate(spec.release.stages):
        if stage.smoke:
            yield _Named(("release", "stages", number, "smoke", "request"), stage.smoke.request, _no_request)
    for name, path in spec.local.data.items():
        yield _Named(("local", "data", name), path)


def _no_file(file: Path) -> str | None:
    return None if file.is_file() else f"'{file.name}' is a folder. Name a file."


def _no_request(file: Path) -> str | None:
    """Say why a file is no scoring request; found here, not after the training."""
    if not file.is_file():
        return _no_file(file)
    try:
        json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        return f"'{file.name}' is no JSON: {error}. A smoke request is the body of one scoring request."
    return None


def _no_scoring_script(file: Path) -> str | None:
    """Say why a file is no scoring script."""
    if not file.is_file():
        return _no_file(file)
    try:
        tree = ast.parse(file.read_bytes(), filename=file.name)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
        return f"'{file.name}' is no Python: {where}."
    return (
        None
        if {"init", "run"} <= _names(tree)
        else f"'{file.name}' is no scoring script: it must have init() and run()."
    )


def _names(tree: ast.Module) -> set[str]:
    """Find what a script may define, also where it imports, assigns or defines it within an `if`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            # All that `import *` brings is unknown here.
            names |= {"init", "run"} if node.name == "*" else {node.asname or node.name}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names
