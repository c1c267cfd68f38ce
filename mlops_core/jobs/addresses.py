"""
Which clone address is allowed: the one place that decides, before git or anything else sees the text.

To git, an address that begins with `-` is an option, `ext::` is a command to run, and a local path is as good as any
host. So nothing is left to it: an address is a registered bare repository on this machine, or https to a host that the
operator listed; both are taken apart here and put together again from what was understood.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from mlops_core.domain.errors import BadInputError, NotFoundError, RefusedError

_MOST_LETTERS = 2_000
_REMOTE = re.compile(
    r"https://(?P<host>[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"/(?P<path>(?:[A-Za-z0-9._~+&(),!@-]|%[0-9A-Fa-f]{2})+(?:/(?:[A-Za-z0-9._~+&(),!@-]|%[0-9A-Fa-f]{2})+)*)"
)
# A server may decode these once more than we do: a way up, another part, the end of a line.
_NEVER_ENCODED = re.compile(rb"[\x00-\x1f\x7f./\\%:?#@]")
_ADVICE = "Give https://HOST/PATH of a listed host, without user, password, query or fragment."


@dataclass(frozen=True)
class RemoteRepository:
    """A repository on a listed host."""

    url: str


@dataclass(frozen=True)
class LocalRepository:
    """A bare repository on this machine."""

    path: Path


def clone_address(text: str, *, hosts: Collection[str] = ()) -> LocalRepository | RemoteRepository:
    """
    Decide on the address of a registered project. Connects to nothing and runs nothing.

    Args:
        text: `clone_url` of the project's record.
        hosts: Listed by the operator, as `name` (port 443) or `name:port`, in lower case.
    Raises:
        BadInputError: It is no address of either kind.
        RefusedError: Its host is not listed.
        NotFoundError: There is no bare repository at the path.
    """
    if text.startswith("/"):
        return LocalRepository(local_repository(text))
    return RemoteRepository(remote_url(text, hosts))


def local_repository(text: str) -> Path:
    """Check the path of a bare repository. Raises BadInputError, NotFoundError."""
    path = Path(text)
    if not path.is_absolute() or len(text) > _MOST_LETTERS or not text.isprintable() or ".." in path.parts:
        raise BadInputError(f"{shown(text)} is not the whole path of a repository on this machine. Add it again.")
    # git follows a file in place of the folder to wherever it says.
    if path.is_symlink() or not all((path / part).exists() for part in ("HEAD", "objects", "refs")):
        raise NotFoundError("bare repository", text, advice="Add the project again: headrace add PATH.")
    return path


def remote_url(text: str, hosts: Collection[str]) -> str:
    """
    Check an address of a listed host.

    Returns: It, in the one form that git is given.
    Raises: BadInputError, RefusedError.
    """
    scheme, _, rest = text[:_MOST_LETTERS].partition("://")
    host, slash, path = rest.partition("/")
    # Only these two are the same in any case; without ASCII, lower() would turn other letters into letters.
    plain = f"{scheme.lower()}://{host.lower()}{slash}{path}" if text.isascii() else ""
    found = _REMOTE.fullmatch(plain)
    if found is None or len(text) > _MOST_LETTERS or not all(map(_harmless, found["path"].split("/"))):
        raise BadInputError(f"{shown(text)} is no address to fetch commits from. {_ADVICE}")
    name = found["host"] if found["port"] in (None, "443") else f"{found['host']}:{found['port']}"
    if name not in hosts:
        listed = ", ".join(sorted(hosts)) or "none"
        raise RefusedError(f"Nothing is fetched from '{name}': it is not among the listed hosts ({listed}).")
    return f"https://{name}/{found['path']}"


def shown(text: str) -> str:
    """Show a strange text in one line, shortened, without a password that it may hold."""
    cut = re.sub(r"//[^/]*@", "//***@", text[:_MOST_LETTERS])[:120]
    return "'" + cut.encode("unicode_escape").decode("ascii") + "'"


def _harmless(part: str) -> bool:
    decoded = [unquote_to_bytes(code) for code in re.findall(r"%..", part)]
    return part not in (".", "..") and not part.startswith("-") and not any(map(_NEVER_ENCODED.search, decoded))
