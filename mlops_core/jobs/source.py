"""
Fetch a commit's files into a folder: byte by byte what was committed, with every entry checked before anything is written.

The files are read by their ids and not from `git archive`, which leaves out or rewrites files where the repository's own
attributes say so (`export-ignore`, `export-subst`, `eol`, `ident`). Links and paths that lead out of the folder are refused
by name; numbers and bytes are known, and capped, before the first is read.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from mlops_core.domain.errors import BadInputError, PermanentError, TooLargeError
from mlops_core.jobs.addresses import LocalRepository, clone_address, shown
from mlops_core.jobs.git import checked_commit, checked_path, fetch_remote, git_stream

_MOST_MEMBERS = 50_000
_MOST_BYTES = 2_000_000_000
# 50,000 entries with paths of 500 letters.
_MOST_LISTING_BYTES = 32_000_000
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class _Entry:
    """One line of a tree's listing."""

    mode: str
    object_id: str
    size: int
    path: str


def fetch_commit(address: str | Path, commit: str, folder: Path, *, hosts: Collection[str] = ()) -> Path:
    """
    Put the files of a commit into a folder of their own; one that is complete already is left as it is.

    Args:
        address: `clone_url` of the project: a registered bare repository, or https to one of the hosts.
        hosts: Hosts that may be fetched from; without any, only what is on this machine.
    Raises:
        BadInputError: The commit holds a link or a path that is not allowed; names it. Or the address is none.
        RefusedError: The address leads to a host that is not listed.
        TooLargeError: It holds too many files or bytes.
        PermanentError: There is no such commit.
    """
    checked_commit(commit)
    allowed = clone_address(str(address), hosts=hosts)
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    fetched = beside.with_suffix(".git")
    beside.mkdir()
    try:
        if isinstance(allowed, LocalRepository):
            repository = allowed.path
        else:
            fetch_remote(allowed, commit, fetched, limit_bytes=_MOST_BYTES)
            repository = fetched
        write_files(repository, commit, beside)
        # One rename: another job of the same commit sees all of it or nothing.
        beside.rename(folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(fetched, ignore_errors=True)
    return folder


def write_files(repository: Path, commit: str, folder: Path, *, root: str = ".") -> None:
    """
    Write the files of a commit, or of one folder in it, into an empty folder.

    Raises: BadInputError, TooLargeError, PermanentError: As `fetch_commit` does.
    """
    tree = f"{checked_commit(commit)}^{{commit}}"
    tree = f"{tree}^{{tree}}" if root == "." else f"{tree}:{checked_path(root)}"
    entries = list(_entries(_listing(repository, tree)))
    if sum(entry.size for entry in entries) > _MOST_BYTES:
        raise _too_large()
    places = [_place(entry) for entry in entries]
    try:
        _write_all(repository, entries, places, folder)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        name = shown(str(error.filename or ""))
        raise BadInputError(f"The commit holds {name} twice, or as file and as folder. Rename one.") from None


def _listing(repository: Path, tree: str) -> bytes:
    """List a tree. Ten folders of ten folders and so on are a few objects and have no end: counted as they come."""
    listing = bytearray()
    members = 0
    with git_stream(repository, "ls-tree", "-r", "-z", "--long", tree) as output:
        while chunk := output.read(_CHUNK_BYTES):
            listing += chunk
            members += chunk.count(b"\0")
            if members > _MOST_MEMBERS or len(listing) > _MOST_LISTING_BYTES:
                raise _too_large()
    return bytes(listing)


def _too_large() -> TooLargeError:
    return TooLargeError(
        f"The commit has more than {_MOST_MEMBERS} files or {_MOST_BYTES} bytes. Keep data out of git."
    )


def _entries(listing: bytes) -> Iterator[_Entry]:
    for line in listing.split(b"\0")[:-1]:
        about, _, name = line.partition(b"\t")
        mode, _, object_id, size = about.decode("ascii").split()
        yield _Entry(mode, object_id, int(size) if size.isdigit() else 0, os.fsdecode(name))


def _place(entry: _Entry) -> PurePosixPath:
    """Check an entry. Raises BadInputError, naming it."""
    parts = entry.path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in entry.path:
        raise BadInputError(f"The commit holds the path {shown(entry.path)}, which leads out of its folder. Remove it.")
    if any(part.lower() == ".git" for part in parts):
        raise BadInputError(f"The commit holds {shown(entry.path)}, which git would take for a repository. Remove it.")
    if any(len(os.fsencode(part)) > 255 for part in parts) or len(entry.path) > 3_000:  # noqa: PLR2004 - NAME_MAX
        raise BadInputError(f"The commit holds a path that is too long for a file: {shown(entry.path)}. Shorten it.")
    # Submodules (160000) stay the empty folders that they are without a fetch of their own.
    if not (entry.mode.startswith("100") or entry.mode == "160000"):
        kind = "symbolic link" if entry.mode == "120000" else "special file"
        raise BadInputError(
            f"The commit holds a {kind}, {shown(entry.path)}. Headrace unpacks plain files only: replace it by a copy."
        )
    return PurePosixPath(*parts)


def _write_all(repository: Path, entries: list[_Entry], places: list[PurePosixPath], folder: Path) -> None:
    files: list[tuple[_Entry, Path]] = []
    for entry, place in zip(entries, places, strict=True):
        if entry.mode == "160000":
            (folder / place).mkdir(parents=True, exist_ok=True)
        else:
            files.append((entry, folder / place))
    with tempfile.TemporaryFile() as asks:
        asks.writelines(f"{entry.object_id}\n".encode() for entry, _ in files)
        asks.seek(0)
        with git_stream(repository, "cat-file", "--batch", asks=asks) as output:
            for entry, target in files:
                target.parent.mkdir(parents=True, exist_ok=True)
                _write(output, entry, target)


def _write(output: IO[bytes], entry: _Entry, target: Path) -> None:
    """Take one file from what `git cat-file --batch` prints: a line with id, kind and size, the bytes, a line's end."""
    head = output.readline().split()
    if head != [entry.object_id.encode(), b"blob", str(entry.size).encode()]:
        raise PermanentError(f"The content of {shown(entry.path)} is missing from the repository. Push it again.")
    left = entry.size
    with target.open("xb") as file:
        while left and (chunk := output.read(min(left, _CHUNK_BYTES))):
            file.write(chunk)
            left -= len(chunk)
    output.read(1)
    if left:
        raise PermanentError(f"The content of {shown(entry.path)} ended early. Push it again.")
    target.chmod(0o755 if entry.mode == "100755" else 0o644)
