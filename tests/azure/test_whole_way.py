"""
From a webhook of GitHub to a prediction, with `backend=azure`: every adapter on its genuine SDK.

Tables, queues and blobs in Azurite; Azure ML, container groups and the registry in doubles that hold each request against
the published specifications and really run what arrives; events delivered twice, late and in any order.
"""

from __future__ import annotations

import json
from pathlib import Path

import azurite
import pytest
from aml_double import AzureMlDouble
from tls import Certificate
from whole_cloud import whole_cloud

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]


def test_a_push_to_github_becomes_a_prediction_from_a_container_group(
    account: azurite.Azurite, azure_ml: AzureMlDouble, certificate: Certificate, tmp_path: Path
) -> None:
    azure_ml.complaints.clear()
    azure_ml.faults.clear()
    with whole_cloud(tmp_path, account=account, azure_ml=azure_ml, certificate=certificate) as cloud:
        run_id = cloud.push("First")
        view = cloud.wait(run_id, "live")
        answer = cloud.predict()
        assert answer.status_code == 200, answer.text
        assert 50 < json.loads(answer.text)[0] < 300
        assert answer.headers["x-headrace-model-version"] == view["version"]
        assert view["gates"][0]["verdicts"][0]["outcome"] == "passed"
        assert sorted(cloud.bench.containers.groups) == [f"diabetes-v{view['version']}"]
        kinds = {str(event["eventType"]) for event in cloud.grid.published}
        assert {
            "Headrace.GitPush",
            "Headrace.ReleaseLive",
            "Microsoft.MachineLearningServices.ModelRegistered",
        } <= kinds
        assert cloud.grid.refused == []
        assert cloud.host.queue.poisoned == []
        assert cloud.app.world.dead_letters.list().items == []
    assert azure_ml.complaints == []
