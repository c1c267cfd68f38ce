"""A release whose deployments are container groups, with a controller that forgets everything between two calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from arm_containers import GROUPS, Containers
from arm_double import Fault
from builders import Bench, make_bench
from container_bench import APP, IMAGE, ContainerBench, container_bench, stand_in_command

from mlops_core.adapters.azure.scoring_image import ImageState
from mlops_core.domain.ids import DeploymentName, RunId
from mlops_core.ports import DeploymentRequest, DeploymentStatus

pytestmark = pytest.mark.slow


@dataclass
class NewInstanceEachTime:
    """Answers each call by a deployer that was just made, as instances of a function app that come and go do."""

    azure: ContainerBench

    def create(self, request: DeploymentRequest) -> None:
        self.azure.deployer().create(request)

    def status(self, name: DeploymentName) -> DeploymentStatus:
        return self.azure.deployer().status(name)

    def address(self, name: DeploymentName) -> str | None:
        return self.azure.deployer().address(name)

    def delete(self, name: DeploymentName) -> None:
        self.azure.deployer().delete(name)

    def list(self) -> Sequence[DeploymentStatus]:
        return self.azure.deployer().list()


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[ContainerBench]:
    with container_bench(tmp_path / "groups", stand_in_command(APP)) as made:
        yield made


@pytest.fixture
def bench(tmp_path: Path, azure: ContainerBench) -> Bench:
    return make_bench(tmp_path, wrap=lambda world: replace(world, deployer=NewInstanceEachTime(azure)))


def settled(bench: Bench, run_id: RunId, *wanted: str) -> str:
    """Reconcile until a run is in one of these states; an app's start takes a moment."""
    deadline = time.monotonic() + 8
    while (state := bench.state(run_id)) not in wanted and time.monotonic() < deadline:
        bench.settle(1)
        time.sleep(0.02)
    return state


def groups(azure: ContainerBench) -> list[str]:
    return sorted(azure.containers.groups)


def test_a_version_goes_live_after_its_image_was_built(bench: Bench, azure: ContainerBench) -> None:
    azure.image = ImageState("building", IMAGE)
    run_id = bench.push()
    bench.deliver(run_id)
    assert (bench.state(run_id), groups(azure)) == ("deploying", [])
    azure.image = ImageState("ready", IMAGE)
    assert settled(bench, run_id, "live", "failed") == "live"
    assert groups(azure) == ["diabetes-v1"]


def test_the_group_before_is_deleted_after_the_traffic_went_over(bench: Bench, azure: ContainerBench) -> None:
    for number in (1, 2):
        run_id = bench.push(number)
        bench.deliver(run_id, rmse=50.0 - number)
        assert settled(bench, run_id, "live", "failed") == "live"
    bench.settle()
    assert groups(azure) == ["diabetes-v2"]
    assert azure.containers.restarted_in_place == []


# Reconciling logs that a deployment can never be made, and does not yet tell the run.


@pytest.mark.parametrize("late", [pytest.param(False, id="at once"), pytest.param(True, id="while it is waited for")])
def test_an_image_that_cannot_be_built_fails_the_run_with_the_reason(
    bench: Bench, azure: ContainerBench, *, late: bool
) -> None:
    failed = ImageState("failed", IMAGE, "pip found no numpy 9.")
    azure.image = ImageState("building", IMAGE) if late else failed
    run_id = bench.push()
    bench.deliver(run_id)
    azure.image = failed
    assert settled(bench, run_id, "live", "failed") == "failed"
    assert "numpy 9" in bench.run(run_id).reason


@pytest.mark.parametrize("code", ["ContainerGroupQuotaReached", "ResourceRequestsExceedLimit"])
def test_a_quota_fails_the_run_and_leaves_the_champion(bench: Bench, azure: ContainerBench, code: str) -> None:
    first = bench.push(1)
    bench.deliver(first)
    settled(bench, first, "live")
    azure.arm.faults = [Fault(409, "PUT", GROUPS, times=99, code=code)]
    second = bench.push(2)
    bench.deliver(second, rmse=40)
    assert settled(bench, second, "live", "failed") == "failed"
    assert (bench.state(first), groups(azure)) == ("live", ["diabetes-v1"])


@pytest.mark.parametrize("lose", [Containers.lose, Containers.kill])
def test_a_live_version_that_died_comes_back(
    bench: Bench, azure: ContainerBench, lose: Callable[[Containers, str], None]
) -> None:
    run_id = bench.push()
    bench.deliver(run_id)
    settled(bench, run_id, "live")
    lose(azure.containers, "diabetes-v1")
    bench.settle()
    deployer, deadline = azure.deployer(), time.monotonic() + 20
    while (status := deployer.status(DeploymentName("diabetes-v1"))).state != "ready":
        assert time.monotonic() < deadline, status
        time.sleep(0.02)
    assert bench.state(run_id) == "live"
