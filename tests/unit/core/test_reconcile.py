"""Reconciling: one run in trouble stops no other, and what is asked for is only what should have been heard of."""

from __future__ import annotations

from datetime import timedelta

import pytest
from builders import Bench, commit_id, push

from mlops_core.controller import effect_message
from mlops_core.domain.errors import TemporaryError
from mlops_core.domain.ids import EffectKey, RunId


def two_branches(bench: Bench) -> tuple[RunId, RunId]:
    """Two runs under way, whose hints are lost."""
    first, second = bench.push(1, branch="a"), bench.push(2, branch="b")
    bench.drain()
    bench.queue.messages.clear()
    assert first < second, "the first is looked at first"
    return first, second


def end_unheard(bench: Bench, run_id: RunId) -> None:
    bench.jobs.end(bench.run(run_id).job_name("build"), "succeeded")


def damage(bench: Bench, run_id: RunId) -> None:
    bench.database.connection.execute("UPDATE runs SET body = '{}', version = version + 1 WHERE id = ?", (run_id,))


def test_a_run_that_cannot_be_read_does_not_keep_others_from_being_looked_after(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, other = two_branches(bench)
    end_unheard(bench, other)
    damage(bench, damaged)
    bench.settle(rounds=1)

    assert bench.state(other) == "built"
    assert any(record.subject == damaged for record in caplog.records if hasattr(record, "subject"))


@pytest.mark.parametrize("error", [TemporaryError("not now"), ValueError("a bug")], ids=["temporary", "a bug"])
def test_a_runner_that_fails_for_one_job_is_asked_for_the_others(bench: Bench, error: Exception) -> None:
    first, other = two_branches(bench)
    end_unheard(bench, other)
    status = bench.jobs.status

    def fails_for_one(name: object) -> object:
        if first in str(name):
            raise error
        return status(name)  # type: ignore[arg-type] - passed on

    bench.jobs.status = fails_for_one  # type: ignore[method-assign, assignment] - this bench only
    bench.settle(rounds=1)

    assert (bench.state(first), bench.state(other)) == ("building", "built")


def test_a_job_that_the_runner_does_not_know_any_more_fails_its_run_with_what_to_do(bench: Bench) -> None:
    first, _ = two_branches(bench)
    del bench.jobs.statuses[bench.run(first).job_name("build")]
    bench.settle(rounds=1)

    assert bench.state(first) == "failed"
    assert bench.run(first).reason.endswith(
        "does not know job 'diabetes-000000010000-build' any more. Push or retrain again."
    )


def test_a_hint_is_sent_again_only_when_it_is_old_enough(bench: Bench) -> None:
    run_id = bench.push()
    bench.queue.messages.clear()
    bench.clock.advance(59)
    bench.app.reconciler.runs()
    assert bench.queue.messages == []

    bench.clock.advance(2)
    bench.app.reconciler.runs()
    assert effect_message(run_id, EffectKey("policy")) in bench.queue.messages


def test_every_page_of_active_runs_is_looked_at(bench: Bench) -> None:
    runs = [bench.push(number, branch=f"b{number}") for number in range(1, 131)]
    bench.drain()
    for run_id in runs:
        end_unheard(bench, run_id)

    bench.clock.advance(61)
    assert bench.app.reconciler.runs() == 130
    assert {bench.state(run_id) for run_id in runs} == {"built"}


def test_a_run_at_its_end_with_nothing_to_tidy_up_is_not_looked_at_any_more(bench: Bench) -> None:
    bench.app.intake.push(push(1, branch="a"))
    bench.drain()
    end_unheard(bench, RunId(f"diabetes-{commit_id(1)[:12]}"))
    bench.settle()

    assert bench.app.reconciler.runs() == 0


def test_an_approval_that_nobody_answers_expires_after_what_the_project_says(bench: Bench) -> None:
    manifest = bench.source.default_files["mlops.yaml"]
    bench.source.default_files["mlops.yaml"] = manifest + b"  approval: manual\n  approval_expires: 2h\n"
    run_id = bench.push()
    bench.deliver(run_id)
    waiting_since = bench.run(run_id).entries[-1].at
    bench.clock.time = waiting_since + timedelta(hours=2, seconds=-1)
    bench.app.reconciler.runs()
    assert bench.state(run_id) == "awaiting_approval"

    bench.clock.advance(1)
    bench.app.reconciler.runs()
    assert bench.state(run_id) == "expired"
