"""The bare repositories of the data folder as a `SourceHost`: files and heads by git, statuses as small files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from mlops_core.adapters.local.durable_files import write_record
from mlops_core.domain.ids import CommitId, RunId
from mlops_core.jobs.addresses import local_repository
from mlops_core.jobs.git import checked_commit, git, read_blob
from mlops_core.ports import CommitStage, CommitState, ProjectRecord


class LocalSourceHost:
    """
    Reads bare repositories.

    Args:
        statuses: Folder of the commit statuses, one file per project and commit, and one per stage of it.
    """

    def __init__(self, statuses: Path) -> None:
        self._statuses = statuses

    def read_file(self, project: ProjectRecord, commit: CommitId, path: str, *, limit_bytes: int = 1_000_000) -> bytes:
        """Read a file of a commit. Raises NotFoundError, TooLargeError, BadInputError."""
        folder = Path(project.manifest).parent.as_posix()
        inside = path if path == project.manifest or folder == "." else f"{folder}/{path}"
        return read_blob(local_repository(project.clone_url), commit, inside, limit_bytes=limit_bytes)

    def head(self, project: ProjectRecord, branch: str) -> CommitId | None:
        """Ask for the newest commit of a branch."""
        return self.heads(project).get(branch)

    def heads(self, project: ProjectRecord) -> Mapping[str, CommitId]:
        """Ask for the newest commits of all branches."""
        repository = local_repository(project.clone_url)
        lines = git(repository, "for-each-ref", "--format=%(objectname) %(refname:strip=2)", "refs/heads/")
        pairs = [line.split(" ", 1) for line in lines.decode(errors="replace").splitlines()]
        return {branch: CommitId(commit) for commit, branch in pairs}

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
        """Keep beside its commit how a run stands, or a stage of it."""
        folder = self._statuses / project.name
        folder.mkdir(parents=True, exist_ok=True)
        record = {
            "state": state,
            "description": description,
            "run_id": run_id,
            "at": datetime.now(UTC).isoformat(),
        }
        name = checked_commit(commit) + (f".{stage}" if stage else "")
        write_record(folder / f"{name}.json", record)
