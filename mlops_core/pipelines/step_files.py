"""
The files of a step: its own copy of the code, its output paths, and digests of what it reads and writes.

A digest is of names and contents, not of times, so that a fresh checkout of the same commit reuses what was computed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from mlops_core.pipelines.ignore_rules import IgnoreRules

_NEVER_COPIED = (".git", "__pycache__", ".venv", ".headrace", ".ipynb_checkpoints")


def folder_name(step: str) -> str:
    """Make a folder's name of a step's name."""
    return step.replace("/", "__")


def copy_code(source: Path, target: Path, *, everything: bool = False) -> None:
    """
    Copy a step's code, without what `.amlignore` (else `.gitignore`) names; a single file becomes a folder of it.

    Args:
        everything: Copy also what those files name, since it is not for a step.
    """
    target.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copy2(source, target / source.name)
        return
    for path in code_files(source, everything=everything):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)


def code_files(source: Path, *, everything: bool = False) -> Iterator[Path]:
    """List the files of a code folder that count, in a fixed order."""
    rules = IgnoreRules() if everything else IgnoreRules.of_folder(source)
    for folder, folders, names in os.walk(source):
        here = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if name not in _NEVER_COPIED
            and (rules.brings_back or not rules.ignores((here / name).relative_to(source).as_posix()))
        )
        for name in sorted(names):
            path = here / name
            if name in _NEVER_COPIED or not path.is_file():
                continue
            if not rules.ignores(path.relative_to(source).as_posix()):
                yield path


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
