"""What an executor asks of a tracking server, asked of a real MLflow server."""

from __future__ import annotations

import math
from contextlib import closing

import pytest

from mlops_core.adapters.local.mlflow_server import MlflowServer
from mlops_core.pipelines.tracking import MlflowTracking

pytestmark = pytest.mark.slow


def test_a_run_is_given_metrics_that_are_known_already(mlflow_server: MlflowServer) -> None:
    with closing(MlflowTracking(mlflow_server.address, "known")) as tracking:
        run_id = tracking.start_run("train", {"headrace.reused": "true"})
        tracking.add_metrics(run_id, {"rmse": 1.5, "broken": math.nan, "endless": -math.inf})
        tracking.end_run(run_id, "FINISHED")
        found = tracking.metrics(run_id)

    assert found["rmse"] == 1.5
    assert math.isnan(found["broken"])
    assert found["endless"] < -1e300
