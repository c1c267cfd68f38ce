"""Lay out commits for serving: the code of a scoring script, and the environment that a project names for it."""

from __future__ import annotations

from pathlib import Path

import yaml

from mlops_core.domain.ids import CommitId
from mlops_core.domain.project import ProjectSpec
from mlops_core.jobs.addresses import local_repository
from mlops_core.jobs.environment_files import read_environment
from mlops_core.jobs.source import fetch_commit, write_files
from mlops_core.pipelines.plan import EnvironmentSpec
from mlops_core.ports import DeploymentRequest, ProjectRecord


def checkout(project: ProjectRecord, commit: CommitId, folder: Path) -> None:
    """Put the files of a commit's project into an empty folder. Raises BadInputError, PermanentError."""
    root = Path(project.manifest).parent.as_posix()
    write_files(local_repository(project.clone_url), commit, folder, root=root)


class ServingEnvironments:
    """
    Finds the environment of a deployment whose model declares none.

    Args:
        sources: Folder of fetched commits, shared with the jobs.
    """

    def __init__(self, sources: Path) -> None:
        self._sources = sources

    def resolve(self, request: DeploymentRequest, _code: Path | None) -> EnvironmentSpec:
        """Choose `serve.environment`, else the build's, else its first environment asset, else the one at hand."""
        spec = request.spec
        declared = request.serve.environment or (spec.build.environment if spec else None)
        if declared == "current" or request.commit is None or spec is None:
            return EnvironmentSpec(name="current", current=True)
        folder = self._sources / request.project.name / request.commit
        root = fetch_commit(request.project.clone_url, request.commit, folder)
        root /= Path(request.project.manifest).parent
        if declared is not None:
            return read_environment(root / declared)
        return _first_environment(root, spec)


def _first_environment(root: Path, spec: ProjectSpec) -> EnvironmentSpec:
    for asset in spec.build.assets:
        document = yaml.safe_load((root / asset).read_text(encoding="utf-8"))
        if isinstance(document, dict) and ("conda_file" in document or "dependencies" in document):
            return read_environment(root / asset)
    return EnvironmentSpec(name="current", current=True)
