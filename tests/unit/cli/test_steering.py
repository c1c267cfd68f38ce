"""Commands that steer, over HTTP and the registered functions: what they start, refuse and record."""

from __future__ import annotations

import json

import pytest
from builders import APPROVED, Bench, commit_id
from commands import Headrace

from mlops_core.adapters.local import receive_hook
from mlops_core.domain.ids import JobName, ModelName, RunId
from mlops_core.ports import DeadLetter


def champion(bench: Bench) -> str | None:
    release = bench.app.world.models.load(ModelName("diabetes")).value.champion
    return release.version if release else None


def run_in(text: str) -> RunId:
    """Read the run's id from `run ID started` and `run ID: back to ...`."""
    return RunId(text.split()[1].rstrip(":"))


def deliver(bench: Bench, *numbers: int) -> None:
    for number in numbers:
        bench.deliver(bench.push(number), rmse=50.0 - number)


def roll_back(bench: Bench, headrace: Headrace, *words: str) -> str | None:
    done = headrace("rollback", "diabetes", "--no-follow", *words)
    assert done.exit_code == 0, done.stderr
    bench.drain()
    bench.settle()
    return champion(bench)


@pytest.fixture
def approved(bench: Bench, headrace: Headrace) -> RunId:
    """A run that waits for a person."""
    bench.source.default_files["mlops.yaml"] = APPROVED
    run_id = bench.push()
    bench.deliver(run_id)
    assert bench.state(run_id) == "awaiting_approval"
    return run_id


def test_each_rollback_goes_one_version_further_back_in_time(bench: Bench, headrace: Headrace) -> None:
    deliver(bench, 1, 2, 3)

    assert roll_back(bench, headrace) == "2"
    assert roll_back(bench, headrace) == "1"
    refused = headrace("rollback", "diabetes")

    assert refused.exit_code == 1
    assert "There is no earlier version of model 'diabetes' to go back to: version 1 is the first in line." in (
        refused.stderr
    )
    assert champion(bench) == "1"


def test_a_version_that_was_rolled_back_from_is_gone_to_by_its_name_only(bench: Bench, headrace: Headrace) -> None:
    deliver(bench, 1, 2)
    assert roll_back(bench, headrace) == "1"

    assert roll_back(bench, headrace, "--to", "v2") == "2"
    assert roll_back(bench, headrace) == "1"


def test_a_release_after_a_rollback_goes_back_to_what_it_replaced(bench: Bench, headrace: Headrace) -> None:
    deliver(bench, 1, 2)
    roll_back(bench, headrace)
    bench.clock.advance(3600)
    bench.source.branches["main"] = commit_id(2)
    bench.deliver(run_in(headrace("retrain", "diabetes").stdout), rmse=40.0)
    assert champion(bench) == "3"

    assert roll_back(bench, headrace) == "1"


@pytest.mark.parametrize(
    ("version", "sentence"),
    [
        ("2", "Version 2 of model 'diabetes' is in service already."),
        ("9", "Version 9 of model 'diabetes' was never in service, and a rollback passes no gates."),
        ("3", "Version 3 of model 'diabetes' was never in service, and a rollback passes no gates."),
    ],
)
def test_a_rollback_to_what_never_served_is_refused(
    bench: Bench, headrace: Headrace, version: str, sentence: str
) -> None:
    deliver(bench, 1, 2)
    bench.deliver(bench.push(3), rmse=99.0)

    done = headrace("rollback", "diabetes", "--to", version)

    assert (done.exit_code, sentence in done.stderr) == (1, True), done.stderr


def test_a_retrain_runs_every_step_anew_unless_it_is_told_to_reuse(bench: Bench, headrace: Headrace) -> None:
    bench.source.branches["main"] = commit_id(1)

    anew = run_in(headrace("retrain", "diabetes", "--no-rebuild", "-m", "new data").stdout)
    reused = run_in(headrace("retrain", "diabetes", "--no-rebuild", "--reuse").stdout)
    bench.drain()

    assert bench.jobs.requests[JobName(f"{anew}-train")].reuse is False
    assert bench.jobs.requests[JobName(f"{reused}-train")].reuse is True
    assert bench.run(anew).trigger.reason == "new data"


def test_a_push_reuses_steps_that_did_not_change(bench: Bench) -> None:
    run_id = bench.push()
    bench.drain()

    assert bench.jobs.requests[JobName(f"{run_id}-build")].reuse is True


def test_a_failed_training_is_resumed_from_its_step(bench: Bench, headrace: Headrace) -> None:
    failed = bench.push()
    bench.drain()
    bench.end_job(failed, "build")
    bench.end_job(failed, "train", "failed", "step 'fit' ended with 1")

    resumed = run_in(headrace("retrain", "--resume", failed, "--reason", "mended the data").stdout)
    bench.drain()

    request = bench.jobs.requests[JobName(f"{resumed}-train")]
    assert (request.resume_from, request.commit, request.reuse) == (f"{failed}-train", commit_id(1), True)


def test_a_run_that_was_never_trained_cannot_be_resumed(bench: Bench, headrace: Headrace) -> None:
    run_id = bench.push()
    bench.drain()
    bench.end_job(run_id, "build", "failed", "the tests failed")

    done = headrace("retrain", "--resume", run_id)

    assert done.exit_code == 1
    assert "it was never trained. Train from the start: headrace retrain diabetes." in done.stderr


def test_an_approval_lets_the_release_go_on_and_is_recorded(bench: Bench, headrace: Headrace, approved: RunId) -> None:
    assert headrace("approve", approved, "-m", "looks right").exit_code == 0
    bench.drain()
    bench.settle()

    assert bench.state(approved) == "live"
    assert ": looks right" in headrace("show", approved).stdout


def test_a_rejection_ends_the_release_with_its_reason(bench: Bench, headrace: Headrace, approved: RunId) -> None:
    done = headrace("reject", approved, "--reason", "not on a Friday")

    assert "is now rejected: rejected by" in done.stdout
    assert "not on a Friday" in bench.run(approved).reason
    assert champion(bench) is None


def test_a_waiver_needs_a_reason_and_releases(bench: Bench, headrace: Headrace) -> None:
    run_id = bench.push()
    bench.deliver(run_id, rmse=99.0)

    refused = headrace("approve", run_id, "--waive")
    taken = headrace("approve", run_id, "--waive", "-m", "the gate is wrong")
    bench.drain()
    bench.settle()

    assert "needs a reason" in refused.stderr
    assert (refused.exit_code, taken.exit_code, champion(bench)) == (1, 0, "1")


def test_a_cancelled_run_ends_with_its_jobs(bench: Bench, headrace: Headrace) -> None:
    run_id = bench.push()
    bench.drain()

    assert headrace("cancel", run_id, "-m", "wrong branch").exit_code == 0
    bench.drain()

    assert bench.state(run_id) == "cancelled"
    status = bench.jobs.status(JobName(f"{run_id}-build"))
    assert status is not None
    assert status.outcome == "cancelled"


def states(bench: Bench, state: str) -> RunId:
    run_id = bench.push()
    if state == "deploying":
        bench.deployer.ready_at_once = False
        bench.deliver(run_id)
    elif state == "failed":
        bench.drain()
        bench.end_job(run_id, "build", "failed", "the tests failed")
    elif state != "building":
        bench.deliver(run_id, rmse=99.0 if state == "rejected" else 50.0)
    else:
        bench.drain()
    assert bench.state(run_id) == state
    return run_id


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        ("building", "Wait for its gates: headrace logs {run} --follow; or stop it: headrace cancel {run}."),
        (
            "deploying",
            "Its release is under way and needs no approval any more. Watch it: headrace logs {run} --follow",
        ),
        ("live", "Its model is in service already; to take it back: headrace rollback diabetes."),
        ("rejected", 'To release it in spite of its gates: headrace approve {run} --waive --reason "..."'),
        ("failed", "See why: headrace show {run}. Try again: headrace retrain diabetes."),
    ],
)
def test_who_approves_at_the_wrong_time_is_told_what_to_do(
    bench: Bench, headrace: Headrace, state: str, advice: str
) -> None:
    run_id = states(bench, state)

    done = headrace("approve", run_id)

    assert done.exit_code == 1
    assert f"Run '{run_id}' cannot be approved: it is '{state}'" in done.stderr
    assert advice.format(run=run_id) in done.stderr


def test_dead_letters_are_listed_shown_and_replayed(bench: Bench, headrace: Headrace) -> None:
    assert headrace("dead-letters", "list").stdout == "No dead letters.\n"
    letter = DeadLetter("l1", "event", "[odd] letter", "nobody knows it", "{}", bench.clock.now())
    bench.app.world.dead_letters.put(letter)

    listed = headrace("dead-letters", "list")

    assert "[odd] letter" in listed.stdout
    assert json.loads(headrace("dead-letters", "list", "--json").stdout)["dead_letters"][0]["id"] == "l1"
    assert json.loads(headrace("dead-letters", "show", "l1").stdout)["reason"] == "nobody knows it"
    assert headrace("dead-letters", "replay", "l1").exit_code == 1


def test_an_effect_that_was_given_up_is_replayed(bench: Bench, headrace: Headrace) -> None:
    run_id = bench.push()
    bench.app.controller.give_up(run_id, bench.run(run_id).pending[0].effect.key, "the host is away")
    assert bench.state(run_id) == "failed"
    [letter] = json.loads(headrace("dead-letters", "list", "--json").stdout)["dead_letters"]

    assert headrace("dead-letters", "replay", letter["id"]).stdout == f"{letter['id']} was taken again\n"
    bench.deliver(run_id)

    assert bench.state(run_id) == "live"


@pytest.mark.usefixtures("headrace")
def test_a_commit_that_was_delivered_before_says_so_and_how_to_run_it_again(
    bench: Bench, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = bench.push(1)
    bench.deliver(run_id)
    pushed_again = bench.clock.now().isoformat()

    receive_hook.watch(address, run_id, pushed_at=pushed_again)

    told = capsys.readouterr().out
    assert f"commit {commit_id(1)[:12]} was delivered before, at 2026-01-05 12:00 UTC, so nothing is started." in told
    assert "That run is 'live':\n  version 1 has all traffic\n" in told
    assert f"run it again: headrace retrain diabetes   (its story: headrace show {run_id})" in told
    assert "building" not in told
