"""Check an `mlops.yaml` and all that it points at, as the build job of a push does, before anything is pushed."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.cli.context import settings

if TYPE_CHECKING:
    from mlops_core.domain.project import ProjectSpec
    from mlops_core.manifest import Problem
    from mlops_core.pipelines.errors import Problem as PipelineProblem

PLACEHOLDER = "change-me"
"""What `headrace init` writes where it found no name of a model."""
_GIT_SECONDS = 20
_NOT_HERE = " (this cannot run on a laptop)"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and where; no line or key where it has none."""

    text: str
    file: str
    line: int | None
    key: str | None
    message: str

    def view(self) -> Mapping[str, Any]:
        """Tell it to programs."""
        return {"file": self.file, "line": self.line, "key": self.key, "message": self.message}


def faults_of(root: Path, manifest: str) -> list[Fault]:
    """
    Find all that is wrong.

    Args:
        root: The repository's folder; the paths in `mlops.yaml` start at its own.
        manifest: Path of `mlops.yaml` in it.
    """
    from mlops_core.manifest import ManifestError, Problem, load_with_lines, read_manifest
    from mlops_core.manifest_files import problems_of_files

    text, folder = (root / manifest).read_bytes(), (root / manifest).parent
    try:
        spec = read_manifest(text, manifest)
    except ManifestError as error:
        return [_of_manifest(manifest, problem) for problem in error.problems]
    problems = problems_of_files(folder, spec, text, manifest)
    if spec.train.model == PLACEHOLDER:
        message = (
            f"'{PLACEHOLDER}' stands for a name that is yet to be given: the one that the pipeline registers its model "
            "under, by a 'name' at a model output or by mlflow.register_model."
        )
        _, lines = load_with_lines(text, manifest)
        problems.append(Problem(lines.get(("train", "model"), 1), "train.model", message))
    faults = [_of_manifest(manifest, problem) for problem in sorted(problems, key=lambda each: each.line)]
    if (folder / spec.train.pipeline).is_file():
        faults += _faults_of_pipeline(folder, spec)
    faults += [_of_ignored(manifest, path) for path in _named_files(spec) if _is_ignored(folder, path)]
    # An environment that several steps share is wrong once.
    return list(dict.fromkeys(faults))


def _named_files(spec: ProjectSpec) -> list[str]:
    """List the files and folders that `mlops.yaml` names, which a push has to bring."""
    smoked = [stage.smoke.request for stage in spec.release.stages if stage.smoke is not None]
    single = [spec.train.pipeline, spec.build.environment, spec.release.serve.code, spec.release.serve.environment]
    return [path for path in (*single, *spec.build.assets, *smoked) if path is not None]


def _is_ignored(folder: Path, path: str) -> bool:
    """Tell whether git leaves a file out of commits; one that is committed all the same is not ignored."""
    if not (folder / path).exists():
        return False
    command = ["git", "-C", str(folder), "check-ignore", "--quiet", "--", path]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=_GIT_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _of_ignored(manifest: str, path: str) -> Fault:
    message = (
        f"git ignores '{path}', so a push does not bring it. Take it out of .gitignore, or add it all the same: "
        f"git add --force {shlex.quote(path)}"
    )
    return Fault(f"{manifest} {message}", manifest, 1, None, message)


def _of_manifest(manifest: str, problem: Problem) -> Fault:
    return Fault(f"{manifest} {problem}", manifest, problem.line, problem.key or None, problem.message)


def _faults_of_pipeline(folder: Path, spec: ProjectSpec) -> Iterator[Fault]:
    from mlops_core.pipelines.data_assets import DataAssets
    from mlops_core.pipelines.errors import PipelineInvalidError, PipelineNotLocalError
    from mlops_core.pipelines.loader import LoadRequest
    from mlops_core.pipelines.plan_cache import PlanCache

    request = LoadRequest(
        yaml_path=folder / spec.train.pipeline,
        project_root=folder,
        inputs=spec.train.inputs,
        bindings=spec.local.data,
        environments=spec.local.environments,
        declared=DataAssets(settings().data_folder / "assets").declared(),
    )
    try:
        # The cache of the jobs: what is checked here need not be loaded again after the push.
        PlanCache(settings().data_folder / "caches" / "plans").load(request)
    except PipelineInvalidError as error:
        yield from (_of_pipeline(problem) for problem in error.problems)
    except PipelineNotLocalError as error:
        yield from (_of_pipeline(refusal, _NOT_HERE) for refusal in error.refusals)


def _of_pipeline(problem: PipelineProblem, note: str = "") -> Fault:
    return Fault(f"{problem}{note}", problem.file, problem.line, problem.key, f"{problem.message}{note}")
