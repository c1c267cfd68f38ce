"""
What the APIs of repository hosts have in common, so that one client (`http_source.py`) speaks to all of them.

A dialect only says what to ask and how to read the answer: it sends nothing, waits for nothing and knows no token. Its
module names the documentation that its requests were taken from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import quote

from mlops_core.domain.errors import BadInputError, PermanentError
from mlops_core.domain.ids import CommitId

Right = Literal["read", "status", "app"]
State = Literal["pending", "success", "failure"]
ArchiveFormat = Literal["tar.gz", "zip"]
Heads = dict[str, CommitId]

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
BRANCHES = "refs/heads/"


@dataclass(frozen=True, kw_only=True)
class Ask:
    """
    A request.

    Attributes:
        url: Whole, with every part of the path quoted already.
        right: What the token must allow, for the sentence of a refusal.
    """

    url: str
    query: Mapping[str, str | int] = field(default_factory=dict)
    method: Literal["GET", "POST"] = "GET"
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    right: Right = "read"


@dataclass(frozen=True)
class Page:
    """Some of a repository's branches, and what to ask for more."""

    heads: Heads
    following: Ask | None = None


@dataclass(frozen=True, kw_only=True)
class CommitStatus:
    """
    A run's state beside its commit.

    Attributes:
        context: What tells it from the statuses of others at the same commit.
        target_url: Where the run is shown.
    """

    state: State
    context: str
    description: str
    target_url: str


class Dialect(Protocol):
    """How one kind of host is asked."""

    title: str
    """Its name in sentences."""
    rights: Mapping[Right, str]
    """What a token needs, as the host's own pages call it."""
    archive_format: ArchiveFormat
    archive_hosts: tuple[str, ...]
    """Hosts to which a download may be sent on, as documented."""
    no_change: tuple[str, ...]
    """What a refusal of a status says where it is as asked already."""

    def repository(self, name: str) -> Ask:
        """Ask whether a repository can be seen."""
        ...

    def commit(self, name: str, commit: CommitId) -> Ask:
        """Ask for a commit; `commit_id` reads the answer."""
        ...

    def commit_id(self, answer: Any) -> str:
        """Read a commit's id."""
        ...

    def file(self, name: str, commit: CommitId, path: str) -> Ask:
        """Ask for the bytes of a file."""
        ...

    def branch(self, name: str, branch: str) -> Ask:
        """Ask for branches among which is this one, if there is one; `page` reads the answer."""
        ...

    def branches(self, name: str) -> Ask:
        """Ask for the first page of branches."""
        ...

    def page(self, ask: Ask, answer: Any, headers: Mapping[str, str]) -> Page:
        """Read branches."""
        ...

    def status(self, name: str, commit: CommitId, status: CommitStatus) -> Ask:
        """Ask to show a status."""
        ...

    def archive(self, name: str, commit: CommitId) -> Ask:
        """Ask for all files of a commit."""
        ...


def quoted(part: str) -> str:
    """Quote one part of a path, slashes too."""
    return quote(part, safe="")


def parts_of(name: str, *, title: str, form: str) -> tuple[str, str]:
    """Split a repository's name in two and quote both. Raises PermanentError where it is of another form."""
    parts = name.split("/")
    if len(parts) != len(form.split("/")) or any(part in ("", ".", "..") for part in parts):
        raise PermanentError(f"'{name[:200]}' is no name of a repository at {title}: its form is {form}. Add it again.")
    return quoted(parts[0]), quoted(parts[1])


def checked_commit(commit: str) -> CommitId:
    """Check a commit's id: whole, since a shortened one could be a branch's name. Raises BadInputError."""
    if not _COMMIT.fullmatch(commit):
        raise BadInputError(f"'{commit[:80]}' is no commit id of 40 or 64 hexadecimal digits.")
    return CommitId(commit)


def checked_path(path: str) -> str:
    """Check a path inside a repository. Raises BadInputError."""
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or any(letter in path for letter in "\0\\"):
        raise BadInputError(f"'{path[:200]}' is no path inside a repository.")
    return path


def head_of(branch: object, commit: object) -> Heads:
    """Read one branch of an answer; what is no text or no commit is left out."""
    if isinstance(branch, str) and isinstance(commit, str) and _COMMIT.fullmatch(commit.lower()):
        return {branch: CommitId(commit.lower())}
    return {}


def has_next(headers: Mapping[str, str]) -> bool:
    """Tell whether a `Link` header names a next page (RFC 8288)."""
    return any('rel="next"' in link for link in headers.get("link", "").split(","))
