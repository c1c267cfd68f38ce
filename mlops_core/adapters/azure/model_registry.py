"""
Model versions of an Azure ML workspace, with their metrics and the job that they come from.

A version names the job that made it, for a pipeline one of its steps; the workspace's MLflow REST API has that step's
metrics, and its tags lead up to the pipeline job, which is the one that the controller named.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from mlops_core.adapters.azure.failures import azure_calls
from mlops_core.adapters.azure.submission import JOB_TAG
from mlops_core.adapters.azure.workspace import Workspace
from mlops_core.adapters.mlflow_runs import Json, data_version, latest, pairs
from mlops_core.domain.errors import NotFoundError
from mlops_core.domain.ids import JobName, ModelName, ModelVersion
from mlops_core.ports import RegisteredVersion

_ROOT_TAG = "mlflow.rootRunId"
_PARENT_TAG = "mlflow.parentRunId"
_DEEPEST_NESTING = 20
# Steps of one pipeline register few versions; the listing ends where older ones than the job begin, or here.
_MOST_LOOKED_AT = 100
_MOST_REMEMBERED = 200
# A version of a data asset: its id in the resource manager, or the short form, which the client gives back bare.
_DATA = re.compile(r"(?:.*/data/|azureml:)?(?P<name>[\w.-]+)(?:/versions/|:)(?P<version>[\w.-]+)")


class AzureMlModelRegistry:
    """The `ModelRegistry` of the Azure backend."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._data: dict[str, str | None] = {}

    def version(self, model: ModelName, version: ModelVersion) -> RegisteredVersion:
        """Read one version. Raises: NotFoundError, TemporaryError."""
        try:
            with azure_calls(f"reading model '{model}:{version}'"):
                found = self._workspace.client.models.get(model, version=version)
        except NotFoundError:
            raise NotFoundError(
                "model version", f"{model}:{version}", advice="The workspace does not have it."
            ) from None
        return self._registered(found)

    def versions_of_job(self, model: ModelName, job_name: JobName) -> Sequence[RegisteredVersion]:
        """Find what a job registered, oldest first."""
        try:
            with azure_calls(f"reading job '{job_name}'"):
                made_at = _created_at(self._workspace.client.jobs.get(job_name))
        except NotFoundError:
            return []
        found = []
        for entry in self._newest(model, _MOST_LOOKED_AT):
            if _created_at(entry) < made_at:
                break
            registered = self._registered(entry)
            if registered.job_name == job_name:
                found.append(registered)
        return found[::-1]

    def versions(self, model: ModelName, *, limit: int = 50) -> Sequence[RegisteredVersion]:
        """List versions, newest first."""
        return [self._registered(entry) for entry in self._newest(model, limit)]

    def models(self) -> Sequence[ModelName]:
        """List the registered names."""
        with azure_calls("listing the models of the workspace"):
            return sorted({ModelName(str(entry.name)) for entry in self._workspace.client.models.list()})

    def _newest(self, model: str, limit: int) -> list[Any]:
        """Azure ML promises no order of its listing, so all of it is read and the newest are kept."""
        try:
            with azure_calls(f"listing the versions of model '{model}'"):
                listed: Iterator[Any] = iter(self._workspace.client.models.list(name=model))
                return heapq.nlargest(limit, listed, key=lambda entry: (_created_at(entry), _number(entry.version)))
        except NotFoundError:
            return []

    def _registered(self, entry: Any) -> RegisteredVersion:
        run = self._run(str(entry.job_name)) if entry.job_name else {}
        job_name = self._root(str(entry.job_name), run) if entry.job_name else None
        return RegisteredVersion(
            model=ModelName(str(entry.name)),
            version=ModelVersion(str(entry.version)),
            job_name=job_name,
            metrics=latest(run.get("data", {}).get("metrics", [])),
            tags=dict(entry.tags or {}),
            created_at=_created_at(entry),
            data_version=data_version(run) or (self._data_of(job_name) if job_name else None),
            uri=str(entry.path or ""),
        )

    def _data_of(self, job_name: JobName) -> str | None:
        """Name the versions of data assets that a job was given; a job's inputs never change."""
        if job_name not in self._data:
            try:
                with azure_calls(f"reading job '{job_name}'"):
                    job = self._workspace.client.jobs.get(job_name)
            except NotFoundError:
                return None
            if len(self._data) >= _MOST_REMEMBERED:
                self._data.clear()
            paths = [_path_of(given) for given in (getattr(job, "inputs", None) or {}).values()]
            named = {f"{found['name']}:{found['version']}" for path in paths if (found := _DATA.fullmatch(path))}
            self._data[job_name] = ",".join(sorted(named)) or None
        return self._data[job_name]

    def _run(self, run_id: str) -> Json:
        """Read a run; one that was deleted is as if the version had none."""
        try:
            found: Json = self._workspace.mlflow.get("runs/get", {"run_id": run_id}, kind="run", name=run_id)["run"]
        except NotFoundError:
            return {}
        return found

    def _root(self, run_id: str, run: Json) -> JobName:
        """Go up from a step's run to the pipeline job."""
        for _ in range(_DEEPEST_NESTING):
            tags = pairs(run.get("data", {}).get("tags", []))
            known = tags.get(JOB_TAG) or tags.get(_ROOT_TAG)
            if known:
                return JobName(known)
            if _PARENT_TAG not in tags:
                return JobName(run_id)
            run_id = tags[_PARENT_TAG]
            run = self._run(run_id)
        return JobName(run_id)


def _path_of(given: Any) -> str:
    """Read where a job's input leads; the client raises for one that is a plain value."""
    from azure.ai.ml.exceptions import ValidationException

    try:
        return str(getattr(given, "path", None) or "")
    except ValidationException:
        return ""


def _created_at(entry: Any) -> datetime:
    moment = getattr(getattr(entry, "creation_context", None), "created_at", None)
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if not isinstance(moment, datetime):
        return datetime.min.replace(tzinfo=UTC)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _number(version: object) -> int:
    text = str(version)
    return int(text) if text.isdecimal() else -1
