"""
The few calls of MLflow's REST API that an executor needs, over plain HTTP: importing mlflow costs seconds.

A tracking server that does not answer never fails a pipeline by itself: what could not be written is logged, and the
pipeline's own result counts.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import httpx

from mlops_core.domain.errors import TemporaryError

log = logging.getLogger(__name__)

_SECONDS = 60.0
_PAGE = 1_000
_OUTPUT_TAG = "headrace.output"
Json = dict[str, Any]


class Tracking(Protocol):
    """Where runs, metrics and model versions are recorded."""

    @property
    def uri(self) -> str:
        """What steps get as `MLFLOW_TRACKING_URI`."""
        ...

    def start_run(self, name: str, tags: Mapping[str, str]) -> str:
        """Create a run in the pipeline's experiment and give its id."""
        ...

    def add_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Write metrics to a run."""
        ...

    def add_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Write those parameters to a run that it has not."""
        ...

    def end_run(self, run_id: str, status: str) -> None:
        """Set a run's end: `FINISHED`, `FAILED` or `KILLED`."""
        ...

    def metrics(self, run_id: str) -> dict[str, float]:
        """Read a run's latest metrics."""
        ...

    def metric_history(self, run_id: str, metric: str) -> list[float]:
        """Read all values of one metric in the order of their steps."""
        ...

    def has_registered(self, since: float) -> bool:
        """Tell whether a model version was registered since a time (of `time.time`), by whatever run."""
        ...

    def register(self, run_id: str, model: str, folder: Path, tags: Mapping[str, str]) -> str:
        """Upload a folder as an artifact of a run and register it. Returns the version."""
        ...


class MlflowTracking:
    """
    A real MLflow server.

    Args:
        experiment: Name of the experiment; made where it is missing.
    Raises: TemporaryError: The server does not answer.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self._uri = uri
        self._experiment = experiment
        self._client = httpx.Client(base_url=f"{uri}/api/2.0", timeout=_SECONDS)
        self._experiment_id: str | None = None

    @property
    def uri(self) -> str:
        """What steps get as `MLFLOW_TRACKING_URI`."""
        return self._uri

    def wait_until_ready(self, seconds: float = 120.0) -> None:
        """Wait for a server that is just starting. Raises TemporaryError when it does not come."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self._client.get(f"{self._uri}/health", timeout=5.0).is_success:
                    return
            except httpx.TransportError as error:
                if time.monotonic() > deadline:
                    raise TemporaryError(f"The tracking server at {self._uri} does not answer: {error}.") from error
            time.sleep(0.1)

    @property
    def experiment_id(self) -> str:
        """The experiment's id, asked for once."""
        if self._experiment_id is None:
            self._experiment_id = self._find_experiment()
        return self._experiment_id

    def start_run(self, name: str, tags: Mapping[str, str]) -> str:
        """Create a run in the pipeline's experiment and give its id."""
        body = {
            "experiment_id": self.experiment_id,
            "run_name": name,
            "start_time": int(time.time() * 1000),
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        return str(self._call("POST", "/mlflow/runs/create", json=body)["run"]["info"]["run_id"])

    def add_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Write metrics to a run."""
        now = int(time.time() * 1000)
        points = [{"key": key, "value": _json_number(value), "timestamp": now} for key, value in metrics.items()]
        for start in range(0, len(points), _PAGE):
            batch = {"run_id": run_id, "metrics": points[start : start + _PAGE]}
            self._call("POST", "/mlflow/runs/log-batch", json=batch)

    def add_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Write those parameters to a run that it has not: MLflow refuses another value for one that is there."""
        data = self._call("GET", "/mlflow/runs/get", params={"run_id": run_id})["run"].get("data", {})
        there = {param["key"] for param in data.get("params", [])}
        pairs = [{"key": key, "value": value} for key, value in params.items() if key not in there]
        if pairs:
            self._call("POST", "/mlflow/runs/log-batch", json={"run_id": run_id, "params": pairs})

    def end_run(self, run_id: str, status: str) -> None:
        """Set a run's end: `FINISHED`, `FAILED` or `KILLED`."""
        body = {"run_id": run_id, "status": status, "end_time": int(time.time() * 1000)}
        self._call("POST", "/mlflow/runs/update", json=body)

    def metrics(self, run_id: str) -> dict[str, float]:
        """Read a run's latest metrics."""
        data = self._call("GET", "/mlflow/runs/get", params={"run_id": run_id})["run"].get("data", {})
        return {metric["key"]: float(metric["value"]) for metric in data.get("metrics", [])}

    def metric_history(self, run_id: str, metric: str) -> list[float]:
        """Read all values of one metric in the order of their steps."""
        query = {"run_id": run_id, "metric_key": metric, "max_results": _PAGE}
        found = self._call("GET", "/mlflow/metrics/get-history", params=query).get("metrics", [])
        found.sort(key=lambda point: (int(point.get("step", 0)), int(point.get("timestamp", 0))))
        return [float(point["value"]) for point in found]

    def has_registered(self, since: float) -> bool:
        """
        Tell whether a model version was registered since a time, by whatever run.

        A version that was registered from a path, or from the run of another step, does not name the run that did it.
        """
        query = {"order_by": "creation_timestamp DESC", "max_results": 50}
        newest = self._call("GET", "/mlflow/model-versions/search", params=query).get("model_versions", [])
        return any(int(each["creation_timestamp"]) >= int(since * 1000) and not _is_output(each) for each in newest)

    def register(self, run_id: str, model: str, folder: Path, tags: Mapping[str, str]) -> str:
        """Upload a folder as an artifact of a run and register it. Returns the version."""
        info = self._call("GET", "/mlflow/runs/get", params={"run_id": run_id})["run"]["info"]
        root = str(info["artifact_uri"])
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self._upload(root, f"{model}/{path.relative_to(folder).as_posix()}", path)
        self._ensure_registered_model(model)
        body = {
            "name": model,
            "source": f"{root}/{model}",
            "run_id": run_id,
            "tags": [{"key": key, "value": value} for key, value in {**tags, _OUTPUT_TAG: "true"}.items()],
        }
        created = self._call("POST", "/mlflow/model-versions/create", json=body)
        return str(created["model_version"]["version"])

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _find_experiment(self) -> str:
        answer = self._send("GET", "/mlflow/experiments/get-by-name", params={"experiment_name": self._experiment})
        if answer.is_success:
            return str(answer.json()["experiment"]["experiment_id"])
        created = self._send("POST", "/mlflow/experiments/create", json={"name": self._experiment})
        if created.is_success:
            return str(created.json()["experiment_id"])
        # Somebody else made it meanwhile.
        query = {"experiment_name": self._experiment}
        return str(self._call("GET", "/mlflow/experiments/get-by-name", params=query)["experiment"]["experiment_id"])

    def _ensure_registered_model(self, model: str) -> None:
        answer = self._send("POST", "/mlflow/registered-models/create", json={"name": model})
        if not answer.is_success and "RESOURCE_ALREADY_EXISTS" not in answer.text:
            raise TemporaryError(f"Model '{model}' could not be registered: {answer.text[:500]}")

    def _upload(self, root: str, path: str, file: Path) -> None:
        # mlflow-artifacts:/1/RUN/artifacts is the server's own store behind its proxy.
        prefix = root.removeprefix("mlflow-artifacts:").lstrip("/")
        url = f"{self._uri}/api/2.0/mlflow-artifacts/artifacts/{prefix}/{path}"
        with file.open("rb") as content:
            answer = self._client.put(url, content=content)
        if not answer.is_success:
            raise TemporaryError(f"Artifact '{path}' could not be uploaded: {answer.status_code} {answer.text[:300]}")

    def _call(self, method: str, path: str, **options: Any) -> Json:
        answer = self._send(method, path, **options)
        if not answer.is_success:
            raise TemporaryError(f"The tracking server answered {answer.status_code} to {path}: {answer.text[:500]}")
        view: Json = answer.json()
        return view

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._client.request(method, path, **options)
        except httpx.TransportError as error:
            raise TemporaryError(f"The tracking server at {self._uri} does not answer: {error}.") from error


def _is_output(version: Json) -> bool:
    """Tell whether `register` made a version of a step's output: that is done again where the step is reused."""
    return any(tag["key"] == _OUTPUT_TAG for tag in version.get("tags", []))


def _json_number(value: float) -> float | str:
    """Give a number as the server's JSON reads it: NaN and the infinities are texts there."""
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")
