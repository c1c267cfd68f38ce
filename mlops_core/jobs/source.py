"""
Fetch a commit's files into a folder: from a bare repository's archive, with every member checked before it is written.

Links, devices and paths that lead out of the folder are refused by name, and numbers and bytes are capped: Python 3.11
before 3.11.17 can be led out of a folder even with tarfile's own filter, so nothing is left to it.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import uuid
from pathlib import Path, PurePosixPath

from mlops_core.domain.errors import BadInputError, TooLargeError
from mlops_core.jobs.git import git

_MOST_MEMBERS = 50_000
_MOST_BYTES = 2_000_000_000


def fetch_commit(repository: Path, commit: str, folder: Path) -> Path:
    """
    Put the files of a commit into a folder of their own; one that is complete already is left as it is.

    Raises:
        BadInputError: The commit holds a link, a device or a path that is not allowed; names it.
        TooLargeError: It holds too many files or bytes.
        PermanentError: There is no such commit.
    """
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    beside.mkdir()
    try:
        unpack(io.BytesIO(git(repository, "archive", "--format=tar", commit, limit_bytes=_MOST_BYTES)), beside)
        # One rename: another job of the same commit sees all of it or nothing.
        beside.rename(folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def unpack(archive: io.BytesIO, folder: Path) -> None:
    """Unpack a tar archive of plain files and folders. Raises BadInputError, TooLargeError."""
    members = total = 0
    try:
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            for member in tar:
                members, total = members + 1, total + max(member.size, 0)
                if members > _MOST_MEMBERS or total > _MOST_BYTES:
                    raise TooLargeError(
                        f"The commit has more than {_MOST_MEMBERS} files or {_MOST_BYTES} bytes. Keep data out of git."
                    )
                _write(tar, member, folder)
    except tarfile.TarError as error:
        raise BadInputError(f"The commit's archive cannot be read: {error}.") from None


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\0" in member.name:
        raise BadInputError(f"The commit holds the path '{member.name}', which leads out of its folder. Remove it.")
    target = folder / path
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    if not member.isfile():
        kind = "symbolic link" if member.issym() else "hard link" if member.islnk() else "special file"
        raise BadInputError(
            f"The commit holds a {kind}, '{member.name}'. Headrace unpacks plain files only: replace it by a copy."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(member)
    if content is None:
        raise BadInputError(f"'{member.name}' of the commit cannot be read.")
    with content, target.open("xb") as file:
        shutil.copyfileobj(content, file)
    target.chmod(0o755 if member.mode & 0o100 else 0o644)
