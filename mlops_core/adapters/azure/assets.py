"""
Set up the assets that `mlops.yaml` lists, before the tests: in the workspace, once per content.

An asset that names its version is made when the workspace has no such version. One without a version gets the commit's as
its version, unless the newest has the same content already: so a second call changes nothing, and `@latest` means the
commit that was pushed last.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import yaml

from mlops_core.adapters.azure.failures import azure_calls
from mlops_core.adapters.azure.workspace import Workspace
from mlops_core.domain.errors import BadInputError, NotFoundError
from mlops_core.pipelines.assets import kind_of
from mlops_core.pipelines.step_files import digest_of_path
from mlops_core.ports import JobRequest

log = logging.getLogger(__name__)

DIGEST_TAG = "headrace.digest"
_COMMIT_LETTERS = 12


def set_up_assets(workspace: Workspace, root: Path, request: JobRequest) -> None:
    """
    Set up each asset that a commit lists.

    Raises: BadInputError: A file is no asset; names it and its key. TemporaryError, PermanentError.
    """
    for number, asset in enumerate(request.spec.build.assets):
        path = root / asset
        key = f"{request.project.manifest}, build.assets[{number}]"
        document = _read(path, key)
        kind = "compute" if "compute" in str(document.get("$schema", "")).lower() else kind_of(document)
        with azure_calls(f"setting up asset '{asset}'"):
            if kind == "compute":
                _set_up_compute(workspace, path)
            elif kind in ("environment", "data", "component", "model"):
                _set_up(workspace, kind, path, document, request)
            else:
                raise BadInputError(
                    f"{key}: '{asset}' is no environment, data, component, model or compute asset. Remove it, or give "
                    "it the '$schema' of its kind."
                )


def _read(path: Path, key: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInputError(f"{key}: '{path.name}' cannot be read: {str(error)[:300]}.") from None
    if not isinstance(document, dict):
        raise BadInputError(f"{key}: '{path.name}' is no mapping. Write it as for the 'az ml' command.")
    return document


def _set_up(workspace: Workspace, kind: str, path: Path, document: dict[str, Any], request: JobRequest) -> None:
    from azure.ai.ml import load_component, load_data, load_environment, load_model

    load: Any = {"environment": load_environment, "data": load_data, "component": load_component, "model": load_model}[
        kind
    ]
    client = workspace.client
    there: Any = {
        "environment": client.environments, "data": client.data, "component": client.components, "model": client.models,
    }[kind]  # fmt: skip
    entity = load(path)
    digest = _digest(path, document)
    declared = str(document["version"]) if document.get("version") is not None else None
    if declared is None and _tag(_latest(there, entity.name)) == digest:
        return
    version = declared or request.commit[:_COMMIT_LETTERS]
    known = _find(there, entity.name, version)
    if known is not None:
        if declared is not None and _tag(known) not in (None, digest):
            log.warning(
                "asset has other content than the version that it names; the workspace's is kept",
                extra={"asset": f"{entity.name}:{version}", "run_id": request.run_id},
            )
        return
    entity.version = version
    entity.tags = {**(entity.tags or {}), DIGEST_TAG: digest, "headrace.commit": request.commit}
    there.create_or_update(entity)
    log.info("asset set up", extra={"asset": f"{entity.name}:{version}", "kind": kind, "run_id": request.run_id})


def _set_up_compute(workspace: Workspace, path: Path) -> None:
    """Ask for a compute that is not there; its making is not waited for, jobs queue until it is."""
    from azure.ai.ml import load_compute

    compute = load_compute(path)
    try:
        with azure_calls(f"reading compute '{compute.name}'"):
            workspace.client.compute.get(compute.name)
    except NotFoundError:
        workspace.client.compute.begin_create_or_update(compute)
        log.info("compute asked for", extra={"compute": compute.name})


def _find(there: Any, name: str, version: str) -> Any:
    try:
        with azure_calls(f"reading asset '{name}:{version}'"):
            return there.get(name, version=version)
    except NotFoundError:
        return None


def _latest(there: Any, name: str) -> Any:
    try:
        with azure_calls(f"reading asset '{name}@latest'"):
            return there.get(name, label="latest")
    except NotFoundError:
        return None


def _tag(entity: Any) -> str | None:
    return (getattr(entity, "tags", None) or {}).get(DIGEST_TAG)


def _digest(path: Path, document: dict[str, Any]) -> str:
    """Hash an asset's YAML and every file or folder beside it that the YAML names."""
    parts = [hashlib.sha256(path.read_bytes()).hexdigest()]
    for key in ("path", "code", "conda_file"):
        value = document.get(key)
        if isinstance(value, str) and ":" not in value and (path.parent / value).exists():
            parts.append(digest_of_path(path.parent / value))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()
