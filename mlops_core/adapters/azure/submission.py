"""
From a commit's files to Azure ML jobs: what is submitted, and under which name, compute, environment and tags.

The user's pipeline is submitted as it is; the controller adds its own name, tags and lineage, the inputs that `mlops.yaml`
gives, and a compute where none is named.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml

from mlops_core.adapters.azure.local_paths import check_paths, path_in
from mlops_core.domain.errors import BadInputError
from mlops_core.pipelines.errors import PipelineNotLocalError
from mlops_core.ports import JobRequest

if TYPE_CHECKING:
    from azure.ai.ml.entities import Command, PipelineJob

JOB_TAG = "headrace.job"
TIMEOUT_TAG = "headrace.timeout_seconds"
STAGE_TAG = "headrace.stage"
DEFAULT_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"
_SERVERLESS = "serverless"
_DEFAULT_PYTHON = "3.11"


def tags_of(request: JobRequest) -> dict[str, str]:
    """Say what a job belongs to, for people and for the controller itself."""
    timeout = request.spec.build.timeout if request.stage == "build" else request.spec.train.timeout
    return {
        "headrace.run": request.run_id,
        "headrace.project": request.project.name,
        "headrace.commit": request.commit,
        JOB_TAG: request.name,
        STAGE_TAG: request.stage,
        TIMEOUT_TAG: f"{timeout:.0f}",
    }


def lineage_of(request: JobRequest) -> dict[str, str]:
    """Name the code of a job in the properties that Azure ML's own tools show."""
    project = request.project
    return {
        "azureml.git.repository_uri": project.clone_url,
        "azureml.git.commit": request.commit,
        "mlflow.source.git.repoURL": project.clone_url,
        "mlflow.source.git.commit": request.commit,
    }


def check(root: Path, request: JobRequest) -> None:
    """
    Find what is wrong with the pipeline before anything is uploaded; azure-ai-ml lets much of it pass.

    Raises:
        BadInputError: Something leads out of the commit.
        PipelineInvalidError: With every problem's file, line and key.
    """
    # The tags above are needed at every start of the app, what reads pipelines only here.
    from mlops_core.pipelines.loader import LoadRequest, check_pipeline

    pipeline = root / request.spec.train.pipeline
    check_paths(_commit_folder(root, request), _named_files(root, request))
    if not pipeline.exists():
        raise BadInputError(
            f"{request.project.manifest}, train.pipeline: there is no '{request.spec.train.pipeline}' in the repository."
        )
    try:
        check_pipeline(LoadRequest(yaml_path=pipeline, project_root=root, inputs=request.spec.train.inputs))
    except PipelineNotLocalError:
        # Only a laptop cannot run it.
        return


def _commit_folder(root: Path, request: JobRequest) -> Path:
    """Find the folder of the commit: a project may lie in a folder of its repository, and name what lies beside."""
    for _ in PurePosixPath(request.project.manifest).parent.parts:
        root = root.parent
    return root


def _named_files(root: Path, request: JobRequest) -> Iterator[tuple[str, Path]]:
    """List the files of YAML that `mlops.yaml` names for Azure ML, each with its key."""
    manifest, spec = request.project.manifest, request.spec
    yield f"{manifest}, train.pipeline", root / spec.train.pipeline
    for number, asset in enumerate(spec.build.assets):
        yield f"{manifest}, build.assets[{number}]", root / asset
    if spec.build.environment is not None and spec.build.environment != "current":
        yield f"{manifest}, build.environment", root / spec.build.environment


def pipeline_job(root: Path, request: JobRequest, *, compute: str) -> PipelineJob:
    """Make the training job of a commit. Raises BadInputError: azure-ai-ml refuses the file."""
    job = _load(root / request.spec.train.pipeline)
    job.name = request.name
    job.tags = {**(job.tags or {}), **tags_of(request)}
    job.properties = {**(job.properties or {}), **lineage_of(request)}
    for name, value in request.spec.train.inputs.items():
        if name not in job.inputs:
            raise BadInputError(
                f"{request.project.manifest}, train.inputs: the pipeline has no input '{name}'. "
                f"It has: {', '.join(sorted(job.inputs)) or 'none'}."
            )
        job.inputs[name] = _given(job.inputs[name], value, root, request, name)
    if job.compute is None and getattr(job.settings, "default_compute", None) is None:
        job.settings.default_compute = compute
    if request.resume_from is None:
        # A step that Azure ML takes over is not run, so what it registers is not registered again. See decision 0012.
        job.settings.force_rerun = True
    return job


def _given(known: Any, value: object, root: Path, request: JobRequest, name: str) -> object:
    """Make a value that `mlops.yaml` gives what the pipeline's own file has there: data, or a plain value."""
    from azure.ai.ml import Input

    data = getattr(known, "_data", known)
    if not isinstance(data, Input) or not isinstance(value, str):
        return value
    key = f"{request.project.manifest}, train.inputs.{name}"
    path = path_in(_commit_folder(root, request), root, value, key)
    return Input(type=data.type, mode=data.mode, path=path)


def tests_job(root: Path, request: JobRequest, environment: Any, *, compute: str) -> Command:
    """Make the job that runs the project's tests. The commit must declare some."""
    from azure.ai.ml import command
    from azure.ai.ml.entities import CommandJobLimits

    job = command(
        name=request.name,
        display_name=f"{request.project.name} tests",
        experiment_name=request.project.name,
        code=str(root),
        command=tests_command(request.spec.build.test or ""),
        environment=environment,
        compute=None if compute == _SERVERLESS else compute,
        tags=tags_of(request),
        properties=lineage_of(request),
    )
    job.limits = CommandJobLimits(timeout=int(request.spec.build.timeout))
    return job


def tests_command(test: str) -> str:
    """Add the tests' runner where the command needs it: it is seldom among what a model needs."""
    if test.split()[:1] == ["pytest"]:
        return f"python -m pip install --quiet --disable-pip-version-check pytest && python -m {test}"
    return test


def tests_environment(root: Path, request: JobRequest) -> Any:
    """
    Choose the environment of the tests: as declared, else the first environment asset, else the first step's.

    Returns: What azure-ai-ml takes as an environment: an entity, or a reference such as `name@latest`.
    """
    declared = request.spec.build.environment
    if declared is not None and declared != "current":
        return read_environment(root / declared, declared)
    for asset in request.spec.build.assets:
        document = _document(root / asset)
        if {"image", "conda_file", "build"} & document.keys() and "jobs" not in document:
            return f"{document['name']}@latest" if document.get("name") else read_environment(root / asset, asset)
    return _first_environment(_load(root / request.spec.train.pipeline).jobs)


def read_environment(path: Path, label: str) -> Any:
    """Read an environment from an asset, a conda file or a requirements file. Raises BadInputError."""
    from azure.ai.ml import load_environment
    from azure.ai.ml.entities import Environment

    if path.suffix not in (".yml", ".yaml"):
        conda = {
            "name": "tests",
            "dependencies": [f"python={_DEFAULT_PYTHON}", "pip", {"pip": _requirements(path, label)}],
        }
        return Environment(image=DEFAULT_IMAGE, conda_file=conda)
    document = _document(path)
    if {"image", "conda_file", "build"} & document.keys():
        return load_environment(path)
    if "dependencies" in document:
        return Environment(image=DEFAULT_IMAGE, conda_file=document)
    raise BadInputError(f"'{label}' is neither an environment asset nor a conda file.")


def _requirements(path: Path, label: str) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BadInputError(f"Environment file '{label}' cannot be read: {error.strerror}.") from None
    found = [line.split(" #", 1)[0].strip() for line in lines]
    for line in found:
        if line.startswith("-"):
            raise BadInputError(
                f"'{label}' holds the option {shlex.quote(line)}, which a conda file cannot hold. Write an environment "
                "asset with an image or a build context instead."
            )
    return [line for line in found if line and not line.startswith("#")]


def _document(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInputError(f"'{path.name}' cannot be read: {str(error)[:300]}.") from None
    return document if isinstance(document, dict) else {}


def _load(path: Path) -> Any:
    from azure.ai.ml import load_job
    from azure.ai.ml.exceptions import MlException
    from marshmallow import ValidationError

    try:
        return load_job(path)
    except (MlException, ValidationError) as error:
        words = " ".join(str(getattr(error, "message", None) or error).split())
        raise BadInputError(f"azure-ai-ml refuses '{path.name}': {words[:600]}") from None


def _first_environment(jobs: dict[str, Any]) -> Any:
    for node in jobs.values():
        component = getattr(node, "component", None)
        nested = getattr(component, "jobs", None)
        found = (
            _first_environment(nested)
            if nested
            else getattr(node, "environment", None) or getattr(component, "environment", None)
        )
        if found:
            return found
    raise BadInputError(
        "No environment is known for the tests: declare one with build.environment, or as the first of build.assets."
    )
