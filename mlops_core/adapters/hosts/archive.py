"""
Downloaded archives of commits: of which commit they are, and their files in a folder.

`git archive`, which all hosts but Azure DevOps use, notes the commit in the archive: in a pax header of a tar, in the
comment of a zip. So a branch that somebody named like a commit cannot stand in for it.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Literal, Protocol

from mlops_core.domain.errors import BadInputError, PermanentError, TooLargeError
from mlops_core.domain.ids import CommitId
from mlops_core.ports import ProjectRecord

_MOST_MEMBERS = 50_000
_MOST_BYTES = 2_000_000_000
_CHUNK_BYTES = 1 << 16
_HEAD_BYTES = 1_536
_LINK, _FOLDER, _FILE, _KIND = 0o120000, 0o040000, 0o100000, 0o170000
# Text shrinks to a tenth; a bomb to a thousandth.
_MOST_RATIO, _ANY_RATIO_BYTES = 200, 100_000_000
_MOST_AT_ONCE_BYTES = 1 << 20
# Too long, or with letters that this file system does not have.
_NO_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
_ZIP_TAIL_BYTES = 70_000
# 50,000 names of 250 letters.
_MOST_DIRECTORY_BYTES = 16_000_000


class SourceArchive(Protocol):
    """A host that gives a commit's files as an archive."""

    def archive(
        self, project: ProjectRecord, commit: CommitId, file: BinaryIO, *, limit_bytes: int = ...
    ) -> Literal["tar.gz", "zip"]:
        """Download all files of a commit."""
        ...


def verify_commit(file: BinaryIO, form: Literal["tar.gz", "zip"], commit: CommitId) -> None:
    """Compare the commit that an archive names with the one that was asked for. Raises PermanentError, BadInputError."""
    file.seek(0)
    with _readable():
        if form == "zip":
            with zipfile.ZipFile(file) as archive:
                named = archive.comment.decode(errors="replace")
        else:
            with gzip.GzipFile(fileobj=file) as unzipped:
                named = _named_in_tar(unzipped.read(_HEAD_BYTES))
    file.seek(0)
    if named and named != commit:
        raise PermanentError(
            f"The host gave the files of commit '{named[:64]}' instead of '{commit}': a branch or a tag has its id as its "
            "name. Delete that."
        )


def _named_in_tar(head: bytes) -> str:
    """Read the commit out of the global header with which `git archive` begins (git-get-tar-commit-id)."""
    if head[156:157] != b"g":
        return ""
    record = head[512:1024].split(b"\n", 1)[0]
    return record.partition(b" comment=")[2].decode(errors="replace")


def fetch_into(source: SourceArchive, project: ProjectRecord, commit: CommitId, folder: Path) -> None:
    """
    Put the files of a commit into an empty folder.

    Raises:
        BadInputError: The commit holds a link, a device or a path that is not allowed; names it.
        TooLargeError: It holds too many files or bytes.
        NotFoundError, TemporaryError, PermanentError: As `archive` does.
    """
    with tempfile.TemporaryFile() as file:
        form = source.archive(project, commit, file)
        file.seek(0)
        unpack_archive(file, form, folder, expected=project.manifest)


def unpack_archive(file: BinaryIO, form: Literal["tar.gz", "zip"], folder: Path, *, expected: str = "") -> None:
    """
    Unpack an archive of plain files, without the folder that hosts put around them.

    Args:
        expected: A file of the commit, which tells whether there is a folder around the files of a zip.
    Raises: BadInputError, TooLargeError.
    """
    most = min(_MOST_BYTES, file.seek(0, io.SEEK_END) * _MOST_RATIO + _ANY_RATIO_BYTES)
    file.seek(0)
    into = _Folder(folder, most)
    with _readable():
        if form == "zip":
            _unpack_zip(file, into, expected)
        else:
            _unpack_tar(file, into, most)


def _unpack_tar(file: BinaryIO, into: _Folder, most: int) -> None:
    with tempfile.TemporaryFile() as plain:
        _decompress(file, plain, most)
        # Not as a stream: a header that claims gigabytes is one read here, which can be refused.
        with tarfile.open(fileobj=_SmallReads(plain), mode="r:") as tar:
            # All are looked at before the first is written: nothing is left of an archive that is refused.
            for member, inside in [(member, _tar_place(member, into)) for member in tar]:
                if member.isfile():
                    into.write(inside, tar.extractfile(member), executable=bool(member.mode & 0o100))


def _tar_place(member: tarfile.TarInfo, into: _Folder) -> PurePosixPath:
    """Check an entry. Raises BadInputError, TooLargeError."""
    into.count_member()
    if member.issym() or member.islnk():
        raise _link(member.name)
    if not (member.isdir() or member.isfile()) or member.issparse():
        raise BadInputError(f"The commit holds '{member.name[:200]}', which is no plain file. Remove it.")
    return PurePosixPath(*_parts(member.name)[1:])


def _decompress(file: BinaryIO, plain: BinaryIO, most: int) -> None:
    """Decompress no more than a number of bytes. Raises TooLargeError."""
    written = 0
    with gzip.GzipFile(fileobj=file) as unzipped:
        while chunk := unzipped.read(_CHUNK_BYTES):
            written += len(chunk)
            if written > most:
                raise _too_large()
            plain.write(chunk)
    plain.seek(0)


class _SmallReads(io.RawIOBase):
    """A file of which only little can be read at once."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        """Read. Raises TooLargeError."""
        if size > _MOST_AT_ONCE_BYTES:
            raise _too_large()
        return self._file.read(min(size, _MOST_AT_ONCE_BYTES) if size >= 0 else _MOST_AT_ONCE_BYTES)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Tell the place."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Tell that places can be gone to."""
        return True

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True


def _unpack_zip(file: BinaryIO, into: _Folder, expected: str) -> None:
    _look_at_directory(file)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > _MOST_MEMBERS:
            raise _too_large()
        around = _folder_around(members, expected)
        for member in members:
            mode = member.external_attr >> 16
            if mode & _KIND == _LINK:
                raise _link(member.filename)
            if member.flag_bits & 1 or mode & _KIND not in (0, _FILE, _FOLDER):
                raise BadInputError(f"The commit holds '{member.filename[:200]}', which is no plain file. Remove it.")
            inside = PurePosixPath(*_parts(member.filename)[around:])
            if not member.is_dir():
                into.write(inside, archive.open(member), executable=bool(mode & 0o100))


def _look_at_directory(file: BinaryIO) -> None:
    """Refuse a zip whose directory would fill the memory before its entries can be counted. Source: APPNOTE 4.3.14-16."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _ZIP_TAIL_BYTES))
    tail = file.read()
    file.seek(0)
    end = tail.rfind(b"PK\x05\x06")
    length = int.from_bytes(tail[end + 12 : end + 16], "little") if end >= 0 else 0
    if end >= 76 and tail[end - 20 : end - 16] == b"PK\x06\x07":  # noqa: PLR2004 - zip64: record and locator
        length = int.from_bytes(tail[end - 36 : end - 28], "little")
    if length > _MOST_DIRECTORY_BYTES:
        raise _too_large()


def _folder_around(members: list[zipfile.ZipInfo], expected: str) -> int:
    """
    Tell whether all lies in one folder that is none of the commit's.

    The file that is expected tells; where it is nowhere, so does the folder's own entry, as `git archive` writes it.
    """
    names = [member.filename for member in members]
    around, slash, _ = names[0].partition("/") if names else ("", "", "")
    if not slash or expected in names or not all(name.startswith(f"{around}/") for name in names):
        return 0
    return 1 if f"{around}/{expected}" in names or names[0] == f"{around}/" else 0


class _Folder:
    """Writes checked files, never more than the limits and never outside."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self._most = most
        self._members = 0
        self._bytes = 0
        self._made: set[Path] = set()

    def count_member(self) -> None:
        """Count an entry. Raises TooLargeError."""
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise _too_large()

    def write(self, inside: PurePosixPath, content: IO[bytes] | None, *, executable: bool) -> None:
        """Write one file; what is counted is what really comes. Raises BadInputError, TooLargeError."""
        if not inside.parts or content is None:
            raise BadInputError("The commit's archive holds a file without a name.")
        target = self._folder / inside
        try:
            if target.parent not in self._made:
                target.parent.mkdir(parents=True, exist_ok=True)
                self._made.add(target.parent)
            with content, target.open("xb") as file:
                while chunk := content.read(_CHUNK_BYTES):
                    self._bytes += len(chunk)
                    if self._bytes > self._most:
                        raise _too_large()
                    file.write(chunk)
                os.fchmod(file.fileno(), 0o755 if executable else 0o644)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise BadInputError(f"The commit's archive holds '{inside}' twice, or as file and as folder.") from None
        except OSError as error:
            if error.errno not in _NO_NAME:
                raise
            raise BadInputError(f"The commit holds a path that no file can have: '{str(inside)[:200]}'.") from None


def _too_large() -> TooLargeError:
    return TooLargeError(
        f"The commit has more than {_MOST_MEMBERS} files or {_MOST_BYTES} bytes, or its archive claims so. Keep data out of "
        "git."
    )


def _parts(name: str) -> tuple[str, ...]:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or any(letter in name for letter in "\0\\"):
        raise BadInputError(f"The commit holds the path '{name[:200]}', which leads out of its folder. Remove it.")
    return path.parts


def _link(name: str) -> BadInputError:
    return BadInputError(
        f"The commit holds a link, '{name[:200]}'. Headrace unpacks plain files only: replace it by a copy."
    )


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, gzip.BadGzipFile, NotImplementedError) as error:
        raise BadInputError(f"The commit's archive cannot be read: {str(error)[:200]}.") from None
