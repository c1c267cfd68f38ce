"""
Read `mlops.yaml`: text in, `ProjectSpec` out, or an error that names line and key of everything that is wrong.

The build job, `headrace validate` and the policy call it. YAML that could grow (anchors and aliases, deep nesting, huge
files) and duplicate keys are refused before anything is built from it: 400 bytes of aliases can become gigabytes.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from mlops_core.domain.errors import BadInputError
from mlops_core.domain.project import ProjectSpec

# A hundred times the size of a long real one.
MAX_BYTES = 262_144
MAX_DEPTH = 20
# Sections that the design names and this version does not act on; silence about them would be a lie.
_NOT_YET = {
    "monitor": "watching live predictions",
    "batch": "batch scoring",
    "notify": "notifications",
    "schedule": "retraining on a schedule",
    "new_data": "retraining on new data",
    "canary": "shifting traffic step by step",
    "holdout": "comparing on a holdout",
    "data_gates": "gates on the training data",
    "retrain": "the retraining policy",
}

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a file, and where."""

    line: int
    key: str
    message: str

    def __str__(self) -> str:
        """Say it in one line."""
        where = f"line {self.line}" + (f", {self.key}" if self.key else "")
        return f"{where}: {self.message}"


class ManifestError(BadInputError):
    """`mlops.yaml` is not what it must be; `problems` has everything that was found."""

    def __init__(self, filename: str, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(f"{filename} {problem}" for problem in problems))
        self.filename = filename
        self.problems = tuple(problems)


def read_manifest(text: bytes, filename: str = "mlops.yaml") -> ProjectSpec:
    """
    Read a project's declaration.

    Raises: ManifestError: With every problem that was found, each with line, key and what to write instead.
    """
    data, lines = load_with_lines(text, filename)
    if not isinstance(data, dict):
        raise ManifestError(filename, [Problem(1, "", "it must be a mapping that starts with 'project: <name>'.")])
    try:
        return ProjectSpec.model_validate(data)
    except ValidationError as error:
        problems = [_problem(dict(detail), lines) for detail in error.errors(include_url=False)]
        raise ManifestError(filename, sorted(problems, key=lambda problem: problem.line)) from None


def load_with_lines(text: bytes, filename: str) -> tuple[object, Mapping[Path, int]]:
    """
    Load YAML safely, with the line of every key and item.

    Returns: The plain data, and the line (from 1) of each path in it.
    Raises: ManifestError: Not UTF-8, not YAML, too large, too deep, with aliases or with a key twice.
    """
    if len(text) > MAX_BYTES:
        message = f"it has {len(text)} bytes; at most {MAX_BYTES} are read. Move what is not configuration elsewhere."
        raise ManifestError(filename, [Problem(1, "", message)])
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text[: error.start].count(b"\n") + 1
        raise ManifestError(filename, [Problem(line, "", "it is not UTF-8 text. Save it as UTF-8.")]) from None
    try:
        _refuse_growth(decoded, filename)
        root = yaml.compose(decoded, Loader=yaml.SafeLoader)
        if root is None:
            raise ManifestError(filename, [Problem(1, "", "it is empty. 'headrace init' writes one.")])
        lines: dict[Path, int] = {}
        _collect(root, (), lines, filename)
        return yaml.safe_load(decoded), lines
    except yaml.MarkedYAMLError as error:
        line = getattr(error.problem_mark, "line", 0) + 1
        raise ManifestError(filename, [Problem(line, "", f"it is not YAML: {error.problem}.")]) from None
    except (yaml.YAMLError, ValueError) as error:
        # A date such as 2026-99-99 is refused by the constructor with a plain ValueError.
        raise ManifestError(filename, [Problem(1, "", f"it is not YAML: {error}.")]) from None


def _refuse_growth(decoded: str, filename: str) -> None:
    depth = 0
    for token in yaml.parse(decoded, Loader=yaml.SafeLoader):
        line = getattr(token.start_mark, "line", 0) + 1
        if isinstance(token, yaml.AliasEvent) or getattr(token, "anchor", None):
            message = "anchors and aliases (& and *) are not allowed. Write the value out."
            raise ManifestError(filename, [Problem(line, "", message)])
        if isinstance(token, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
        elif isinstance(token, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1
        if depth > MAX_DEPTH:
            message = f"it is nested more than {MAX_DEPTH} deep."
            raise ManifestError(filename, [Problem(line, "", message)])


def _collect(node: yaml.Node, path: Path, lines: dict[Path, int], filename: str) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in seen:
                message = f"the key is there twice (first in line {seen[key]}). Keep one."
                raise ManifestError(filename, [Problem(line, _dotted((*path, key)), message)])
            seen[key] = line
            lines[(*path, key)] = line
            _collect(value_node, (*path, key), lines, filename)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            _collect(item, (*path, index), lines, filename)


def _problem(detail: dict[str, Any], lines: Mapping[Path, int]) -> Problem:
    location: Path = tuple(detail["loc"])
    known = _longest_known(location, lines)
    line = lines.get(known, 1)
    key = _dotted(location if detail["type"] in ("missing", "extra_forbidden") else known)
    return Problem(line, key, _message(detail, location))


def _message(detail: dict[str, Any], location: Path) -> str:
    kind, given = detail["type"], detail.get("input")
    if kind == "extra_forbidden":
        return _unknown_key(location)
    if kind == "missing":
        return "this key is required and missing."
    text = str(detail["msg"]).removeprefix("Value error, ")
    text = text[:1].lower() + text[1:] if not text.startswith("'") else text
    shown = "" if isinstance(given, (dict, list)) or f"'{given}'" in text else f" (it is '{given}')"
    return f"{text.rstrip('.')}{shown}."


def _unknown_key(location: Path) -> str:
    key = str(location[-1])
    if key in _NOT_YET:
        return f"{_NOT_YET[key]} is not part of this version of Headrace. Remove the key."
    known = _keys_at(ProjectSpec, location[:-1])
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if near:
        return f"unknown key '{key}'. Did you mean '{near[0]}'?"
    return f"unknown key '{key}'. Known keys here: {', '.join(known)}."


def _keys_at(model: type[BaseModel], location: Path) -> list[str]:
    kind: Any = model
    for step in location:
        if isinstance(kind, type) and issubclass(kind, BaseModel) and step in kind.model_fields:
            kind = _strip(kind.model_fields[str(step)].annotation)
        elif isinstance(step, int) and get_origin(kind) in (tuple, list):
            kind = _strip(get_args(kind)[0])
    return sorted(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _strip(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        return next(arg for arg in get_args(annotation) if arg is not type(None))
    return annotation


def _longest_known(location: Path, lines: Mapping[Path, int]) -> Path:
    for end in range(len(location), -1, -1):
        if location[:end] in lines:
            return location[:end]
    return ()


def _dotted(path: Path) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text
