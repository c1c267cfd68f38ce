"""
The files of a step: its own copy of the code, its output paths, and digests of what it reads and writes.

A digest is of names and contents, not of times, so that a fresh checkout of the same commit reuses what was computed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

_NEVER_COPIED = (".git", "__pycache__", ".venv", ".headrace", ".ipynb_checkpoints")
_IGNORE_FILES = (".amlignore", ".gitignore")


def folder_name(step: str) -> str:
    """Make a folder's name of a step's name."""
    return step.replace("/", "__")


def copy_code(source: Path, target: Path) -> None:
    """Copy a step's code, without what `.amlignore` (else `.gitignore`) names; a single file becomes a folder of it."""
    target.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copy2(source, target / source.name)
        return
    for path in code_files(source):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)


def code_files(source: Path) -> Iterator[Path]:
    """List the files of a code folder that count, in a fixed order."""
    patterns = _ignored(source)
    for folder, folders, names in os.walk(source):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if not _is_ignored((here / name).relative_to(source), patterns))
        for name in sorted(names):
            path = here / name
            if path.is_file() and not _is_ignored(path.relative_to(source), patterns):
                yield path


def _ignored(source: Path) -> list[str]:
    for name in _IGNORE_FILES:
        file = source / name
        if file.is_file():
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            return [line.strip().rstrip("/") for line in lines if line.strip() and line.strip()[0] not in "#!"]
    return []


def _is_ignored(path: Path, patterns: list[str]) -> bool:
    if path.name in _NEVER_COPIED:
        return True
    text = path.as_posix()
    return any(
        fnmatchcase(text, pattern.lstrip("/")) or ("/" not in pattern and fnmatchcase(path.name, pattern))
        for pattern in patterns
    )


def digest_of_code(source: Path) -> str:
    """Hash a code folder's files that count, or a single file."""
    if source.is_file():
        return digest_of_path(source)
    digest = hashlib.sha256()
    for path in code_files(source):
        _add(digest, path.relative_to(source).as_posix(), path)
    return digest.hexdigest()


def digest_of_path(path: Path) -> str:
    """Hash a file's content, or a folder's names and contents. What is not there has a digest of its own."""
    digest = hashlib.sha256()
    if path.is_file():
        _add(digest, "", path)
    elif path.is_dir():
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                file = Path(folder, name)
                if file.is_file():
                    _add(digest, file.relative_to(path).as_posix(), file)
    else:
        digest.update(b"absent")
    return digest.hexdigest()


def _add(digest: hashlib._Hash, name: str, path: Path) -> None:
    digest.update(f"{name}\0{path.stat().st_size}\0".encode())
    with path.open("rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
