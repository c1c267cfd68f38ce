"""One delivery through the whole core: SQLite below, fakes outside."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from builders import APPROVED, MANIFEST, PROJECT, SMOKED, Bench, commit_id, make_bench, push

from mlops_core.domain.errors import NotFoundError, RefusedError
from mlops_core.domain.ids import DeploymentName, ModelName, ModelVersion, ProjectName
from mlops_core.domain.requests import Decision
from mlops_core.domain.run import ENDS, State
from mlops_core.services.announce import _STATUS
from mlops_core.services.intake import Retrain
from mlops_core.services.smoke import SmokeResult


def champion(bench: Bench) -> str | None:
    record = bench.app.world.models.load(ModelName("diabetes")).value
    return record.champion.version if record.champion else None


def test_a_push_ends_in_a_live_model(bench: Bench) -> None:
    run_id = bench.push()
    bench.deliver(run_id)

    assert bench.state(run_id) == "live"
    assert champion(bench) == "1"
    assert [str(entry.state) for entry in bench.run(run_id).entries] == [
        "received", "building", "training", "evaluating", "deploying", "rolling_out", "live",
    ]  # fmt: skip


def test_nothing_is_left_pending_when_a_run_is_live(bench: Bench) -> None:
    run_id = bench.push()
    bench.deliver(run_id)

    assert bench.run(run_id).pending == ()
    assert bench.app.world.models.load(ModelName("diabetes")).value.lock is None


def test_the_same_push_delivered_again_starts_nothing(bench: Bench) -> None:
    first = bench.push()
    bench.deliver(first)
    again = bench.push()
    bench.drain()

    assert again == first
    assert set(bench.jobs.launches.values()) == {1}


def test_a_worse_model_is_rejected_and_the_champion_stays(bench: Bench) -> None:
    first, second = bench.push(1), None
    bench.deliver(first, rmse=50)
    second = bench.push(2)
    bench.deliver(second, rmse=55)

    assert bench.state(second) == "rejected"
    assert "the champion, version 1, has 50" in bench.run(second).reason
    assert (bench.state(first), champion(bench)) == ("live", "1")


def test_a_better_model_retires_the_champion_and_its_deployment(bench: Bench) -> None:
    first = bench.push(1)
    bench.deliver(first, rmse=50)
    second = bench.push(2)
    bench.deliver(second, rmse=45)

    assert (bench.state(first), bench.state(second)) == ("retired", "live")
    assert [status.name for status in bench.deployer.list()] == [DeploymentName("diabetes-v2")]


def test_a_rollback_brings_the_version_before_back(bench: Bench) -> None:
    first = bench.push(1)
    bench.deliver(first, rmse=50)
    second = bench.push(2)
    bench.deliver(second, rmse=45)
    back = bench.app.intake.rollback(ModelName("diabetes"), request_id="r", by="ada")
    bench.drain()
    bench.settle()

    assert (bench.state(back), bench.state(second)) == ("live", "retired")
    assert champion(bench) == "1"
    assert [status.name for status in bench.deployer.list()] == [DeploymentName("diabetes-v1")]


def test_a_rollback_does_not_wait_for_a_release_that_is_under_way(bench: Bench) -> None:
    """Whoever rolls back has users with wrong predictions; a new container may take minutes."""
    bench.deliver(bench.push(1), rmse=50)
    bench.deliver(bench.push(2), rmse=45)
    third = bench.push(3)
    bench.deployer.ready_at_once = False
    bench.deliver(third, rmse=40)
    assert bench.state(third) == "deploying"
    bench.deployer.ready_at_once = True

    back = bench.app.intake.rollback(ModelName("diabetes"), request_id="r", by="ada")
    bench.drain()
    bench.settle()

    assert (bench.state(back), champion(bench)) == ("live", "1")
    assert bench.state(third) == "superseded"
    assert bench.run(third).reason == f"a rollback by ada to version 1 went before: run {back}"
    assert [status.name for status in bench.deployer.list()] == [DeploymentName("diabetes-v1")]


def test_a_rollback_waits_for_a_release_that_was_asked_for_after_it(bench: Bench) -> None:
    bench.deliver(bench.push(1), rmse=50)
    bench.deliver(bench.push(2), rmse=45)
    third = bench.push(3, at=bench.clock.now() + timedelta(hours=1))
    bench.deployer.ready_at_once = False
    bench.deliver(third, rmse=40)
    back = bench.app.intake.rollback(ModelName("diabetes"), request_id="r", by="ada")
    bench.drain()

    assert (bench.state(third), bench.state(back)) == ("deploying", "deploying")


def test_a_failed_build_ends_the_run_with_the_jobs_reason(bench: Bench) -> None:
    run_id = bench.push()
    bench.drain()
    bench.end_job(run_id, "build", "failed", "2 of 14 tests failed")

    assert (bench.state(run_id), bench.run(run_id).reason) == ("failed", "2 of 14 tests failed")


def test_a_pipeline_that_registers_nothing_fails_with_what_to_do(bench: Bench) -> None:
    run_id = bench.push()
    bench.drain()
    bench.end_job(run_id, "build")
    bench.end_job(run_id, "train")

    assert bench.state(run_id) == "failed"
    assert "registered no version of model 'diabetes'" in bench.run(run_id).reason


def test_a_run_that_needs_approval_waits_for_a_person(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, manifest=APPROVED)
    run_id = bench.push()
    bench.deliver(run_id)
    assert bench.state(run_id) == "awaiting_approval"

    bench.app.controller.decide(run_id, Decision(wish="approve", by="grace", reason="looks right"))
    bench.drain()
    bench.settle()

    assert bench.state(run_id) == "live"
    reasons = [entry.reason for entry in bench.run(run_id).entries]
    assert "approved by grace: looks right" in reasons


def test_an_approval_that_nobody_gives_expires(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, manifest=APPROVED)
    run_id = bench.push()
    bench.deliver(run_id)
    bench.clock.advance(8 * 86_400)
    bench.settle()

    assert bench.state(run_id) == "expired"


def test_failed_gates_are_waived_by_a_person_with_a_reason(bench: Bench) -> None:
    run_id = bench.push()
    bench.deliver(run_id, rmse=99)
    assert bench.state(run_id) == "rejected"

    bench.app.controller.decide(run_id, Decision(wish="waive", by="grace", reason="new data, new scale"))
    bench.drain()
    bench.settle()

    assert bench.state(run_id) == "live"


def test_a_run_can_be_cancelled_and_its_job_is_stopped(bench: Bench) -> None:
    run_id = bench.push()
    bench.drain()
    bench.app.controller.decide(run_id, Decision(wish="cancel", by="ada", reason="wrong branch"))
    bench.drain()

    assert bench.state(run_id) == "cancelled"
    assert [status.outcome for status in bench.jobs.statuses.values()] == ["cancelled"]


def test_approving_a_run_that_does_not_wait_is_refused(bench: Bench) -> None:
    run_id = bench.push()
    bench.drain()

    with pytest.raises(RefusedError, match="it is 'building', not 'awaiting_approval'"):
        bench.app.controller.decide(run_id, Decision(wish="approve", by="ada"))


def test_a_branch_that_does_not_deliver_is_built_only(bench: Bench) -> None:
    run_id = bench.push(branch="feature")
    bench.drain()
    bench.end_job(run_id, "build")

    assert bench.state(run_id) == "built"


def test_a_newer_push_supersedes_the_older_and_stops_its_job(bench: Bench) -> None:
    older = bench.push(1)
    bench.drain()
    newer = bench.push(2)
    bench.drain()

    assert (bench.state(older), bench.state(newer)) == ("superseded", "building")
    assert bench.jobs.statuses[bench.run(older).job_name("build")].outcome == "cancelled"


def test_an_older_push_that_arrives_late_does_not_overtake(bench: Bench) -> None:
    newer = bench.push(2)
    bench.deliver(newer)
    older = bench.push(1)
    bench.drain()

    assert bench.state(older) == "superseded"
    assert bench.state(newer) == "live"


def test_a_deployment_that_does_not_start_fails_the_run_and_frees_the_model(bench: Bench) -> None:
    bench.deployer.broken.add(DeploymentName("diabetes-v1"))
    run_id = bench.push()
    bench.deliver(run_id)

    assert bench.state(run_id) == "failed"
    assert "init() raised ValueError" in bench.run(run_id).reason
    assert bench.app.world.models.load(ModelName("diabetes")).value.lock is None
    assert bench.deployer.list() == []


def test_smoke_tests_stand_between_deployment_and_traffic(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, manifest=SMOKED)
    run_id = bench.push()
    bench.deliver(run_id)

    assert bench.state(run_id) == "live"
    assert any(key.startswith("smoke_tested") for key in bench.run(run_id).facts.slots)


class Refuses:
    """A smoke test whose model raises."""

    def run(self, *_: object) -> SmokeResult:
        return SmokeResult(passed=False, reason="smoke request 1 of 1: answered 500: see the log, error id 'e1'")


def test_what_a_deployment_printed_outlives_a_smoke_test_that_failed(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, manifest=SMOKED, smoke=Refuses())  # type: ignore[arg-type] - structural stand-in
    bench.deployer.logs[DeploymentName("diabetes-v1")] = "started\nERROR e1: ValueError: column q is not there\n"
    run_id = bench.push()
    bench.deliver(run_id)

    assert bench.state(run_id) == "failed"
    assert bench.run(run_id).reason.endswith("printed:\nstarted\nERROR e1: ValueError: column q is not there")
    assert bench.deployer.list() == []


def test_what_a_version_in_service_prints_can_be_read(bench: Bench) -> None:
    run_id = bench.push()
    bench.deliver(run_id)
    with pytest.raises(NotFoundError, match="only a version that is deployed has one"):
        bench.app.queries.serving_log(run_id)
    bench.deployer.logs[DeploymentName("diabetes-v1")] = "ERROR e2\n"

    assert bench.app.queries.serving_log(run_id) == b"ERROR e2\n"


def test_a_push_does_not_take_over_the_model_of_another_project(bench: Bench) -> None:
    bench.deliver(bench.push(1))
    other = replace(PROJECT, name=ProjectName("twin"), repository="twin")
    bench.app.world.projects.put(other)
    bench.source.files[(commit_id(2), "mlops.yaml")] = MANIFEST.replace(b"project: diabetes", b"project: twin")
    (run_id,) = bench.app.intake.push(push(2).model_copy(update={"repository": "twin"}))
    bench.drain()

    assert bench.state(run_id) == "failed"
    assert bench.run(run_id).reason.startswith("Project 'diabetes' releases the model 'diabetes' already")
    assert bench.app.world.projects.get(other.name).model is None


def test_a_pipeline_that_registers_another_name_is_told_which(bench: Bench) -> None:
    run_id = bench.push()
    bench.drain()
    bench.end_job(run_id, "build")
    bench.registry.register("diabetis", f"{run_id}-train", rmse=50.0)
    bench.end_job(run_id, "train")

    assert "registered no version of model 'diabetes', only of 'diabetis'. " in bench.run(run_id).reason


def test_a_wrong_manifest_refuses_the_run_and_names_line_and_key(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, manifest=b"project: diabetes\ntrain: {pipeline: p.yml, modell: m}\n")
    run_id = bench.push()
    bench.drain()

    assert bench.state(run_id) == "failed"
    assert "line 2, train.modell: unknown key 'modell'. Did you mean 'model'?" in bench.run(run_id).reason


def test_a_version_registered_outside_is_judged_and_released(bench: Bench) -> None:
    bench.deliver(bench.push(1), rmse=50)
    bench.source.branches["main"] = bench.run(bench.push(1)).trigger.commit or ""
    version = bench.registry.register("diabetes", rmse=40)
    run_id = bench.app.intake.model_registered(version.model, version.version)
    assert run_id is not None
    bench.drain()
    bench.settle()

    assert bench.state(run_id) == "live"
    assert champion(bench) == "2"


def test_a_live_deployment_that_vanished_is_made_again(bench: Bench) -> None:
    run_id = bench.push()
    bench.deliver(run_id)
    bench.deployer.states.clear()
    bench.settle()

    assert [status.state for status in bench.deployer.list()] == ["ready"]


def test_a_push_whose_webhook_was_lost_is_found_by_its_branch(bench: Bench) -> None:
    bench.source.branches["main"] = bench.run(bench.push(1)).trigger.commit or ""
    bench.app.reconciler.heads()
    lost = "f" * 40
    bench.source.branches["main"] = lost
    bench.app.reconciler.heads()

    assert bench.state(f"diabetes-{lost[:12]}") == "received"


def test_a_rollback_that_failed_can_be_asked_for_again(bench: Bench) -> None:
    """The newest run of the version is then one that never served it."""
    bench.deliver(bench.push(1))
    bench.deliver(bench.push(2), rmse=45)
    bench.deployer.broken.add(DeploymentName("diabetes-v1"))
    states = []
    for request in ("first", "second"):
        run_id = bench.app.intake.rollback(
            ModelName("diabetes"), request_id=request, by="ada", version=ModelVersion("1")
        )
        bench.drain()
        bench.settle()
        states.append(bench.state(run_id))
        bench.deployer.broken.clear()

    assert (states, champion(bench)) == (["failed", "live"], "1")


def test_a_branch_that_only_builds_does_not_change_which_model_is_the_projects(bench: Bench) -> None:
    bench.deliver(bench.push(1))
    renamed = MANIFEST.replace(b"model: diabetes", b"model: another")
    for number, branch, model in ((2, "feature", "diabetes"), (3, "main", "another")):
        bench.source.files[(commit_id(number), "mlops.yaml")] = renamed
        bench.push(number, branch=branch)
        bench.drain()
        assert bench.app.world.projects.get(PROJECT.name).model == model


@pytest.mark.parametrize("state", sorted(ENDS | {State.LIVE}), ids=str)
def test_no_commit_is_left_pending_when_its_run_has_come_to_an_end(state: State) -> None:
    assert _STATUS[state] in ("success", "failure")


def test_a_commit_that_was_delivered_stays_green_when_a_newer_one_takes_over(bench: Bench) -> None:
    bench.deliver(bench.push(1))
    bench.deliver(bench.push(2), rmse=45)

    assert [told[-1][0] for told in bench.source.statuses.values()] == ["success", "success"]


def test_a_resumed_run_releases_what_the_failed_one_registered_before_it_failed(bench: Bench) -> None:
    failed = bench.push()
    bench.drain()
    bench.end_job(failed, "build")
    bench.registry.register("diabetes", f"{failed}-train", rmse=50.0)
    bench.end_job(failed, "train", "failed")
    wish = Retrain(project=PROJECT.name, request_id="again", by="ada", resume_from=failed)
    resumed = bench.app.intake.retrain(wish)
    bench.drain()
    bench.end_job(resumed, "train")
    bench.settle()

    assert (bench.state(failed), bench.state(resumed), champion(bench)) == ("failed", "live", "1")
