"""Events of Azure's resource manager about container groups: each is only a reason to ask."""

from __future__ import annotations

import pytest
from builders import Bench

from handlers.events import take_trigger
from mlops_core.domain.ids import DeploymentName
from mlops_core.domain.run import State

PREFIX = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerInstance/containerGroups/"


def event(resource: str, kind: str = "ResourceWriteSuccess") -> dict[str, object]:
    return {
        "id": "e1",
        "topic": "/subscriptions/s/resourceGroups/g",
        "subject": resource,
        "eventType": f"Microsoft.Resources.{kind}",
        "eventTime": "2026-03-01T12:00:00Z",
        "data": {"resourceUri": resource, "operationName": "Microsoft.ContainerInstance/containerGroups/write"},
        "dataVersion": "2",
        "metadataVersion": "1",
    }


def deploying(bench: Bench) -> str:
    run_id = bench.push()
    bench.drain()
    bench.end_job(run_id, "build")
    bench.registry.register("diabetes", f"{run_id}-train", rmse=50.0)
    bench.end_job(run_id, "train")
    assert bench.state(run_id) == State.DEPLOYING
    return run_id


def test_a_group_that_became_ready_brings_its_run_on(bench: Bench) -> None:
    bench.deployer.ready_at_once = False
    run_id = deploying(bench)
    bench.deployer.make_ready(DeploymentName("diabetes-v1"))
    take_trigger(bench.app, event(f"{PREFIX}Diabetes-V1"))
    bench.drain()
    assert bench.state(run_id) == State.LIVE  # type: ignore[arg-type] - a run id made here


@pytest.mark.parametrize(
    "resource", [f"{PREFIX}another-v1", "/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/a"]
)
def test_groups_of_others_are_left_alone(bench: Bench, resource: str) -> None:
    take_trigger(bench.app, event(resource))
    assert bench.app.world.dead_letters.list().items == []


def test_an_event_that_names_no_resource_is_kept(bench: Bench) -> None:
    take_trigger(bench.app, event("") | {"subject": "", "data": {}})
    (letter,) = bench.app.world.dead_letters.list().items
    assert "names no resource" in letter.reason
