"""Container groups that Azure refuses, delays, loses or breaks: what the deployer says, and what it does then."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from arm_double import Fault, Request
from container_bench import (
    APP,
    IMAGE,
    ContainerBench,
    container_bench,
    request_for,
    stand_in_command,
    until,
)

from mlops_core.domain.errors import PermanentError, TemporaryError


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[ContainerBench]:
    with container_bench(tmp_path, stand_in_command(APP)) as made:
        yield made


def test_a_throttled_creation_is_repeated_when_azure_says(azure: ContainerBench) -> None:
    azure.arm.faults = [Fault(429, "PUT", code="TooManyRequests", headers={"Retry-After": "17"})]
    with pytest.raises(TemporaryError) as caught:
        azure.deployer().create(request_for())
    assert caught.value.retry_after_seconds == 17


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (409, "ContainerGroupQuotaReached", "ask for more in the portal"),
        (400, "ResourceRequestsExceedLimit", "Ask for less in 'release: serve'"),
    ],
)
def test_what_only_a_person_can_help_is_told_with_the_next_step(
    azure: ContainerBench, status: int, code: str, advice: str
) -> None:
    azure.arm.faults = [Fault(status, "PUT", code=code)]
    deployer = azure.deployer()
    with pytest.raises(PermanentError, match=advice):
        deployer.create(request_for())
    assert advice in deployer.status(request_for().name).reason
    deployer.delete(request_for().name)
    deployer.create(request_for())
    assert deployer.status(request_for().name).state != "failed"


@pytest.mark.parametrize(("status", "code"), [(400, "InaccessibleImage"), (409, "ServiceUnavailable")])
def test_what_may_pass_by_itself_is_tried_again_later(azure: ContainerBench, status: int, code: str) -> None:
    azure.arm.faults = [Fault(status, "PUT", code=code)]
    with pytest.raises(TemporaryError) as caught:
        azure.deployer().create(request_for())
    assert (caught.value.retry_after_seconds or 0) >= 60
    azure.deployer().create(request_for())


def test_a_full_quota_of_groups_is_a_sentence(azure: ContainerBench) -> None:
    azure.containers.quota = 1
    azure.deployer().create(request_for(1))
    with pytest.raises(PermanentError, match="Limit: '1'"):
        azure.deployer().create(request_for(2))


def test_an_image_that_cannot_be_pulled_fails_the_deployment(azure: ContainerBench) -> None:
    azure.containers.unpullable = {IMAGE}
    azure.deployer().create(request_for())
    status = azure.deployer().status(request_for().name)
    assert status.state == "failed"
    assert "manifest unknown" in status.reason
    assert "AcrPull" in status.reason


def test_a_group_that_azure_could_not_make_fails_with_its_words(azure: ContainerBench) -> None:
    azure.deployer().create(request_for())
    azure.containers.fail(request_for().name, "FailedMount", "mount error(2)")
    status = azure.deployer().status(request_for().name)
    assert status.state == "failed"
    assert "mount error(2)" in status.reason


def test_an_app_that_ends_again_and_again_fails_with_its_log(tmp_path: Path) -> None:
    with container_bench(tmp_path, stand_in_command(APP, "--die")) as azure:
        azure.deployer().create(request_for())
        read = lambda: azure.deployer().status(request_for().name)
        status = until(read, lambda found: found.state == "failed")
    assert "exit code 3" in status.reason
    assert "ValueError: the model is broken" in status.log_tail


def test_an_app_that_runs_but_is_not_ready_is_starting(tmp_path: Path) -> None:
    with container_bench(tmp_path, stand_in_command(APP, "--unready")) as azure:
        azure.deployer().create(request_for())
        read = lambda: azure.deployer().status(request_for().name)
        assert until(read, lambda found: "still loading" in found.reason).state == "starting"


def test_an_app_that_says_for_too_long_that_it_is_not_ready_has_failed(tmp_path: Path) -> None:
    with container_bench(tmp_path, stand_in_command(APP, "--unready")) as azure:
        azure.clock.at = datetime.now(UTC)
        azure.deployer().create(request_for())
        read = lambda: azure.deployer().status(request_for().name)
        until(read, lambda found: "still loading" in found.reason)
        azure.clock.move(minutes=31)
        assert read().state == "failed"
        assert "not ready after 30 minutes" in read().reason


def test_a_live_app_that_cannot_be_reached_for_a_moment_has_not_failed(azure: ContainerBench) -> None:
    azure.clock.at = datetime.now(UTC)
    azure.deployer().create(request_for())
    read = lambda: azure.deployer().status(request_for().name)
    until(read, lambda found: found.state == "ready")
    azure.clock.move(days=9)
    azure.containers.unreachable = True
    assert read().state == "starting"


def test_a_live_app_that_ended_once_is_started_again_and_has_not_failed(azure: ContainerBench) -> None:
    azure.containers.pause = 3600  # it stays down for the time of this test
    azure.deployer().create(request_for())
    read = lambda: azure.deployer().status(request_for().name)
    until(read, lambda found: found.state == "ready")
    azure.clock.move(days=9)
    azure.containers.groups[request_for().name].restarts = 1
    azure.containers.kill(request_for().name)
    until(lambda: azure.containers.groups[request_for().name].ended, bool)
    assert read().state == "starting"


def test_a_group_that_azure_does_not_make_has_failed_after_a_while(azure: ContainerBench) -> None:
    azure.containers.held = True
    azure.deployer().create(request_for())
    assert azure.deployer().status(request_for().name).state == "starting"
    azure.clock.move(minutes=31)
    assert azure.deployer().status(request_for().name).state == "failed"


def test_an_app_that_was_killed_is_ready_again(azure: ContainerBench) -> None:
    deployer = azure.deployer()
    deployer.create(request_for())
    ready = lambda: deployer.status(request_for().name)
    until(ready, lambda found: found.state == "ready")
    azure.containers.kill(request_for().name)
    until(lambda: azure.containers.groups[request_for().name].restarts, bool)
    assert until(ready, lambda found: found.state == "ready").address == deployer.address(request_for().name)


def test_the_app_is_asked_where_azure_does_not_say_how_it_stands(azure: ContainerBench) -> None:
    azure.containers.silent = True
    azure.deployer().create(request_for())
    until(lambda: azure.deployer().status(request_for().name), lambda found: found.state == "ready")


def test_an_address_outlives_a_resource_manager_that_does_not_answer_but_not_for_long(azure: ContainerBench) -> None:
    deployer = azure.deployer(client={"retry_total": 0})
    deployer.create(request_for())
    before = deployer.address(request_for().name)
    azure.arm.faults = [Fault(503, times=10)]
    azure.clock.move(seconds=60)
    assert deployer.address(request_for().name) == before
    azure.clock.move(minutes=2)
    with pytest.raises(TemporaryError):
        deployer.address(request_for().name)


def test_a_group_that_vanished_is_absent_within_seconds(azure: ContainerBench) -> None:
    deployer = azure.deployer()
    deployer.create(request_for())
    assert deployer.address(request_for().name) is not None
    azure.containers.lose(request_for().name)
    azure.clock.move(seconds=6)
    assert deployer.address(request_for().name) is None
    assert deployer.status(request_for().name).state == "absent"


@pytest.mark.slow
@pytest.mark.parametrize("groups", [50, pytest.param(200, marks=pytest.mark.full)])
def test_calls_complete_while_a_third_of_them_is_refused(azure: ContainerBench, groups: int) -> None:
    """RELIABILITY, test 6: nothing is lost or doubled, Retry-After is kept, at most three times the calls."""
    chance = random.Random(6)
    kept: list[tuple[float, str]] = []
    early: list[str] = []

    def trouble(request: Request) -> Fault | None:
        now = time.monotonic()
        early.extend(path for until_, path in kept if path == request.path and now < until_)
        if chance.random() > 0.3:
            return None
        status = chance.choice([429, 500, 503])
        if status != 429:
            return Fault(status, headers={"retry-after-ms": "1"})
        kept.append((now + 0.02, request.path))
        return Fault(429, headers={"retry-after-ms": "20"})

    azure.arm.trouble = trouble
    azure.containers.held, azure.containers.quota = True, 1000
    deployer = azure.deployer(client={"retry_backoff_factor": 0.001})
    wanted = 0

    def persist(act: Callable[[], Any]) -> Any:
        """Deliver again, as the queue does."""
        nonlocal wanted
        wanted += 1
        for _ in range(20):
            try:
                return act()
            except TemporaryError as error:
                time.sleep(error.retry_after_seconds or 0)
        raise AssertionError("never completed")

    requests = [request_for(number) for number in range(1, groups + 1)]
    for request in requests:
        persist(lambda request=request: deployer.create(request))
        for _ in range(4):
            assert persist(lambda request=request: deployer.status(request.name)).state == "starting"
    assert len(azure.containers.groups) == groups
    assert azure.containers.restarted_in_place == []
    # A creation looks before it puts, so it is two calls.
    assert len(azure.arm.calls) <= 3 * (wanted + groups)
    assert early == []
