"""
Bitbucket Data Center's REST API, formerly Bitbucket Server; 7.14 or newer for statuses.

Source: developer.atlassian.com/server/bitbucket/rest, groups Project and Repository (raw, branches, archive), and Builds and
Deployments (`.../commits/{id}/builds`, required: key, state, url).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from mlops_core.adapters.hosts.dialect import (
    BRANCHES,
    ArchiveFormat,
    Ask,
    CommitStatus,
    Heads,
    Page,
    Right,
    head_of,
    parts_of,
)
from mlops_core.domain.ids import CommitId

_STATES = {"pending": "INPROGRESS", "success": "SUCCESSFUL", "failure": "FAILED"}
_DESCRIPTION_LETTERS = 255


class BitbucketServerDialect:
    """How Bitbucket Data Center is asked."""

    title = "Bitbucket Data Center"
    rights: Mapping[Right, str] = {
        "read": "'Repository read' (an HTTP access token of the project or the repository)",
        "status": "'Repository read' (an HTTP access token of the project or the repository)",
    }
    archive_format: ArchiveFormat = "tar.gz"
    archive_hosts: tuple[str, ...] = ()
    no_change: tuple[str, ...] = ()

    def __init__(self, address: str) -> None:
        self._api = f"{address}/rest/api/latest"

    def repository(self, name: str) -> Ask:
        """Ask whether a repository can be seen."""
        key, slug = parts_of(name, title=self.title, form="KEY/slug")
        return Ask(url=f"{self._api}/projects/{key}/repos/{slug}")

    def commit(self, name: str, commit: CommitId) -> Ask:
        """Ask for a commit."""
        return self._ask(name, f"commits/{commit}")

    def commit_id(self, answer: Any) -> str:
        """Read a commit's id."""
        return str(answer["id"])

    def file(self, name: str, commit: CommitId, path: str) -> Ask:
        """Ask for the bytes of a file."""
        return self._ask(name, f"raw/{quote(path)}", {"at": commit})

    def branch(self, name: str, branch: str) -> Ask:
        """Ask for the branches in whose name this occurs."""
        return self._ask(name, "branches", {"filterText": branch, "limit": 100, "start": 0})

    def branches(self, name: str) -> Ask:
        """Ask for the first page of branches."""
        return self._ask(name, "branches", {"limit": 100, "start": 0})

    def page(self, ask: Ask, answer: Any, headers: Mapping[str, str]) -> Page:  # noqa: ARG002 - others need them
        """Read a page of branches."""
        heads: Heads = {}
        for item in answer["values"]:
            heads |= head_of(item["id"].removeprefix(BRANCHES), item["latestCommit"])
        if answer.get("isLastPage", True):
            return Page(heads)
        return Page(heads, replace(ask, query={**ask.query, "start": int(answer["nextPageStart"])}))

    def status(self, name: str, commit: CommitId, status: CommitStatus) -> Ask:
        """Ask to show a status; that of the same key is replaced."""
        body = {
            "key": status.context,
            "state": _STATES[status.state],
            "name": status.context,
            "url": status.target_url,
            "description": status.description[:_DESCRIPTION_LETTERS],
        }
        return replace(self._ask(name, f"commits/{commit}/builds"), method="POST", body=body, right="status")

    def archive(self, name: str, commit: CommitId) -> Ask:
        """Ask for all files of a commit."""
        return self._ask(name, "archive", {"at": commit, "format": "tar.gz"})

    def _ask(self, name: str, what: str, query: Mapping[str, str | int] | None = None) -> Ask:
        return Ask(url=f"{self.repository(name).url}/{what}", query=query or {})
