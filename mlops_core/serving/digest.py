"""
The digest of a model's folder: one text that changes when any byte, name or file of it changes.

Used by whoever deploys a model (to write the digest down) and by the scoring app (to refuse another one before
anything is loaded). The rule, so that any other tool can compute it too:

1. Every regular file below the folder is a line: the SHA-256 of its bytes in lower-case hex, two blanks, its path
   relative to the folder with `/` between the parts, a line feed.
2. The lines are sorted by the path's UTF-8 bytes. A path with a line feed is refused, and so is any link or device.
3. The digest is `sha256:` and the SHA-256 of those lines together, in hex.

Modes, times and empty folders do not count, nor do `__pycache__` folders, since importing a model's own code writes
them. A model that is a single file has the digest of a folder with just that file.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_CHUNK_BYTES = 1 << 20


class UndigestibleError(ValueError):
    """A tree holds something that has no digest: a link, a device, or a name with a line feed."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"'{path}' {reason}, so the model has no digest. Replace it by a regular file.")
        self.path = path


def tree_digest(path: str | os.PathLike[str]) -> str:
    """
    Compute the digest of a model's folder (or single file).

    Returns:
        `sha256:` and 64 lower-case hex digits.
    Raises:
        FileNotFoundError: Nothing is at `path`.
        UndigestibleError: A link, a device or a name with a line feed is in the tree.
    """
    root = Path(path)
    if not root.exists():
        message = f"No model is at '{root}'. Give the folder that holds it."
        raise FileNotFoundError(message)
    files = [(root.name, root)] if root.is_file() else _files_below(root)
    outer = hashlib.sha256()
    for name, file in sorted(files, key=lambda entry: entry[0].encode()):
        outer.update(f"{_file_digest(file)}  {name}\n".encode())
    return f"sha256:{outer.hexdigest()}"


def _files_below(root: Path) -> list[tuple[str, Path]]:
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name != "__pycache__"]
        for name in [*subfolders, *names]:
            path = Path(folder, name)
            if path.is_symlink():
                raise UndigestibleError(path, "is a link")
            if name in subfolders and path.is_dir():
                continue
            if not path.is_file():
                raise UndigestibleError(path, "is no regular file")
            relative = path.relative_to(root).as_posix()
            if "\n" in relative:
                raise UndigestibleError(path, "has a line feed in its name")
            found.append((relative, path))
    return found


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()
