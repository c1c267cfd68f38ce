"""
GitLab's REST API, version 4: gitlab.com and self-managed.

Source: docs.gitlab.com, pages api/repository_files ("Get raw file"), api/branches, api/commits ("Get a single commit",
"Set the pipeline status of a commit"), api/repositories ("Get file archive"). Setting a status that is set already is
answered 400, "Cannot transition status via ..." (gitlab-org/gitlab-foss issue 25807).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mlops_core.adapters.hosts.dialect import (
    ArchiveFormat,
    Ask,
    CommitStatus,
    Heads,
    Page,
    Right,
    has_next,
    head_of,
    quoted,
)
from mlops_core.domain.errors import PermanentError
from mlops_core.domain.ids import CommitId

PUBLIC = "https://gitlab.com"
_STATES = {"pending": "running", "success": "success", "failure": "failed"}
# The column of its database (ci_builds.description).
_DESCRIPTION_LETTERS = 255


class GitLabDialect:
    """How GitLab is asked."""

    title = "GitLab"
    rights: Mapping[Right, str] = {
        "read": "scope 'read_api' (or 'api') and at least the role Reporter in the project",
        "status": "scope 'api' and at least the role Developer in the project (Maintainer for protected branches)",
    }
    archive_format: ArchiveFormat = "tar.gz"
    no_change: tuple[str, ...] = ("Cannot transition status",)
    archive_hosts: tuple[str, ...] = ()

    def __init__(self, address: str) -> None:
        self._api = f"{address}/api/v4"

    def repository(self, name: str) -> Ask:
        """Ask whether a project can be seen."""
        parts = name.split("/")
        if len(parts) < 2 or any(part in ("", ".", "..") for part in parts):  # noqa: PLR2004 - group and project
            raise PermanentError(f"'{name[:200]}' is no name of a project at GitLab: its form is group/project.")
        return Ask(url=f"{self._api}/projects/{quoted(name)}")

    def commit(self, name: str, commit: CommitId) -> Ask:
        """Ask for a commit."""
        return self._ask(name, f"repository/commits/{commit}")

    def commit_id(self, answer: Any) -> str:
        """Read a commit's id."""
        return str(answer["id"])

    def file(self, name: str, commit: CommitId, path: str) -> Ask:
        """Ask for the bytes of a file."""
        return self._ask(name, f"repository/files/{quoted(path)}/raw", {"ref": commit})

    def branch(self, name: str, branch: str) -> Ask:
        """Ask for the branches that begin with this name."""
        return self._ask(name, "repository/branches", {"search": f"^{branch}", "per_page": 100, "page": 1})

    def branches(self, name: str) -> Ask:
        """Ask for the first page of branches."""
        return self._ask(name, "repository/branches", {"per_page": 100, "page": 1})

    def page(self, ask: Ask, answer: Any, headers: Mapping[str, str]) -> Page:
        """Read a page of branches."""
        heads: Heads = {}
        for item in answer:
            heads |= head_of(item["name"], item["commit"]["id"])
        if not (headers.get("x-next-page") or has_next(headers)):
            return Page(heads)
        return Page(heads, replace(ask, query={**ask.query, "page": int(ask.query["page"]) + 1}))

    def status(self, name: str, commit: CommitId, status: CommitStatus) -> Ask:
        """Ask to show a status: a job of that name in an external pipeline."""
        body = {
            "state": _STATES[status.state],
            "name": status.context,
            "target_url": status.target_url,
            "description": status.description[:_DESCRIPTION_LETTERS],
        }
        return replace(self._ask(name, f"statuses/{commit}"), method="POST", body=body, right="status")

    def archive(self, name: str, commit: CommitId) -> Ask:
        """Ask for all files of a commit."""
        return self._ask(name, "repository/archive.tar.gz", {"sha": commit})

    def _ask(self, name: str, what: str, query: Mapping[str, str | int] | None = None) -> Ask:
        return Ask(url=f"{self.repository(name).url}/{what}", query=query or {})
