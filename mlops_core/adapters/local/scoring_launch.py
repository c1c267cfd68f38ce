"""
Prepares what a scoring process needs: the model's files, an interpreter with its packages, the scoring app's sources.

Called by the watcher in a thread of its own, since a new environment takes up to minutes. The process gets a copy of
`mlops_core/serving` and nothing else of Headrace, and of the environment only what is listed here.
"""

from __future__ import annotations

import shutil
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from mlops_core import serving
from mlops_core.adapters.local.model_files import ModelFiles
from mlops_core.domain.errors import BadInputError, PermanentError
from mlops_core.domain.ids import CommitId
from mlops_core.domain.project import Local
from mlops_core.pipelines.documents import MAX_FILE_BYTES, DocumentError, parse
from mlops_core.pipelines.environments import EnvironmentMaker
from mlops_core.pipelines.plan import EnvironmentSpec
from mlops_core.ports import DeploymentRequest, ProjectRecord
from mlops_core.serving.digest import tree_digest
from mlops_core.serving.requirements import SERVING_REQUIREMENTS

# What a program needs to find its home, its language, its certificates and its temporary folder; no secrets.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
CURRENT = "current"

MakeEnvironment = Callable[[DeploymentRequest, EnvironmentSpec, Path], Path]
"""Makes an environment that also holds what the scoring app needs, writing to a log; returns its interpreter."""
Checkout = Callable[[ProjectRecord, CommitId, Path], None]
"""Lays out the files of a commit in an empty folder."""
ResolveEnvironment = Callable[[DeploymentRequest, Path | None], EnvironmentSpec]
"""Reads the environment that the project names for serving, else its build's, given the checked-out repository."""


@dataclass(frozen=True)
class Launch:
    """How to start a scoring process; the port file is added at each start."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class ScoringLaunch:
    """
    Prepares the launches of one data folder.

    Attributes:
        data: The data folder; copies of the scoring app's sources are kept in it.
        environment: The environment at hand, of which `PASSED_ON` is passed on.
    """

    data: Path
    files: ModelFiles
    environment: Mapping[str, str]
    make_environment: MakeEnvironment
    checkout: Checkout
    resolve_environment: ResolveEnvironment

    def prepare(self, request: DeploymentRequest, folder: Path) -> Launch:
        """
        Prepare a deployment's launch.

        Raises:
            PermanentError: The model, its code or its environment cannot be had as they are.
            TemporaryError: The registry did not answer.
        """
        model = self.files.artifact_path(request.model, request.version)
        code = self._code(request, folder)
        spec = self._environment_spec(request, model, code)
        log = folder / "log.txt"
        python = Path(sys.executable) if spec.current else self.make_environment(request, spec, log)
        command = [str(python), "-m", "mlops_core.serving", "--model", str(model), "--digest", self.files.digest(model)]
        command += ["--name", request.model, "--version", request.version, "--port", "0"]
        if code is not None and request.serve.code is not None:
            command += ["--code", str(code / request.serve.code), "--model-links", str(folder / "azureml-model")]
            command += ["--model-folder", self.files.registered_folder(model)]
        passed_on = {name: self.environment[name] for name in PASSED_ON if name in self.environment}
        added = {"PYTHONPATH": str(stage_serving(self.data / "serving")), "PYTHONUNBUFFERED": "1"}
        return Launch(tuple(command), {**passed_on, **added})

    def _code(self, request: DeploymentRequest, folder: Path) -> Path | None:
        """Lay out the commit that holds score.py; None for models that need none."""
        if request.serve.code is None:
            return None
        if request.commit is None:
            served = f"Model '{request.model}:{request.version}' is served by '{request.serve.code}'"
            raise PermanentError(
                f"{served}, but no commit is known. Push the project once, then release the version again."
            )
        target = folder / "code"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        self.checkout(request.project, request.commit, target)
        script = target / request.serve.code
        if not script.resolve().is_relative_to(target.resolve()) or not script.is_file():
            message = f"'{request.serve.code}' is not in commit '{request.commit}' of '{request.project.name}'."
            raise PermanentError(f"{message} Correct 'release: serve: code' in mlops.yaml.")
        return target

    def _environment_spec(self, request: DeploymentRequest, model: Path, code: Path | None) -> EnvironmentSpec:
        if request.serve.environment == CURRENT:
            return EnvironmentSpec(name=CURRENT, current=True)
        if request.serve.environment is None:
            declared = environment_of_model(model, f"model {request.model}:{request.version}")
            if declared is not None:
                return declared
        return self.resolve_environment(request, code)


def environments_in(folder: Path, inherited: Mapping[str, str]) -> MakeEnvironment:
    """Make environments in a folder, by the rules for local runs in the project's `mlops.yaml`."""

    def make(request: DeploymentRequest, spec: EnvironmentSpec, log: Path) -> Path:
        local = request.spec.local if request.spec is not None else Local()
        maker = EnvironmentMaker(folder=folder, inherited=inherited, python=local.python, without=local.without)
        with log.open("a", encoding="utf-8") as lines:
            made = maker.make(spec, extra=SERVING_REQUIREMENTS, tell=lambda text: _tell(lines, text))
        return Path(made.python)

    return make


def environment_of_model(model: Path, name: str) -> EnvironmentSpec | None:
    """
    Read the environment that an MLflow model declares beside itself; None when it declares none.

    Only the minor version of its Python counts: MLflow notes the patch that it ran on, which need not exist elsewhere.

    Raises: BadInputError: The file is no environment, or grows when it is read; whoever trained the model wrote it.
    """
    conda, pip = model / "conda.yaml", model / "requirements.txt"
    if conda.is_file():
        try:
            content, _ = parse(_start_of(conda), name)
        except DocumentError as error:
            raise BadInputError(f"The environment of {name} cannot be read: {error.problem.message}") from error
        return EnvironmentSpec(name=name, conda=content, python_version=_python_of(content))
    if pip.is_file():
        lines = [line.strip() for line in _start_of(pip).decode("utf-8-sig", errors="replace").splitlines()]
        wanted = tuple(line for line in lines if line and not line.startswith("#"))
        return EnvironmentSpec(name=name, pip_requirements=wanted)
    return None


def _start_of(path: Path) -> bytes:
    """Read as much of a file as is worth reading; a larger one is refused by whoever reads it."""
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


def stage_serving(target: Path) -> Path:
    """Copy the scoring app's sources, once per content, into a folder that is a path for imports; return that."""
    source = Path(serving.__file__).parent
    digest = tree_digest(source).removeprefix("sha256:")[:24]
    staged = target / digest
    if staged.exists():
        return staged
    target.mkdir(parents=True, exist_ok=True)
    beside = target / f".{digest}.{uuid.uuid4().hex}"
    package = beside / "mlops_core"
    shutil.copytree(source, package / "serving", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__init__.py").write_text("", encoding="utf-8")
    try:
        beside.rename(staged)
    except OSError:
        if not staged.exists():  # else another process was first, with the same sources
            raise
        shutil.rmtree(beside)
    return staged


def _tell(log: TextIO, text: str) -> None:
    log.write(f"{text}\n")
    log.flush()


def _python_of(conda: Mapping[str, Any]) -> str | None:
    dependencies = conda.get("dependencies")
    for entry in dependencies if isinstance(dependencies, list) else ():
        if isinstance(entry, str) and entry.replace(" ", "").startswith("python="):
            return ".".join(entry.replace(" ", "").removeprefix("python").lstrip("=").split(".")[:2])
    return None
