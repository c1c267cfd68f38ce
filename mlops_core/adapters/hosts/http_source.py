"""
A repository host's API as a `SourceHost`: files, heads, statuses and archives, for every dialect the same.

A host that hides what a token may not see answers 404 as for what does not exist. So a 404 is followed by one question for
the repository itself: its answer decides between "there is none" and "this token cannot see it".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

from mlops_core.adapters.hosts.archive import verify_commit
from mlops_core.adapters.hosts.dialect import (
    Ask,
    CommitStatus,
    Dialect,
    Heads,
    checked_commit,
    checked_path,
)
from mlops_core.adapters.hosts.http_client import HostClient
from mlops_core.adapters.hosts.refusals import CannotSeeError
from mlops_core.domain.errors import NotFoundError, PermanentError
from mlops_core.domain.ids import CommitId, RunId
from mlops_core.ports import CommitStage, CommitState, ProjectRecord

CONTEXT = "headrace"
# 100,000 branches of GitHub; a host that never ends its list is not read for ever.
_MOST_PAGES = 1_000
ARCHIVE_BYTES = 500_000_000


class HttpSourceHost:
    """
    Asks a repository host.

    Args:
        run_address: Where a run is shown, for the link beside its commit.
    """

    def __init__(self, dialect: Dialect, client: HostClient, *, run_address: Callable[[RunId], str]) -> None:
        self._dialect = dialect
        self._client = client
        self._run_address = run_address

    def read_file(self, project: ProjectRecord, commit: CommitId, path: str, *, limit_bytes: int = 1_000_000) -> bytes:
        """Read a file of a commit. Raises NotFoundError, TooLargeError, TemporaryError, PermanentError."""
        folder = Path(project.manifest).parent.as_posix()
        inside = checked_path(path if path == project.manifest or folder == "." else f"{folder}/{path}")
        ask = self._dialect.file(project.repository, checked_commit(commit), inside)
        doing = f"read '{inside}' at {commit[:12]} of '{project.repository}'"
        try:
            return self._client.content(ask, repository=project.repository, doing=doing, limit_bytes=limit_bytes)
        except CannotSeeError:
            self._must_be_seen(project)
            advice = "Add the file, commit and push again."
            raise NotFoundError(f"file in commit {commit[:12]} named", inside, advice=advice) from None

    def head(self, project: ProjectRecord, branch: str) -> CommitId | None:
        """Ask for the newest commit of a branch. Raises TemporaryError, PermanentError."""
        ask = self._dialect.branch(project.repository, branch)
        try:
            return self._read_pages(project, ask, f"read branch '{branch}'", until=branch).get(branch)
        except CannotSeeError:
            self._must_be_seen(project)
            return None

    def heads(self, project: ProjectRecord) -> Mapping[str, CommitId]:
        """Ask for the newest commits of all branches. Raises TemporaryError, PermanentError."""
        try:
            return self._read_pages(project, self._dialect.branches(project.repository), "list the branches")
        except CannotSeeError as error:
            self._must_be_seen(project)
            # A token that sees the repository but not its content must not look like a repository without branches.
            if not error.empty:
                raise
            return {}

    def set_status(
        self,
        project: ProjectRecord,
        commit: CommitId,
        *,
        state: CommitState,
        description: str,
        run_id: RunId,
        stage: CommitStage | None = None,
    ) -> None:
        """Show beside its commit how a run stands, or a stage of it. Raises TemporaryError, PermanentError."""
        status = CommitStatus(
            state=state,
            # Two projects of one repository have runs of the same commit.
            context=f"{CONTEXT}/{project.name}{f'/{stage}' if stage else ''}",
            description=" ".join(description.split()),
            target_url=self._run_address(run_id),
        )
        ask = self._dialect.status(project.repository, checked_commit(commit), status)
        doing = f"show a status at {commit[:12]} of '{project.repository}'"
        try:
            self._client.json(ask, repository=project.repository, doing=doing)
        except PermanentError as error:
            if not any(words in str(error) for words in self._dialect.no_change):
                raise

    def archive(
        self, project: ProjectRecord, commit: CommitId, file: BinaryIO, *, limit_bytes: int = ARCHIVE_BYTES
    ) -> Literal["tar.gz", "zip"]:
        """
        Download all files of a commit, without git.

        Args:
            file: Empty, to write to and to read again.
        Returns: The form of the archive; all in it lies in one folder, except in Azure DevOps' zip.
        Raises: NotFoundError, TooLargeError, TemporaryError, PermanentError (it is of another commit).
        """
        wanted = checked_commit(commit)
        name, about = project.repository, f"commit {commit[:12]} of '{project.repository}'"
        answer, _ = self._client.json(self._dialect.commit(name, wanted), repository=name, doing=f"read {about}")
        if self._read(self._dialect.commit_id, answer) != wanted:
            raise PermanentError(f"{self._dialect.title} gave another commit than {commit}. Push it again.")
        ask = self._dialect.archive(name, wanted)
        doing = f"download the files of {about}"
        self._client.download(ask, file, repository=name, doing=doing, limit_bytes=limit_bytes)
        verify_commit(file, self._dialect.archive_format, wanted)
        return self._dialect.archive_format

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _read_pages(self, project: ProjectRecord, first: Ask, doing: str, *, until: str | None = None) -> Heads:
        heads: Heads = {}
        ask: Ask | None = first
        about = f"{doing} of '{project.repository}'"
        for _ in range(_MOST_PAGES):
            if ask is None or until in heads:
                return heads
            asked = ask
            answer, headers = self._client.json(asked, repository=project.repository, doing=about)
            page = self._read(lambda read: self._dialect.page(asked, read, headers), answer)  # noqa: B023 - called at once
            heads |= page.heads
            ask = page.following
        raise PermanentError(f"{self._dialect.title}: {about} has more than {_MOST_PAGES} pages. Delete old branches.")

    def _read(self, reading: Callable[[Any], Any], answer: Any) -> Any:
        try:
            return reading(answer)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise PermanentError(
                f"{self._dialect.title} gave an answer of another form than documented ({type(error).__name__}). Is the "
                "host's address right, and is it of this kind and a supported version?"
            ) from error

    def _must_be_seen(self, project: ProjectRecord) -> None:
        """Raise CannotSeeError where not even the repository is there for this token."""
        ask = self._dialect.repository(project.repository)
        self._client.json(ask, repository=project.repository, doing=f"see the repository '{project.repository}'")
