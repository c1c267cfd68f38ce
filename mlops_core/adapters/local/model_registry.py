"""
Model versions of a real MLflow server, with their metrics and the job that they come from.

A version belongs to the job whose name stands in the tag `headrace.job` of its source run, or of the nearest run
above it: steps get runs of their own, and a project may open more inside. MLflow 2 writes the source run into the
version; MLflow 3 registers logged models (`models:/m-...`), and then the logged model knows its run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from mlops_core.adapters.mlflow_api import MlflowApi
from mlops_core.adapters.mlflow_runs import Json, data_version, latest, pairs
from mlops_core.domain.errors import NotFoundError
from mlops_core.domain.ids import JobName, ModelName, ModelVersion
from mlops_core.ports import RegisteredVersion

JOB_TAG = "headrace.job"
"""The tag of a run that names the pipeline job which it belongs to."""

_PARENT_TAG = "mlflow.parentRunId"
_LOGGED_MODEL_SCHEME = "models:/m-"
# Runs nest by hand, so this is far above what anybody does; it only ends a circle.
_DEEPEST_NESTING = 20
# Versions get the server's time and runs the client's, on one machine: only a clock that was set lies between.
_CLOCK_SLACK_MS = 15 * 60 * 1000


class MlflowModelRegistry:
    """The registry of an MLflow server."""

    def __init__(self, api: MlflowApi) -> None:
        """Read from a server."""
        self._api = api
        self._job_of_run: dict[str, JobName] = {}

    def version(self, model: ModelName, version: ModelVersion) -> RegisteredVersion:
        """Read one version. Raises: NotFoundError, TemporaryError."""
        parameters = {"name": model, "version": version}
        answer = self._api.get("model-versions/get", parameters, kind="model version", name=f"{model}:{version}")
        return self._registered(answer["model_version"])

    def versions_of_job(self, model: ModelName, job_name: JobName) -> Sequence[RegisteredVersion]:
        """Find what a job registered, oldest first: looks back as far as the job's first run, no further."""
        started = self._first_start(job_name)
        if started is None:
            return []
        found: list[RegisteredVersion] = []
        for entry in self._newest_first(model):
            if int(entry["creation_timestamp"]) < started - _CLOCK_SLACK_MS:
                break
            run = self._source_run(entry, self._logged_model(entry))
            if self._job(run) == job_name:
                found.append(self._registered(entry))
        return sorted(found, key=lambda version: int(version.version))

    def versions(self, model: ModelName, *, limit: int = 50) -> Sequence[RegisteredVersion]:
        """List versions, newest first."""
        found: list[RegisteredVersion] = []
        for entry in self._newest_first(model):
            if len(found) == limit:
                break
            found.append(self._registered(entry))
        return found

    def models(self) -> Sequence[ModelName]:
        """List the registered names."""
        pages = self._api.pages("registered-models/search", {}, items="registered_models")
        return sorted(ModelName(entry["name"]) for page in pages for entry in page)

    def _newest_first(self, model: ModelName) -> Iterator[Json]:
        # MLflow's filters know no escape: a quote within needs the other kind around it.
        quote = '"' if "'" in model else "'"
        query = {"filter": f"name={quote}{model}{quote}", "order_by": "version_number DESC"}
        for page in self._api.pages("model-versions/search", query, items="model_versions"):
            yield from page

    def _registered(self, entry: Json) -> RegisteredVersion:
        logged = self._logged_model(entry)
        run = self._source_run(entry, logged)
        of_model = [self._with_lost_nan(entry) for entry in logged.get("data", {}).get("metrics", [])]
        measured = [*run.get("data", {}).get("metrics", []), *of_model]
        return RegisteredVersion(
            model=ModelName(entry["name"]),
            version=ModelVersion(str(entry["version"])),
            job_name=self._job(run),
            metrics=latest(measured),
            tags=pairs(entry.get("tags", [])),
            created_at=datetime.fromtimestamp(int(entry["creation_timestamp"]) / 1000, UTC),
            data_version=data_version(run),
            uri=str(entry.get("source", "")),
        )

    def _logged_model(self, entry: Json) -> Json:
        """Read the MLflow 3 logged model behind a version; nothing for versions of MLflow 2."""
        source = str(entry.get("source", ""))
        model_id = entry.get("model_id") or (source[len("models:/") :] if _names_logged_model(source) else "")
        if not model_id:
            return {}
        try:
            answer = self._api.get(f"logged-models/{model_id}", {}, kind="logged model", name=str(model_id))
        except NotFoundError:
            return {}
        found: Json = answer.get("model", {})
        return found

    def _with_lost_nan(self, entry: Json) -> Json:
        """
        Give a logged model's metric back its NaN.

        MLflow (3.17) stores it as 0 there, and an error of 0 would pass any gate; the run's history still has it.
        """
        if float(entry.get("value", 0)) != 0 or not entry.get("run_id"):
            return entry
        query = {"run_id": entry["run_id"], "metric_key": entry["key"]}
        try:
            points = [
                point for page in self._api.pages("metrics/get-history", query, items="metrics") for point in page
            ]
        except NotFoundError:
            return entry
        lost = any(_same_moment(point, entry) and math.isnan(float(point.get("value", 0))) for point in points)
        return {**entry, "value": math.nan} if lost else entry

    def _source_run(self, entry: Json, logged: Json) -> Json:
        info = logged.get("info", {})
        # A model that was logged outside of any run, as after a fit under autolog, has the tags of its step's context.
        step = pairs(info.get("tags", [])).get(_PARENT_TAG)
        return self._run(str(entry.get("run_id") or info.get("source_run_id") or step or ""))

    def _run(self, run_id: str) -> Json:
        """Read a run; one that was deleted is as if the version had none."""
        if not run_id:
            return {}
        try:
            found: Json = self._api.get("runs/get", {"run_id": run_id}, kind="run", name=run_id)["run"]
        except NotFoundError:
            return {}
        return found

    def _job(self, run: Json) -> JobName | None:
        """Go up from a run to the nearest that names its job."""
        passed: list[str] = []
        for _ in range(_DEEPEST_NESTING):
            run_id = run.get("info", {}).get("run_id", "")
            tags = pairs(run.get("data", {}).get("tags", []))
            job = self._job_of_run.get(run_id) or tags.get(JOB_TAG)
            passed.append(run_id)
            if job:
                self._job_of_run.update(dict.fromkeys(passed, JobName(job)))
                return JobName(job)
            if _PARENT_TAG not in tags:
                return None
            run = self._run(tags[_PARENT_TAG])
        return None

    def _first_start(self, job_name: JobName) -> int | None:
        """Find when the first run of a job started, in milliseconds; None when no run names the job."""
        pages = self._api.pages("experiments/search", {}, items="experiments")
        experiments = [entry["experiment_id"] for page in pages for entry in page]
        query = {"filter": f"tags.`{JOB_TAG}` = '{job_name}'", "order_by": ["start_time ASC"], "max_results": 1}
        runs = self._api.search_runs({"experiment_ids": experiments, **query}) if experiments else []
        return int(runs[0]["info"]["start_time"]) if runs else None


def _names_logged_model(source: str) -> bool:
    return source.startswith(_LOGGED_MODEL_SCHEME) and "/" not in source[len("models:/") :]


def _same_moment(point: Json, other: Json) -> bool:
    return all(int(point.get(key, 0)) == int(other.get(key, 0)) for key in ("timestamp", "step"))
