"""Archives of commits that want to write elsewhere, to fill memory or disk, or to be another commit's."""

from __future__ import annotations

import gzip
import io
import resource
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_core.adapters.hosts import archive
from mlops_core.adapters.hosts.archive import unpack_archive, verify_commit
from mlops_core.domain.errors import BadInputError, PermanentError, TooLargeError
from mlops_core.domain.ids import CommitId

COMMIT = CommitId("c" * 40)


def tar_of(*members: tarfile.TarInfo, comment: str = "", content: bytes = b"x") -> io.BytesIO:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", pax_headers={"comment": comment} if comment else {}) as tar:
        for member in members:
            if member.isreg():
                member.size = member.size or len(content)
            tar.addfile(member, io.BytesIO(content.ljust(member.size, b"x")) if member.isreg() else None)
    return file


def tar_member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def zip_of(*entries: tuple[str, bytes, int], comment: bytes = b"") -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, content, mode in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            made.writestr(entry, content)
        made.comment = comment
    return file


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_around_a_tar_is_left_out(tmp_path: Path) -> None:
    unpack_archive(tar_of(tar_member("x-1/a"), tar_member("x-1/b/c")), "tar.gz", tmp_path)

    assert files_in(tmp_path) == {"a": b"x", "b/c": b"x"}


@pytest.mark.parametrize(
    ("names", "expected", "found"),
    [
        (["src/a", "src/mlops.yaml"], "src/mlops.yaml", {"src/a", "src/mlops.yaml"}),
        (["repo/a", "repo/mlops.yaml"], "mlops.yaml", {"a", "mlops.yaml"}),
        (["repo/src/mlops.yaml", "repo/a"], "src/mlops.yaml", {"src/mlops.yaml", "a"}),
        (["mlops.yaml", "mlops/a"], "mlops.yaml", {"mlops.yaml", "mlops/a"}),
        (["x-1/", "x-1/a"], "", {"a"}),
        (["src/a", "src/b"], "", {"src/a", "src/b"}),
    ],
)
def test_the_folder_around_a_zip_is_told_from_one_of_the_commit(
    names: list[str], expected: str, found: set[str], tmp_path: Path
) -> None:
    unpack_archive(zip_of(*((name, b"", 0o100755) for name in names)), "zip", tmp_path, expected=expected)

    assert set(files_in(tmp_path)) == found
    assert all((tmp_path / name).stat().st_mode & 0o100 for name in found)


@pytest.mark.parametrize("name", ["x/../../evil", "/etc/evil", "x/..", "x/a\\..\\b", "../evil"])
@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_a_path_that_leads_out_is_refused(name: str, form: str, tmp_path: Path) -> None:
    made = tar_of(tar_member(name)) if form == "tar.gz" else zip_of((name, b"x", 0))
    with pytest.raises(BadInputError):
        unpack_archive(made, form, tmp_path / "inside")  # type: ignore[arg-type]  # both are forms

    assert files_in(tmp_path) == {}


@pytest.mark.parametrize(
    "made",
    [
        lambda: (tar_of(tar_member("x/a", tarfile.SYMTYPE, "/etc/passwd")), "tar.gz"),
        lambda: (tar_of(tar_member("x/a", tarfile.LNKTYPE, "../../etc/passwd")), "tar.gz"),
        lambda: (tar_of(tar_member("x/a", tarfile.CHRTYPE)), "tar.gz"),
        lambda: (tar_of(tar_member("x/a", tarfile.FIFOTYPE)), "tar.gz"),
        lambda: (tar_of(tar_member("x/a"), tar_member("x/a")), "tar.gz"),
        lambda: (tar_of(tar_member("x/a"), tar_member("x/a/b")), "tar.gz"),
        lambda: (tar_of(tar_member("a")), "tar.gz"),
        lambda: (zip_of(("a", b"/etc/passwd", 0o120777)), "zip"),
        lambda: (zip_of(("a", b"", 0o020666)), "zip"),
        lambda: (io.BytesIO(b"no archive"), "tar.gz"),
        lambda: (io.BytesIO(b"no archive"), "zip"),
        lambda: (io.BytesIO(gzip.compress(b"no tar" * 1_000)), "tar.gz"),
        lambda: (io.BytesIO(tar_of(tar_member("x/a")).getvalue()[:40]), "tar.gz"),
        lambda: (io.BytesIO(zip_of(("a", b"x" * 99, 0)).getvalue()[:60]), "zip"),
    ],
)
def test_what_is_no_plain_file_is_refused(made: Callable[[], tuple[io.BytesIO, str]], tmp_path: Path) -> None:
    file, form = made()
    with pytest.raises(BadInputError):
        unpack_archive(file, form, tmp_path)  # type: ignore[arg-type]  # both are forms


def memory_kilobytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def bomb_of_header() -> tuple[io.BytesIO, str]:
    """A tar whose first header claims to be a gigabyte of names."""
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 1 << 30
    return io.BytesIO(gzip.compress(member.tobuf() + b"\0" * 10_000_000)), "tar.gz"


def bomb_of_zeros() -> tuple[io.BytesIO, str]:
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb") as packed:
        for _ in range(60):
            packed.write(b"\0" * 1_000_000)
    return file, "tar.gz"


def bomb_of_directory() -> tuple[io.BytesIO, str]:
    """A zip whose end claims a directory of a gigabyte."""
    end = b"PK\5\6" + b"\0" * 4 + (60_000).to_bytes(2, "little") * 2 + (1 << 30).to_bytes(4, "little") + b"\0" * 6
    return io.BytesIO(b"PK\1\2" * 100 + end), "zip"


def bomb_of_directory_64() -> tuple[io.BytesIO, str]:
    """The same in the form for large zips."""
    record = b"PK\6\6" + (44).to_bytes(8, "little") + b"\0" * 28 + (1 << 30).to_bytes(8, "little") + b"\0" * 8
    locator = b"PK\6\7" + b"\0" * 4 + b"\0" * 8 + (1).to_bytes(4, "little")
    return io.BytesIO(b"PK\1\2" * 100 + record + locator + b"PK\5\6" + b"\xff" * 16 + b"\0" * 2), "zip"


def bomb_of_members() -> tuple[io.BytesIO, str]:
    header = tarfile.TarInfo("x/y").tobuf()
    return io.BytesIO(gzip.compress(header * 50_001, 1)), "tar.gz"


@pytest.mark.parametrize(
    "bomb", [bomb_of_header, bomb_of_zeros, bomb_of_directory, bomb_of_directory_64, bomb_of_members]
)
def test_a_bomb_is_refused_without_filling_the_memory(
    bomb: Callable[[], tuple[io.BytesIO, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_ANY_RATIO_BYTES", 20_000_000)
    file, form = bomb()
    before = memory_kilobytes()
    with pytest.raises((TooLargeError, BadInputError)):
        unpack_archive(file, form, tmp_path)  # type: ignore[arg-type]  # both are forms

    assert memory_kilobytes() - before < 100_000


def test_a_zip_that_becomes_too_large_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_ANY_RATIO_BYTES", 0)
    monkeypatch.setattr(archive, "_MOST_RATIO", 50)
    with pytest.raises(TooLargeError):
        unpack_archive(zip_of(("a", b"\0" * 1_000_000, 0)), "zip", tmp_path)

    assert sum(len(content) for content in files_in(tmp_path).values()) <= 100_000


def test_an_archive_of_the_commit_passes_and_that_of_another_does_not() -> None:
    verify_commit(tar_of(tar_member("x/a"), comment=COMMIT), "tar.gz", COMMIT)
    verify_commit(zip_of(("a", b"", 0), comment=COMMIT.encode()), "zip", COMMIT)
    for file, form in (
        (tar_of(tar_member("x/a"), comment="d" * 40), "tar.gz"),
        (zip_of(("a", b"", 0), comment=b"d" * 40), "zip"),
    ):
        with pytest.raises(PermanentError, match="'dddd"):
            verify_commit(file, form, COMMIT)  # type: ignore[arg-type]  # both are forms
