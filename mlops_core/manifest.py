"""
Read `mlops.yaml`: text in, `ProjectSpec` out, or an error that names line and key of everything that is wrong.

The build job, `headrace validate` and the policy call it. YAML that could grow (anchors and aliases, deep nesting, huge
files), tags and duplicate keys are refused before anything is built from it: 400 bytes of aliases can become gigabytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from mlops_core.domain.errors import BadInputError
from mlops_core.domain.project import WRITTEN_NOW, ProjectSpec
from mlops_core.manifest_wording import place_of, sentence, without_echoes

# A hundred times the size of a long real one.
MAX_BYTES = 262_144
MAX_DEPTH = 20
MAX_DIGITS = 100

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
        return ProjectSpec.model_validate(data, context=WRITTEN_NOW)
    except ValidationError as error:
        details = without_echoes([dict(detail) for detail in error.errors(include_url=False)])
        problems = [_problem(detail, lines) for detail in details]
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
        advice = " YAML is indented with spaces, never with tabs." if "'\\t'" in str(error.problem) else ""
        raise ManifestError(filename, [Problem(line, "", f"it is not YAML: {error.problem}.{advice}")]) from None
    except (yaml.YAMLError, ValueError) as error:
        # A date such as 2026-99-99 is refused by the constructor with a plain ValueError.
        reason = str(error).partition("\n")[0]
        raise ManifestError(filename, [Problem(1, "", f"it is not YAML: {reason}.")]) from None


def _refuse_growth(decoded: str, filename: str) -> None:
    depth = 0
    for token in yaml.parse(decoded, Loader=yaml.SafeLoader):
        line = getattr(token.start_mark, "line", 0) + 1
        if isinstance(token, yaml.AliasEvent) or getattr(token, "anchor", None):
            message = "anchors and aliases (& and *) are not allowed. Write the value out."
            raise ManifestError(filename, [Problem(line, "", message)])
        tag = getattr(token, "tag", None)
        if tag is not None:
            # Besides being able to make objects, a tag such as !!bool makes the loader raise whatever it likes.
            message = f"tags (!) are not allowed, and there is '{tag}'. Write the plain value."
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
            _check_scalar(key_node, path, filename)
            if key in seen:
                message = f"the key is there twice (first in line {seen[key]}). Keep one."
                raise ManifestError(filename, [Problem(line, dotted((*path, key)), message)])
            seen[key] = line
            lines[(*path, key)] = line
            _collect(value_node, (*path, key), lines, filename)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            _collect(item, (*path, index), lines, filename)
    else:
        _check_scalar(node, path, filename)


def _check_scalar(node: yaml.Node, path: Path, filename: str) -> None:
    """Refuse what Python cannot write again: a number of thousands of digits, and half of a surrogate pair."""
    text, line = str(node.value), node.start_mark.line + 1
    if node.tag == "tag:yaml.org,2002:int" and len(text) > MAX_DIGITS:
        raise ManifestError(
            filename, [Problem(line, dotted(path), f"the number has more than {MAX_DIGITS} characters.")]
        )
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        message = "the text holds half of a surrogate pair (\\ud800 to \\udfff). Remove it."
        raise ManifestError(filename, [Problem(line, dotted(path), message)])


def _problem(detail: Mapping[str, Any], lines: Mapping[Path, int]) -> Problem:
    location = place_of(detail)
    known = longest_known(location, lines)
    key = dotted(location if detail["type"] in ("missing", "extra_forbidden") else known)
    return Problem(lines.get(known, 1), key, sentence(detail, location))


def longest_known(location: Path, lines: Mapping[Path, int]) -> Path:
    """Give the longest beginning of a place that is in the file, for its line."""
    for end in range(len(location), -1, -1):
        for known in (location[:end], tuple(str(step) for step in location[:end])):
            # Keys of YAML may be numbers; the lines are kept by their text.
            if known in lines:
                return known
    return ()


def dotted(path: Path) -> str:
    """Write a place as people do: `release.gates[0].max`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text
