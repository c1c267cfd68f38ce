"""Failures that the random tests met, each alone and by name."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from benches import quick_bench
from builders import Bench, push

from mlops_core.domain.errors import PermanentError, TemporaryError
from mlops_core.domain.ids import DeploymentName, EffectKey, JobName, ModelName, RunId
from mlops_core.domain.model import ReleaseLock
from mlops_core.domain.requests import Decision
from mlops_core.domain.run import Run
from mlops_core.ports import DeploymentStatus, JobStatus

MODEL = ModelName("diabetes")
CANCEL = Decision(wish="cancel", by="ada", reason="stop")


@pytest.fixture
def deploying(tmp_path: Path) -> tuple[Bench, RunId]:
    """A run whose gates passed, with its next message not delivered yet."""
    bench = quick_bench(tmp_path)
    run_id = bench.push()
    bench.drain()
    bench.end_job(run_id, "build")
    bench.registry.register("diabetes", f"{run_id}-train", rmse=50.0)
    bench.jobs.end(JobName(f"{run_id}-train"), "succeeded")
    bench.app.intake.job_told(JobName(f"{run_id}-train"), "succeeded")
    for key in ("find-model", "judge"):
        bench.app.controller.perform(run_id, EffectKey(key))
    assert bench.state(run_id) == "deploying"
    return bench, run_id


def end(bench: Bench) -> tuple[object, list[DeploymentName]]:
    bench.drain()
    bench.settle()
    return bench.app.world.models.load(MODEL).value.lock, [status.name for status in bench.deployer.list()]


def test_a_lock_taken_by_a_process_that_died_is_returned_when_its_run_is_cancelled(
    deploying: tuple[Bench, RunId],
) -> None:
    bench, run_id = deploying
    stored = bench.app.world.models.load(MODEL)
    lock = ReleaseLock(run_id=run_id, version="1", ordinal=bench.run(run_id).trigger.ordinal)  # type: ignore[arg-type] - a version
    bench.app.world.models.commit(stored.value.with_lock(lock)[0], read_version=stored.version)
    bench.app.controller.decide(run_id, CANCEL)

    assert end(bench) == (None, [])


def test_a_job_submitted_by_a_process_that_died_is_stopped_when_its_run_is_cancelled(tmp_path: Path) -> None:
    bench = quick_bench(tmp_path)
    run_id = bench.push()
    bench.app.controller.perform(run_id, EffectKey("policy"))
    bench.app.controller._performers["submit_job"](bench.run(run_id), bench.run(run_id).pending[0].effect)
    bench.app.controller.decide(run_id, CANCEL)
    bench.drain()

    assert [status.outcome for status in bench.jobs.statuses.values()] == ["cancelled"]


def test_a_run_stopped_between_its_shift_and_the_telling_of_it_is_live(deploying: tuple[Bench, RunId]) -> None:
    bench, run_id = deploying
    for key in ("lock", "deploy:1"):
        bench.app.controller.perform(run_id, EffectKey(key))
    bench.app.intake.look_at_deployment(bench.run(run_id))
    (shift,) = [each.effect for each in bench.run(run_id).pending if each.effect.kind == "shift_traffic"]
    bench.app.controller._performers["shift_traffic"](bench.run(run_id), shift)
    bench.app.controller.decide(run_id, CANCEL)

    assert end(bench) == (None, ["diabetes-v1"])
    assert bench.state(run_id) == "live"


def test_a_deployment_is_deleted_although_its_run_has_not_returned_the_lock_yet(
    deploying: tuple[Bench, RunId],
) -> None:
    bench, run_id = deploying
    for key in ("lock", "deploy:1"):
        bench.app.controller.perform(run_id, EffectKey(key))
    bench.app.controller.decide(run_id, CANCEL)
    for key in ("undeploy:1", "unlock"):
        bench.app.controller.perform(run_id, EffectKey(key))

    assert bench.deployer.list() == []


def test_a_deployment_that_vanished_before_it_was_ready_is_asked_for_again(deploying: tuple[Bench, RunId]) -> None:
    bench, run_id = deploying
    for key in ("lock", "deploy:1"):
        bench.app.controller.perform(run_id, EffectKey(key))
    bench.deployer.states.clear()
    bench.settle(rounds=4)

    assert bench.state(run_id) == "live"


def test_another_model_that_a_pipeline_registers_is_not_taken_for_its_runs_own(tmp_path: Path) -> None:
    bench = quick_bench(tmp_path)
    run_id = bench.push()
    bench.drain()
    bench.end_job(run_id, "build")
    for _ in range(7):
        scaler = bench.registry.register("scaler", f"{run_id}-train")
    bench.app.intake.model_registered(scaler.model, scaler.version)
    bench.registry.register("diabetes", f"{run_id}-train", rmse=50.0)
    bench.end_job(run_id, "train")
    bench.settle()

    assert (bench.state(run_id), bench.run(run_id).version) == ("live", "1")


def test_a_version_that_is_registered_after_its_pipeline_had_left_none_is_released(tmp_path: Path) -> None:
    """Its announcement was late, or somebody registered it from the job by hand: the order of the two must not matter."""
    bench = quick_bench(tmp_path)
    run_id = bench.push()
    bench.drain()
    bench.end_job(run_id, "build")
    bench.end_job(run_id, "train")
    assert bench.state(run_id) == "failed"

    late = bench.registry.register("diabetes", f"{run_id}-train", rmse=50.0)
    bench.app.intake.model_registered(late.model, late.version)
    bench.drain()
    bench.settle()

    assert (bench.state(run_id), bench.run(run_id).version) == ("live", late.version)


def test_a_commit_that_was_built_on_a_branch_is_delivered_when_it_comes_to_main(tmp_path: Path) -> None:
    """A merge by fast-forward pushes the same commit to another branch."""
    bench = quick_bench(tmp_path)
    built = bench.push(1, branch="feature")
    bench.drain()
    bench.end_job(built, "build")
    merged = bench.push(1)
    bench.deliver(merged)

    assert (bench.state(built), bench.state(merged)) == ("built", "live")
    assert (bench.push(1, branch="feature"), bench.push(1)) == (built, merged)


def test_a_branch_made_of_a_commit_that_is_delivered_launches_nothing(tmp_path: Path) -> None:
    bench = quick_bench(tmp_path)
    bench.deliver(bench.push(1))
    before = dict(bench.jobs.launches)
    for branch in ("feature", "main-2"):
        (made,) = bench.app.intake.push(push(1, branch=branch))
        bench.drain()
        assert bench.state(made) == "skipped"

    assert bench.jobs.launches == before


def test_a_job_that_only_begins_like_a_runs_jobs_ends_no_run(tmp_path: Path) -> None:
    """Whoever may submit to the workspace chooses names freely."""
    bench = quick_bench(tmp_path)
    run_id = bench.push()
    bench.drain()
    bench.end_job(run_id, "build")
    for name in (f"{run_id}-copy", f"{run_id}-", f"{run_id}-train-train"):
        assert bench.app.intake.job_told(JobName(name), "failed") is None

    assert bench.state(run_id) == "training"


def test_a_runner_whose_clock_is_ahead_does_not_put_off_what_is_pending(tmp_path: Path) -> None:
    bench = quick_bench(tmp_path)
    run_id = bench.push()
    bench.drain()
    name = JobName(f"{run_id}-build")
    ahead = bench.clock.now() + timedelta(days=3_650)
    bench.jobs.statuses[name] = JobStatus(name, "succeeded", ended_at=ahead)
    bench.app.intake.job_told(name, "succeeded")
    bench.queue.messages.clear()  # the hint is lost
    bench.settle(rounds=1)

    assert f"{run_id}-train" in bench.jobs.launches


def test_a_cancelled_runs_deployment_is_not_deleted_under_a_shift_that_is_under_way(
    deploying: tuple[Bench, RunId],
) -> None:
    """The shift has seen its deployment ready, then the run is cancelled and tidied up, then the shift goes on."""
    bench, run_id = deploying
    for key in ("lock", "deploy:1"):
        bench.app.controller.perform(run_id, EffectKey(key))
    bench.app.intake.look_at_deployment(bench.run(run_id))
    (shift,) = [each.effect for each in bench.run(run_id).pending if each.effect.kind == "shift_traffic"]
    before = bench.run(run_id)
    status = bench.deployer.status

    def cancelled_meanwhile(name: DeploymentName) -> DeploymentStatus:
        seen = status(name)
        bench.deployer.status = status  # type: ignore[method-assign] - as it was
        bench.app.controller.decide(run_id, CANCEL)
        bench.app.controller.perform(run_id, EffectKey("undeploy:1"))
        return seen

    bench.deployer.status = cancelled_meanwhile  # type: ignore[method-assign] - this bench only
    with pytest.raises(PermanentError, match="does not hold the release lock"):
        bench.app.controller._performers["shift_traffic"](before, shift)

    champion = bench.app.world.models.load(MODEL).value.champion
    assert (champion, bench.deployer.list()) == (None, [])
    assert end(bench) == (None, [])
    assert bench.state(run_id) == "cancelled"


def test_a_slow_shift_leaves_no_deployment_behind_that_was_deleted_meanwhile(deploying: tuple[Bench, RunId]) -> None:
    """It finds the deployment absent and asks for it again; by then its run has ended, and nobody would delete it."""
    bench, run_id = deploying
    for key in ("lock", "deploy:1"):
        bench.app.controller.perform(run_id, EffectKey(key))
    bench.app.intake.look_at_deployment(bench.run(run_id))
    (shift,) = [each.effect for each in bench.run(run_id).pending if each.effect.kind == "shift_traffic"]
    before = bench.run(run_id)
    bench.app.controller.decide(run_id, CANCEL)
    assert end(bench) == (None, [])

    with pytest.raises(TemporaryError):
        bench.app.controller._performers["shift_traffic"](before, shift)
    assert end(bench) == (None, [])


def test_slow_reconciling_revives_no_deployment_of_a_version_that_was_replaced_meanwhile(tmp_path: Path) -> None:
    bench = quick_bench(tmp_path)
    first = bench.push(1)
    bench.deliver(first)
    status = bench.deployer.status
    second = bench.push(2)
    bench.deployer.states.clear()

    def replaced_meanwhile(name: DeploymentName) -> DeploymentStatus:
        seen = status(name)
        bench.deployer.status = status  # type: ignore[method-assign] - as it was
        bench.deliver(second, rmse=45.0)
        return seen

    bench.deployer.status = replaced_meanwhile  # type: ignore[method-assign] - this bench only
    bench.app.reconciler.run(first)

    assert (bench.state(first), bench.state(second)) == ("retired", "live")
    assert end(bench) == (None, ["diabetes-v2"])


def test_messages_of_an_effect_that_takes_long_do_not_perform_it_beside_itself(tmp_path: Path) -> None:
    bench = quick_bench(tmp_path)
    run_id = bench.push()
    perform = bench.app.controller._performers["decide_policy"]
    depth: list[int] = []

    def slow(run: Run, effect: Any) -> Any:
        depth.append(len(depth))
        bench.app.controller.perform(run_id, EffectKey("policy"))  # a message that comes meanwhile
        return perform(run, effect)

    bench.app.controller._performers["decide_policy"] = slow  # type: ignore[index] - a dict, for this
    bench.app.controller.perform(run_id, EffectKey("policy"))

    assert (depth, bench.state(run_id)) == ([0], "building")


def test_a_message_that_comes_while_its_effect_is_tried_in_vain_has_it_tried_again(tmp_path: Path) -> None:
    """As the message of a run that returned the lock, while this one was just told that the lock is taken."""
    bench = quick_bench(tmp_path)
    run_id = bench.push()
    perform = bench.app.controller._performers["decide_policy"]
    tries: list[int] = []

    def in_vain_at_first(run: Run, effect: Any) -> Any:
        tries.append(1)
        if len(tries) > 1:
            return perform(run, effect)
        bench.app.controller.perform(run_id, EffectKey("policy"))
        return []

    bench.app.controller._performers["decide_policy"] = in_vain_at_first  # type: ignore[index] - a dict, for this
    bench.app.controller.perform(run_id, EffectKey("policy"))

    assert (len(tries), bench.state(run_id)) == (2, "building")


def test_a_slow_controller_takes_no_lock_for_a_run_that_has_ended_meanwhile(deploying: tuple[Bench, RunId]) -> None:
    bench, run_id = deploying
    before = bench.run(run_id)
    (take,) = [each.effect for each in before.pending if each.effect.kind == "take_release_lock"]
    bench.app.controller.perform(run_id, EffectKey("lock"))
    bench.app.controller.decide(run_id, CANCEL)
    assert end(bench) == (None, [])

    assert bench.app.controller._performers["take_release_lock"](before, take) == []
    assert end(bench) == (None, [])


def test_an_effect_that_is_told_to_come_later_is_not_given_up_before_a_quarter_of_an_hour(
    deploying: tuple[Bench, RunId],
) -> None:
    """As a container group whose image a role that was just assigned does not open yet."""
    bench, run_id = deploying
    bench.app.controller.perform(run_id, EffectKey("lock"))
    asked: list[float] = []

    def not_yet(run: Run, effect: Any) -> Any:
        asked.append(bench.clock.now().timestamp())
        raise TemporaryError("its image cannot be pulled yet", retry_after_seconds=60)

    deploy = bench.app.controller._performers["deploy_version"]
    bench.app.controller._performers["deploy_version"] = not_yet  # type: ignore[index] - a dict, for this
    bench.settle(rounds=8)
    assert (bench.state(run_id), bench.app.world.dead_letters.list().items) == ("deploying", [])

    bench.app.controller._performers["deploy_version"] = deploy  # type: ignore[index] - as above
    bench.settle()
    assert bench.state(run_id) == "live"


def test_an_effect_that_is_told_to_come_later_for_too_long_is_given_up(deploying: tuple[Bench, RunId]) -> None:
    bench, run_id = deploying
    bench.app.controller.perform(run_id, EffectKey("lock"))

    def never(run: Run, effect: Any) -> Any:
        raise TemporaryError("its image cannot be pulled yet", retry_after_seconds=60)

    bench.app.controller._performers["deploy_version"] = never  # type: ignore[index] - a dict, for this
    bench.settle(rounds=20)
    assert bench.state(run_id) == "failed"
    (letter,) = bench.app.world.dead_letters.list().items
    assert "its image cannot be pulled yet" in letter.reason
