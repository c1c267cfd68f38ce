"""
Bitbucket Cloud's REST API, version 2.0.

Source: developer.atlassian.com/cloud/bitbucket/rest, groups source, refs (with `q`, filtering), commits, commit statuses
(`key` of at most 40 letters, `url` must be one; since 2021 only who made a status may overwrite it). Archives have no API:
they are at bitbucket.org/WORKSPACE/NAME/get/COMMIT.tar.gz, which takes the same authentication.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from mlops_core.adapters.hosts.dialect import (
    ArchiveFormat,
    Ask,
    CommitStatus,
    Heads,
    Page,
    Right,
    head_of,
    parts_of,
)
from mlops_core.domain.errors import PermanentError
from mlops_core.domain.ids import CommitId, short_digest

PUBLIC = "https://bitbucket.org"
_STATES = {"pending": "INPROGRESS", "success": "SUCCESSFUL", "failure": "FAILED"}
_KEY_LETTERS = 40
_DESCRIPTION_LETTERS = 255


def api_address(address: str) -> str:
    """Derive the API's address from the one that people open."""
    parts = urlsplit(address)
    return f"{parts.scheme}://api.{parts.netloc}/2.0" if parts.hostname == "bitbucket.org" else f"{address}/2.0"


class BitbucketDialect:
    """How Bitbucket Cloud is asked."""

    title = "Bitbucket Cloud"
    rights: Mapping[Right, str] = {
        "read": "'Repositories: Read' (scope 'read:repository:bitbucket' of an API token)",
        "status": "'Repositories: Read' (scope 'read:repository:bitbucket' of an API token), and to be of who showed the "
        "status first",
    }
    archive_format: ArchiveFormat = "tar.gz"
    archive_hosts: tuple[str, ...] = ()
    no_change: tuple[str, ...] = ()

    def __init__(self, address: str) -> None:
        self._address = address
        self._api = api_address(address)

    def repository(self, name: str) -> Ask:
        """Ask whether a repository can be seen."""
        workspace, repository = parts_of(name, title=self.title, form="workspace/name")
        return Ask(url=f"{self._api}/repositories/{workspace}/{repository}")

    def commit(self, name: str, commit: CommitId) -> Ask:
        """Ask for a commit."""
        return self._ask(name, f"commit/{commit}")

    def commit_id(self, answer: Any) -> str:
        """Read a commit's id."""
        return str(answer["hash"])

    def file(self, name: str, commit: CommitId, path: str) -> Ask:
        """Ask for the bytes of a file."""
        return self._ask(name, f"src/{commit}/{quote(path)}")

    def branch(self, name: str, branch: str) -> Ask:
        """Ask for the branch of this name."""
        letters = branch.replace("\\", "\\\\").replace('"', '\\"')
        return self._ask(name, "refs/branches", {"q": f'name = "{letters}"', "pagelen": 100})

    def branches(self, name: str) -> Ask:
        """Ask for the first page of branches."""
        return self._ask(name, "refs/branches", {"pagelen": 100})

    def page(self, ask: Ask, answer: Any, headers: Mapping[str, str]) -> Page:  # noqa: ARG002 - others need them
        """Read a page of branches. Raises PermanentError where the next one is somewhere else."""
        heads: Heads = {}
        for item in answer["values"]:
            heads |= head_of(item["name"], item["target"]["hash"])
        following = answer.get("next")
        if not following:
            return Page(heads)
        # The address of the next page is theirs to choose; the token only goes to where the first was asked.
        if str(following).partition("?")[0] != ask.url:
            raise PermanentError(f"{self.title} named a next page of branches at another address. Tell its operator.")
        return Page(heads, replace(ask, query=dict(parse_qsl(urlsplit(following).query))))

    def status(self, name: str, commit: CommitId, status: CommitStatus) -> Ask:
        """Ask to show a status; that of the same key is replaced."""
        key = status.context
        if len(key) > _KEY_LETTERS:
            key = f"{key[: _KEY_LETTERS - 11]}-{short_digest(key)}"
        body = {
            "key": key,
            "state": _STATES[status.state],
            "name": status.context,
            "url": status.target_url,
            "description": status.description[:_DESCRIPTION_LETTERS],
        }
        return replace(self._ask(name, f"commit/{commit}/statuses/build"), method="POST", body=body, right="status")

    def archive(self, name: str, commit: CommitId) -> Ask:
        """Ask for all files of a commit."""
        workspace, repository = parts_of(name, title=self.title, form="workspace/name")
        return Ask(url=f"{self._address}/{workspace}/{repository}/get/{commit}.tar.gz")

    def _ask(self, name: str, what: str, query: Mapping[str, str | int] | None = None) -> Ask:
        return Ask(url=f"{self.repository(name).url}/{what}", query=query or {})
