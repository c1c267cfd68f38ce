"""
Azure DevOps' REST API, version 7.1: Services and Server.

Source: learn.microsoft.com/rest/api/azure/devops/git, pages Items - Get and - List (zip of a folder), Refs - List (at most
1,000, `filter` is a prefix, `x-ms-continuationtoken`), Commits - Get, Statuses - Create. Somebody who is not signed in is
answered 203 with a page to sign in, not 401.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

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

_VERSION = {"api-version": "7.1"}
_STATES = {"pending": "pending", "success": "succeeded", "failure": "failed"}
# No limit is documented; the page shows one line.
_DESCRIPTION_LETTERS = 255
_CONTINUATION = "x-ms-continuationtoken"


class AzureDevOpsDialect:
    """How Azure DevOps is asked."""

    title = "Azure DevOps"
    rights: Mapping[Right, str] = {"read": "scope 'Code: Read'", "status": "scope 'Code: Status'"}
    archive_format: ArchiveFormat = "zip"
    archive_hosts: tuple[str, ...] = ()
    no_change: tuple[str, ...] = ()

    def __init__(self, address: str) -> None:
        self._organisation = address

    def repository(self, name: str) -> Ask:
        """Ask whether a repository can be seen."""
        project, repository = parts_of(name, title=self.title, form="project/repository")
        return Ask(url=f"{self._organisation}/{project}/_apis/git/repositories/{repository}", query=_VERSION)

    def commit(self, name: str, commit: CommitId) -> Ask:
        """Ask for a commit."""
        return self._ask(name, f"commits/{commit}")

    def commit_id(self, answer: Any) -> str:
        """Read a commit's id."""
        return str(answer["commitId"])

    def file(self, name: str, commit: CommitId, path: str) -> Ask:
        """Ask for the bytes of a file: their media type says that it is not its metadata that is wanted."""
        ask = self._ask(name, "items", {"path": f"/{path}", **_at(commit)})
        return replace(ask, headers={"accept": "application/octet-stream"})

    def branch(self, name: str, branch: str) -> Ask:
        """Ask for the branches that begin with this name."""
        return self._ask(name, "refs", {"filter": f"heads/{branch}", "$top": 1000})

    def branches(self, name: str) -> Ask:
        """Ask for the first page of branches."""
        return self._ask(name, "refs", {"filter": "heads/", "$top": 1000})

    def page(self, ask: Ask, answer: Any, headers: Mapping[str, str]) -> Page:
        """Read a page of refs."""
        heads: Heads = {}
        for item in answer["value"]:
            heads |= head_of(item["name"].removeprefix(BRANCHES), item["objectId"])
        token = headers.get(_CONTINUATION)
        if not token:
            return Page(heads)
        return Page(heads, replace(ask, query={**ask.query, "continuationToken": token}))

    def status(self, name: str, commit: CommitId, status: CommitStatus) -> Ask:
        """Ask to show a status; the newest of a context counts."""
        genre, _, context = status.context.partition("/")
        body = {
            "state": _STATES[status.state],
            "description": status.description[:_DESCRIPTION_LETTERS],
            "targetUrl": status.target_url,
            "context": {"name": context or genre, "genre": genre},
        }
        return replace(self._ask(name, f"commits/{commit}/statuses"), method="POST", body=body, right="status")

    def archive(self, name: str, commit: CommitId) -> Ask:
        """Ask for all files of a commit, as a zip, the only form that there is."""
        query = {"scopePath": "/", "recursionLevel": "full", "$format": "zip", "zipForUnix": "true", **_at(commit)}
        return self._ask(name, "items", query)

    def _ask(self, name: str, what: str, query: Mapping[str, str | int] | None = None) -> Ask:
        return Ask(url=f"{self.repository(name).url}/{what}", query={**(query or {}), **_VERSION})


def _at(commit: CommitId) -> dict[str, str]:
    return {"versionDescriptor.versionType": "commit", "versionDescriptor.version": commit}
