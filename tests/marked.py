"""Marked secrets: texts that nobody else writes, so that each place where one is found is a leak."""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote


def marked(number: int) -> str:
    """Make up a secret of 32 letters that is not a part of another one."""
    return f"mArKeD{number:02d}x{(number * 2654435761) % 2**32:08x}qZ{number * 7919:013d}"


def forms(secret: str) -> Iterator[bytes]:
    """List what a secret looks like where it is only dressed up: in an address, in base64 of its own or of a header."""
    yield secret.encode()
    yield quote(secret, safe="").encode()
    yield base64.b64encode(secret.encode()).rstrip(b"=")[:-2]
    for before in (b":", b"::"):
        # As a password of basic authentication; how it begins depends on the letters before it.
        yield base64.b64encode(before + secret.encode())[4:-4]


def found_in(content: bytes, secrets: Iterable[str]) -> list[str]:
    """Find marked secrets in bytes, also where those are compressed."""
    texts = [content]
    for opened in (gzip.decompress, zlib.decompress):
        try:
            texts.append(opened(content))
        except (OSError, EOFError, zlib.error):
            continue
    return [secret for secret in secrets if any(form in text for form in forms(secret) for text in texts)]


def found_below(folder: Path, secrets: Iterable[str]) -> list[str]:
    """Find marked secrets in every file below a folder, whatever the file is."""
    wanted, found = list(secrets), []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            found += [f"{each} in {path.relative_to(folder)}" for each in found_in(path.read_bytes(), wanted)]
    return found
