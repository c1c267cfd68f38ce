"""
What a commit's YAML may name on the disk: only what is in the commit.

azure-ai-ml uploads whatever local path it finds as code, data or build context, for the project's own jobs to read. On the
controller that could be the controller's own files and environment, so every path is looked at before the client gets to
see the file: in the pipeline, in all that it leads to, and in the assets that `mlops.yaml` lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlops_core.domain.errors import BadInputError
from mlops_core.pipelines.documents import DocumentError, KeyPath, parse
from mlops_core.pipelines.errors import Problem

# Keys whose text is a local path, unless it is a reference or an address. Source: the schemas of azure-ai-ml.
_PATHS = frozenset(
    {"path", "code", "conda_file", "component", "trial", "environment", "file", "local_path", "job", "entry_script",
     "scoring_script", "tables_path", "schema_path"}
)  # fmt: skip
_LISTS = frozenset({"additional_includes", "py_files", "jars", "files", "archives"})
# What stands under these is named by the project, and a text there is a value.
_NAMED = frozenset({"inputs", "outputs", "environment_variables", "tags", "properties", "search_space"})
_FILE = "file:"
# `azureml:name:1`, `azureml://...`, `https://...`, `git+ssh://...`, `${{parent.inputs.x}}`
_ELSEWHERE = re.compile(r"azureml:|[A-Za-z][A-Za-z0-9+.-]*://|\$\{\{|\$\[\[")
_MOST_DOCUMENTS = 1_000


def check_paths(root: Path, files: Iterable[tuple[str, Path]]) -> None:
    """
    Refuse YAML that leads out of a commit.

    Args:
        root: The folder of the commit's files.
        files: Where to begin: what names each (such as "mlops.yaml, build.assets[0]"), and the file.
    Raises: BadInputError: With every path that leads out, and whatever cannot be read.
    """
    problems = list(_Walk(root.resolve()).problems(files))
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise BadInputError(f"What is submitted to Azure ML must be in the repository; nothing was started:\n{listed}")


def path_in(root: Path, folder: Path, text: str, key: str) -> str:
    """
    Read a path that `mlops.yaml` gives for data: a reference or an address as it is, else whole.

    Raises: BadInputError: It leads out of the commit's folder, or to nothing; the key names it.
    """
    if _ELSEWHERE.match(text):
        return text
    target = (folder / text).resolve()
    if not target.is_relative_to(root.resolve()) or not target.exists():
        raise BadInputError(
            f"{key}: there is no '{text[:200]}' in the repository. Give a path from the project's folder, or a reference "
            "such as azureml:NAME:VERSION."
        )
    return str(target)


class _Walk:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._waiting: list[Path] = []
        self._seen: set[Path] = set()

    def problems(self, files: Iterable[tuple[str, Path]]) -> Iterator[str]:
        for named_by, path in files:
            if self._is_inside(path):
                self._look_into(path)
            else:
                yield f"{named_by}: '{path.name}' is not in the repository."
        while self._waiting:
            path = self._waiting.pop()
            if path in self._seen or not path.is_file():
                continue
            self._seen.add(path)
            if len(self._seen) > _MOST_DOCUMENTS:
                yield f"there are more than {_MOST_DOCUMENTS} files of YAML."
                return
            yield from self._of_document(path)

    def _of_document(self, path: Path) -> Iterator[str]:
        label = path.relative_to(self._root).as_posix()
        beside = path.with_suffix(".additional_includes")
        if beside.is_file():
            for number, line in enumerate(beside.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                for message in self._of_path(line.strip(), path, ()):
                    yield str(Problem(file=beside.relative_to(self._root).as_posix(), line=number, message=message))
        try:
            data, lines = parse(path.read_bytes(), label)
        except DocumentError as error:
            yield str(error.problem)
            return
        for key, text in _texts(data, ()):
            for message in self._of_path(text, path, key):
                dotted = ".".join(str(part) for part in key)
                yield str(Problem(file=label, line=lines.get(key), key=dotted, message=message))

    def _of_path(self, text: str, document: Path, key: KeyPath) -> Iterator[str]:
        if not text or _ELSEWHERE.match(text):
            return
        target = document.parent / text.removeprefix(_FILE)
        if not self._is_inside(target):
            yield f"'{text[:200]}' leads out of the repository. Put what it names into the repository."
        elif not key or key[-1] != "conda_file":
            self._look_into(target)

    def _look_into(self, path: Path) -> None:
        if path.suffix in (".yml", ".yaml"):
            self._waiting.append(path.resolve())

    def _is_inside(self, path: Path) -> bool:
        try:
            return path.resolve().is_relative_to(self._root)
        except (OSError, ValueError, RuntimeError):
            return False


def _texts(value: object, key: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """List the texts that stand where a path may stand."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, (*key, str(name)))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _texts(inner, (*key, number))
    elif isinstance(value, str):
        names = [part for part in key if isinstance(part, str)]
        is_listed = bool(names) and names[-1] in _LISTS and isinstance(key[-1], int)
        is_value = len(key) > 1 and key[-2] in _NAMED
        if value.startswith(_FILE) or is_listed or (key and key[-1] in _PATHS and not is_value):
            yield key, value
