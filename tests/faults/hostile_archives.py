"""Hostile archives and trees, byte by byte: what a host, or whoever sits between, could send."""
# ruff: noqa: E501 - bytes of an attacker, as they are

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from repositories import FILE, FOLDER, LINK, RawRepository

TOP = "x-main"
Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, content: bytes = b"evil", **fields: object) -> Member:
    """One member of a tar, with its size unless it is given."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar_gz(*members: Member, form: Literal[0, 1, 2] = tarfile.PAX_FORMAT) -> bytes:
    """Write members as they are, headers and bytes, without tarfile's own checks."""
    raw = bytearray()
    for info, content in members:
        raw += info.tobuf(form, "utf-8", "surrogateescape")
        raw += content + bytes(-len(content) % 512)
    return gzip.compress(bytes(raw) + bytes(1024), 1)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Member:
    """A link."""
    return member(name, b"", type=kind, linkname=target)


def escaping_names(outside: Path) -> list[str]:
    """Paths that lead out of a folder, on some system."""
    return [
        "../evil", f"{TOP}/../evil", f"{TOP}/../../evil", f"{TOP}/a/../../../evil", f"./../{TOP}/evil", f"{outside}/evil",
        f"/{outside}/evil", f"{TOP}/..", "..", f"{TOP}/..\\evil", f"{TOP}\\..\\..\\evil", "C:\\evil", f"{TOP}/a/./../../../evil",
    ]  # fmt: skip


def refused_tars(outside: Path) -> Iterator[tuple[str, bytes]]:
    """Archives of which nothing may be taken."""
    for number, name in enumerate(escaping_names(outside)):
        yield f"escape-{number}", tar_gz(member(f"{TOP}/fine"), member(name))
    for name, target in (
        ("absolute", str(outside)),
        ("up", "../.."),
        ("inside", "fine"),
        ("self", "l"),
        ("none", "nothing"),
    ):
        yield f"symlink-{name}", tar_gz(member(f"{TOP}/fine"), link(f"{TOP}/l", target))
        yield f"symlink-{name}-through", tar_gz(link(f"{TOP}/l", target), member(f"{TOP}/l/evil"))
        yield f"hardlink-{name}", tar_gz(member(f"{TOP}/fine"), link(f"{TOP}/l", target, tarfile.LNKTYPE))
    for name, kind in (
        ("character", tarfile.CHRTYPE), ("block", tarfile.BLKTYPE), ("fifo", tarfile.FIFOTYPE), ("sparse", tarfile.GNUTYPE_SPARSE),
    ):  # fmt: skip
        yield f"device-{name}", tar_gz(member(f"{TOP}/d", b"", type=kind, devmajor=1, devminor=3))
    yield "pax-path", tar_gz(member(f"{TOP}/a", pax_headers={"path": f"{outside}/evil"}))
    yield "pax-link", tar_gz(member(f"{TOP}/a", b"", type=tarfile.SYMTYPE, pax_headers={"linkpath": str(outside)}))
    yield "long-name", tar_gz(member(f"{TOP}/" + "a/" * 90 + "../" * 100 + "evil"), form=tarfile.GNU_FORMAT)
    yield "twice", tar_gz(member(f"{TOP}/a"), member(f"{TOP}/a", b"other"))
    yield "file-then-folder", tar_gz(member(f"{TOP}/a"), member(f"{TOP}/a/b"))
    yield "folder-then-file", tar_gz(member(f"{TOP}/a/b"), member(f"{TOP}/a"))
    yield "long-part", tar_gz(member(f"{TOP}/" + "a" * 300))
    yield "long-path", tar_gz(member(f"{TOP}/" + "a/" * 3_000 + "b"))
    yield "claims-gigabytes", tar_gz(member(f"{TOP}/a", b"", size=8 << 30))
    yield "pax-claims-gigabytes", tar_gz(member(f"{TOP}/a", b"", type=tarfile.XHDTYPE, size=8 << 30))
    yield (
        "many-members",
        tar_gz(*(member(f"{TOP}/{number:05}", b"") for number in range(60_000)), form=tarfile.USTAR_FORMAT),
    )
    zeros = gzip.compress(bytes(10_000_000), 9)
    head = gzip.compress(member(f"{TOP}/a", b"", size=2_000_000_000)[0].tobuf())
    yield "ratio-bomb", head + zeros * 20
    yield "bomb-after-the-end", tar_gz(member(f"{TOP}/a")) + zeros * 20
    yield "cut", tar_gz(member(f"{TOP}/a", bytes(range(256)) * 999))[:300]
    yield "no-gzip", b"PK\x03\x04" + bytes(600)
    yield "no-tar", gzip.compress(b"hello" * 500)
    broken = bytearray(tar_gz(member(f"{TOP}/a")))
    broken[-6] ^= 1
    yield "wrong-sum", bytes(broken)


def harmless_tars() -> Iterator[tuple[str, bytes]]:
    """Odd archives that may be taken, but must stay in their folder."""
    yield "setuid", tar_gz(member(f"{TOP}/a", mode=0o7777), member(f"{TOP}/d", b"", type=tarfile.DIRTYPE, mode=0o7777))
    yield "owner", tar_gz(member(f"{TOP}/a", uid=0, gid=0, uname="root", gname="root"))
    yield "case-clash", tar_gz(member(f"{TOP}/A", b"1"), member(f"{TOP}/a", b"2"))
    yield "unicode-clash", tar_gz(member(f"{TOP}/\u00e9", b"1"), member(f"{TOP}/e\u0301", b"2"))
    yield "controls", tar_gz(member(f"{TOP}/a\x1b[2J\r\n\u202eb"))
    yield "not-utf-8", tar_gz(member(f"{TOP}/\udcff\udcfe"), form=tarfile.GNU_FORMAT)
    yield (
        "device-names",
        tar_gz(member(f"{TOP}/CON"), member(f"{TOP}/nul.txt"), member(f"{TOP}/a. "), member(f"{TOP}/a:b")),
    )
    yield "options", tar_gz(member(f"{TOP}/-rf"), member(f"{TOP}/--checkpoint-action=exec=sh"))
    yield "claims-negative", tar_gz(member(f"{TOP}/a", b"", pax_headers={"size": "-1024"}))
    yield "empty", tar_gz()
    yield "old-times", tar_gz(member(f"{TOP}/a", mtime=2**33))


def zipped(*entries: tuple[str, bytes, int]) -> bytes:
    """Write entries of (name, content, Unix mode)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in entries:
            info = zipfile.ZipInfo("x")
            # Past the constructor, which would take a backslash or a zero out of it.
            info.filename = name
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            # A name may come twice: without its memory, zipfile does not notice.
            archive.NameToInfo.clear()
            archive.writestr(info, content)
    return file.getvalue()


def refused_zips(outside: Path) -> Iterator[tuple[str, bytes]]:
    """Archives of which nothing may be taken."""
    for number, name in enumerate(escaping_names(outside)):
        yield f"escape-{number}", zipped((f"{TOP}/fine", b"", 0o100644), (name, b"evil", 0o100644))
    for name, mode in (
        ("symlink", 0o120777),
        ("fifo", 0o010644),
        ("device", 0o020644),
        ("block", 0o060644),
        ("socket", 0o140644),
    ):
        yield name, zipped((f"{TOP}/l", str(outside).encode(), mode))
    yield "link-through", zipped((f"{TOP}/l", str(outside).encode(), 0o120777), (f"{TOP}/l/evil", b"evil", 0o100644))
    yield "twice", zipped((f"{TOP}/a", b"1", 0), (f"{TOP}/a", b"2", 0))
    yield "file-and-folder", zipped((f"{TOP}/a", b"1", 0), (f"{TOP}/a/b", b"2", 0))
    yield "many", zipped(*((f"{number}", b"", 0) for number in range(51_000)))
    yield "encrypted", _flagged(zipped((f"{TOP}/a", b"1", 0)))
    yield "overlapping", _overlapping()
    yield "cut", zipped((f"{TOP}/a", bytes(range(256)) * 9, 0))[:-30]
    wrong = zipped((f"{TOP}/a", b"stored" * 50, 0))
    yield "wrong-sum", wrong.replace(struct.pack("<I", zlib.crc32(b"stored" * 50)), b"\1\2\3\4")
    yield "no-zip", b"hello" * 200
    yield "long-part", zipped((f"{TOP}/" + "a" * 300, b"", 0))
    yield "directory-claims-gigabytes", _claiming(zipped((f"{TOP}/a", b"", 0)))
    yield "unknown-method", zipped((f"{TOP}/a", b"x", 0)).replace(b"\x08\x00", b"\x63\x00")


def _flagged(archive: bytes) -> bytes:
    raw = bytearray(archive)
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    return bytes(raw)


def _overlapping() -> bytes:
    """3,000 entries that all point to one megabyte of zeros: three gigabytes out of a few hundred kilobytes."""
    archive = zipped((f"{TOP}/a", bytes(1_000_000), 0))
    start = archive.index(b"PK\x01\x02")
    end = archive.index(b"PK\x05\x06")
    # The first header has the same name: what counts entries or looks at names alone is led astray.
    directory = archive[start:end] * 3_000
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 3_000, 3_000, len(directory), start, 0)
    return archive[:start] + directory + tail


def _claiming(archive: bytes) -> bytes:
    end = archive.index(b"PK\x05\x06")
    return archive[: end + 12] + struct.pack("<I", 0xFFFFFF00) + archive[end + 16 :]


def refused_trees(repository: RawRepository, outside: Path) -> Iterator[tuple[str, str]]:
    """Commits that git stores, but would never write itself."""
    blob = repository.blob(b"evil")
    empty = repository.tree()
    names: Sequence[str | bytes] = (
        "..", ".", ".git", ".GIT", "../evil", "a/../../evil", f"{outside}/evil", "", "a/b/", "a\\..\\b", "a" * 300,
    )  # fmt: skip
    for number, name in enumerate(names):
        yield f"name-{number}", repository.commit(repository.tree((FILE, name, blob)))
    folder = repository.tree((FILE, "evil", blob))
    for number, name in enumerate(("..", ".git", "/", str(outside))):
        yield f"folder-{number}", repository.commit(repository.tree((FOLDER, name, folder)))
    target = repository.blob(str(outside).encode())
    yield "symlink", repository.commit(repository.tree((LINK, "l", target)))
    yield "symlink-and-folder", repository.commit(repository.tree((LINK, "l", target), (FOLDER, "l", folder)))
    yield "twice", repository.commit(repository.tree((FILE, "a", blob), (FILE, "a", blob)))
    yield "file-and-folder", repository.commit(repository.tree((FILE, "a", blob), (FOLDER, "a", folder)))
    yield "file-is-a-folder", repository.commit(repository.tree((FILE, "a", empty)))
    yield "missing", repository.commit(repository.tree((FILE, "a", "1" * 40)))
    bomb = folder
    for _ in range(10):
        bomb = repository.tree(*((FOLDER, f"{number}", bomb) for number in range(10)))
    yield "ten-milliard-files", repository.commit(bomb)
    deep = folder
    for _ in range(200):
        deep = repository.tree((FOLDER, "deep-deep-deep-deep", deep))
    yield "deep", repository.commit(deep)
    large = repository.blob(bytes(30_000_000))
    yield "hundred-times-one-file", repository.commit(repository.tree(*((FILE, f"{n:03}", large) for n in range(100))))
