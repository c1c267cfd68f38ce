"""
YAML files of a pipeline with the line of each key, and a record of every file that was read.

The checks and the builder read all files through one `Reader`, so that the plan cache knows what a plan depends on.
Anchors and merge keys are allowed, since Azure ML's own loader takes them, but what they expand to is capped: 400 bytes
of aliases can become gigabytes.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from mlops_core.pipelines.errors import PipelineInvalidError, Problem

KeyPath = tuple[str | int, ...]

MAX_FILE_BYTES = 1_000_000
# A long pipeline has a few thousand; far below what hurts.
MAX_NODES = 100_000
MAX_DEPTH = 50
MAX_DIGITS = 100


class DocumentError(Exception):
    """A file that cannot be read as YAML; `problem` says where and why. Does not leave this package."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True)
class Document:
    """One YAML file whose top level is a mapping."""

    path: Path
    label: str
    """The path as people are told it: relative to the project's root where it lies in it."""
    data: dict[str, object]
    lines: dict[KeyPath, int]

    @property
    def folder(self) -> Path:
        """Relative paths in the file start here."""
        return self.path.parent

    def line(self, key: KeyPath) -> int:
        """Give the line of a key, or of the nearest key around it that is there; from 1."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.lines:
                return self.lines[key[:end]]
        return 1

    def problem(self, key: KeyPath, message: str, *, step: str | None = None) -> Problem:
        """Make a problem of this file."""
        dotted = ".".join(str(part) for part in key) or None
        return Problem(file=self.label, line=self.line(key), key=dotted, message=message, step=step)


@dataclass
class Reader:
    """Reads files below a project's root (and beside it, where the YAML says so), each once."""

    root: Path
    seen: dict[Path, str | None] = field(default_factory=dict)
    """SHA-256 of each file read; None for a path of which only the existence mattered."""
    scanned: bool = False
    """Whether the root was searched for declared assets."""
    _documents: dict[Path, Document] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = self.root.resolve()

    def portable(self, path: Path) -> str:
        """Write a path as plans hold it: POSIX, relative to the root where it lies in it."""
        resolved = path.resolve()
        return (resolved.relative_to(self.root) if resolved.is_relative_to(self.root) else resolved).as_posix()

    def shown(self, path: Path) -> str:
        """Write a path as people read it: from the root, also where it lies beside it; never a place of one machine."""
        return Path(os.path.relpath(path.resolve(), self.root)).as_posix()

    def exists(self, path: Path) -> bool:
        """Tell whether there is a file or folder, and remember that the plan depends on it."""
        self.seen.setdefault(path.resolve(), None)
        return path.exists()

    def read_bytes(self, path: Path) -> bytes:
        """Read a file and remember its content's hash. Raises OSError as `Path.read_bytes` does."""
        content = path.read_bytes()
        self.seen[path.resolve()] = hashlib.sha256(content).hexdigest()
        return content

    def read(self, path: Path) -> Document:
        """
        Read a YAML file whose top level is a mapping.

        Raises:
            DocumentError: It is missing, too large, no YAML, no mapping, has a key twice or expands too far.
        """
        absolute = path.resolve()
        if absolute not in self._documents:
            label = self.shown(absolute)
            try:
                content = self.read_bytes(absolute)
            except OSError as error:
                reason = error.strerror or str(error)
                raise DocumentError(Problem(label, f"the file cannot be read: {reason}. Correct the path.")) from error
            data, lines = parse(content, label)
            self._documents[absolute] = Document(absolute, label, data, lines)
        return self._documents[absolute]


def read_or_raise(reader: Reader, path: Path) -> Document:
    """Read the file that everything starts from. Raises: PipelineInvalidError, where `Reader.read` has no way on."""
    try:
        return reader.read(path)
    except DocumentError as error:
        raise PipelineInvalidError(reader.shown(path), (error.problem,)) from error


def parse(content: bytes, label: str) -> tuple[dict[str, object], dict[KeyPath, int]]:
    """
    Read YAML into plain values and the line of each key.

    Raises: DocumentError: See `Reader.read`.
    """
    if len(content) > MAX_FILE_BYTES:
        raise DocumentError(Problem(label, f"the file has {len(content)} bytes; at most {MAX_FILE_BYTES} are read."))
    lines: dict[KeyPath, int] = {}
    try:
        text = content.decode("utf-8-sig")
        _refuse_depth(text, label)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            raise DocumentError(Problem(label, "the file is empty.", line=1))
        _Walk(label, lines).visit(root, (), 0)
        data = yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise DocumentError(Problem(label, "the file is not UTF-8 text. Save it as UTF-8.")) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise DocumentError(Problem(label, f"the file is not YAML: {error.problem}.", line=line)) from error
    except (yaml.YAMLError, ValueError) as error:
        raise DocumentError(Problem(label, f"the file is not YAML: {error}.")) from error
    if not isinstance(data, dict):
        raise DocumentError(Problem(label, "the file must be a mapping of keys to values.", line=1))
    return data, lines


def _refuse_depth(text: str, label: str) -> None:
    """Count levels before anything is built, which would use a level of Python's own stack for each."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1
        if depth > MAX_DEPTH:
            raise DocumentError(_too_much(label, getattr(event.start_mark, "line", 0) + 1))


def _too_much(label: str, line: int) -> Problem:
    message = f"the file expands to more than {MAX_NODES} values or {MAX_DEPTH} levels. Write it without aliases."
    return Problem(label, message, line=line)


@dataclass
class _Walk:
    """Collects lines, refuses doubled keys and too much of anything."""

    label: str
    lines: dict[KeyPath, int]
    nodes: int = 0

    def visit(self, node: yaml.Node, key: KeyPath, depth: int) -> None:
        self.nodes += 1
        line = node.start_mark.line + 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            raise DocumentError(_too_much(self.label, line))
        self._check_scalar(node, line)
        self.lines.setdefault(key, line)
        if isinstance(node, yaml.MappingNode):
            self._visit_mapping(node, key, depth)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.visit(item, (*key, index), depth + 1)

    def _check_scalar(self, node: yaml.Node, line: int) -> None:
        if not isinstance(node, yaml.ScalarNode):
            return
        # Python does not write such a number, nor UTF-8 such a text: both would fail far from here.
        if node.tag == "tag:yaml.org,2002:int" and len(node.value) > MAX_DIGITS:
            raise DocumentError(Problem(self.label, f"a number has more than {MAX_DIGITS} digits.", line=line))
        if not node.value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in node.value):
            raise DocumentError(Problem(self.label, "a text holds half of a surrogate pair. Remove it.", line=line))

    def _visit_mapping(self, node: yaml.MappingNode, key: KeyPath, depth: int) -> None:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            name, line = str(key_node.value), key_node.start_mark.line + 1
            self._check_scalar(key_node, line)
            if name in seen and name != "<<":
                message = f"the key is there twice, first in line {seen[name]}. Keep one."
                dotted = ".".join(str(part) for part in (*key, name))
                raise DocumentError(Problem(self.label, message, line=line, key=dotted))
            seen[name] = line
            # Keys that come by a merge count as the place where they are merged in.
            inner = key if name == "<<" else (*key, name)
            self.lines.setdefault(inner, line)
            self.visit(value_node, inner, depth + 1)
