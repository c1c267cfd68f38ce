"""
GitHub's REST API: github.com, GitHub Enterprise Cloud with data residency (ghe.com) and GitHub Enterprise Server.

Source: github/rest-api-description, operations repos/get-content (media type raw, files up to 100 MB),
git/list-matching-refs, repos/list-branches, git/get-commit, repos/create-commit-status, repos/download-tarball-archive (a
redirect to codeload, which for private repositories is valid for five minutes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

from mlops_core.adapters.hosts.dialect import (
    BRANCHES,
    ArchiveFormat,
    Ask,
    CommitStatus,
    Heads,
    Page,
    Right,
    has_next,
    head_of,
    parts_of,
)
from mlops_core.domain.ids import CommitId

PUBLIC = "https://github.com"
HEADERS = {"accept": "application/vnd.github+json", "x-github-api-version": "2022-11-28"}
_RAW = {"accept": "application/vnd.github.raw+json"}
# Refused with 422 past this.
_DESCRIPTION_LETTERS = 140


def api_address(address: str) -> str:
    """Derive the API's address from the one that people open."""
    parts = urlsplit(address)
    if parts.hostname == "github.com" or (parts.hostname or "").endswith(".ghe.com"):
        return f"{parts.scheme}://api.{parts.netloc}"
    return f"{address}/api/v3"


class GitHubDialect:
    """How GitHub is asked."""

    title = "GitHub"
    rights: Mapping[Right, str] = {
        "read": "'Contents: read' (fine-grained token or app), or scope 'repo' (classic token)",
        "status": "'Commit statuses: write' (fine-grained token or app), or scope 'repo:status' (classic token)",
        "app": "the right app id and private key, an app with 'Contents: read' and 'Commit statuses: write', and a clock "
        "that is right to the minute",
    }
    archive_format: ArchiveFormat = "tar.gz"
    no_change: tuple[str, ...] = ()

    def __init__(self, address: str) -> None:
        self._api = api_address(address)
        parts = urlsplit(address)
        # An Enterprise Server without subdomain isolation answers itself, under /_codeload.
        self.archive_hosts: tuple[str, ...] = (f"codeload.{parts.netloc}", parts.netloc)

    def repository(self, name: str) -> Ask:
        """Ask whether a repository can be seen."""
        owner, repository = parts_of(name, title=self.title, form="owner/name")
        return Ask(url=f"{self._api}/repos/{owner}/{repository}", headers=HEADERS)

    def commit(self, name: str, commit: CommitId) -> Ask:
        """Ask for a commit."""
        return self._ask(name, f"git/commits/{commit}")

    def commit_id(self, answer: Any) -> str:
        """Read a commit's id."""
        return str(answer["sha"])

    def file(self, name: str, commit: CommitId, path: str) -> Ask:
        """Ask for the bytes of a file."""
        return replace(self._ask(name, f"contents/{quote(path)}", {"ref": commit}), headers={**HEADERS, **_RAW})

    def branch(self, name: str, branch: str) -> Ask:
        """Ask for the branches that begin with this name."""
        return self._ask(name, f"git/matching-refs/heads/{quote(branch)}")

    def branches(self, name: str) -> Ask:
        """Ask for the first page of branches."""
        return self._ask(name, "branches", {"per_page": 100, "page": 1})

    def page(self, ask: Ask, answer: Any, headers: Mapping[str, str]) -> Page:
        """Read a page of branches, or refs that match."""
        heads: Heads = {}
        for item in answer:
            if "ref" in item:
                heads |= head_of(item["ref"].removeprefix(BRANCHES), item["object"]["sha"])
            else:
                heads |= head_of(item["name"], item["commit"]["sha"])
        if not has_next(headers):
            return Page(heads)
        return Page(heads, replace(ask, query={**ask.query, "page": int(ask.query.get("page", 1)) + 1}))

    def status(self, name: str, commit: CommitId, status: CommitStatus) -> Ask:
        """Ask to show a status; the newest of a context counts."""
        body = {
            "state": status.state,
            "target_url": status.target_url,
            "description": status.description[:_DESCRIPTION_LETTERS],
            "context": status.context,
        }
        return replace(self._ask(name, f"statuses/{commit}"), method="POST", body=body, right="status")

    def archive(self, name: str, commit: CommitId) -> Ask:
        """Ask for all files of a commit: answered by a redirect."""
        return self._ask(name, f"tarball/{commit}")

    def _ask(self, name: str, what: str, query: Mapping[str, str | int] | None = None) -> Ask:
        return Ask(url=f"{self.repository(name).url}/{what}", query=query or {}, headers=HEADERS)
