"""
Gitea's REST API, version 1; Forgejo's is the same here.

Source: go-gitea/gitea templates/swagger/v1_json.tmpl, operations repoGetRawFile, repoGetBranch, repoListBranches (at most
50 a page by default), repoGetSingleCommit, repoCreateStatus, repoGetArchive. An instance that keeps archives in object
storage may send the download on to it; that storage has to be named in `HostOptions.archive_hosts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from mlops_core.adapters.hosts.dialect import (
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

PUBLIC = "https://gitea.com"
# Gitea sets no limit; more would not be read.
_DESCRIPTION_LETTERS = 255


class GiteaDialect:
    """How Gitea is asked."""

    title = "Gitea"
    rights: Mapping[Right, str] = {
        "read": "scope 'read:repository', and its user must be able to read the repository",
        "status": "scope 'write:repository', and its user must be able to write to the repository",
    }
    archive_format: ArchiveFormat = "tar.gz"
    archive_hosts: tuple[str, ...] = ()
    no_change: tuple[str, ...] = ()

    def __init__(self, address: str) -> None:
        self._api = f"{address}/api/v1"

    def repository(self, name: str) -> Ask:
        """Ask whether a repository can be seen."""
        owner, repository = parts_of(name, title=self.title, form="owner/name")
        return Ask(url=f"{self._api}/repos/{owner}/{repository}")

    def commit(self, name: str, commit: CommitId) -> Ask:
        """Ask for a commit, without its statistics, signature and files, which cost time."""
        return self._ask(name, f"git/commits/{commit}", {"stat": "false", "verification": "false", "files": "false"})

    def commit_id(self, answer: Any) -> str:
        """Read a commit's id."""
        return str(answer["sha"])

    def file(self, name: str, commit: CommitId, path: str) -> Ask:
        """Ask for the bytes of a file."""
        return self._ask(name, f"raw/{quote(path)}", {"ref": commit})

    def branch(self, name: str, branch: str) -> Ask:
        """Ask for one branch; 404 where there is none."""
        return self._ask(name, f"branches/{quote(branch)}")

    def branches(self, name: str) -> Ask:
        """Ask for the first page of branches."""
        return self._ask(name, "branches", {"page": 1, "limit": 50})

    def page(self, ask: Ask, answer: Any, headers: Mapping[str, str]) -> Page:
        """Read a page of branches, or a single one."""
        heads: Heads = {}
        for item in answer if isinstance(answer, list) else [answer]:
            heads |= head_of(item["name"], item["commit"]["id"])
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
        """Ask for all files of a commit."""
        return self._ask(name, f"archive/{commit}.tar.gz")

    def _ask(self, name: str, what: str, query: Mapping[str, str | int] | None = None) -> Ask:
        return Ask(url=f"{self.repository(name).url}/{what}", query=query or {})
