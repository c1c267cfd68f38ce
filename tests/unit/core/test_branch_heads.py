"""Pushes whose webhook was lost are found by looking at the branches; what was there before is left alone."""

from __future__ import annotations

from builders import PROJECT, Bench, commit_id

from mlops_core.domain.ids import RunId, run_of_push, run_of_push_to


def runs(bench: Bench) -> list[RunId]:
    return [run.id for run in bench.app.world.runs.of_project(None).items]


def first_look(bench: Bench, **heads: int) -> None:
    bench.source.branches.update({branch: commit_id(number) for branch, number in heads.items()})
    bench.app.reconciler.heads()


def test_what_was_on_the_branches_when_a_repository_was_allowed_is_not_built(bench: Bench) -> None:
    first_look(bench, main=1, feature=2, old=3)

    assert runs(bench) == []


def test_a_push_whose_webhook_was_lost_is_taken_with_the_commit_before_it(bench: Bench) -> None:
    first_look(bench, main=1)
    first_look(bench, main=2)

    (run_id,) = runs(bench)
    assert (run_id, bench.run(run_id).trigger.before) == (run_of_push(PROJECT.name, commit_id(2)), commit_id(1))


def test_a_new_branch_whose_webhook_was_lost_is_built(bench: Bench) -> None:
    first_look(bench, main=1)
    first_look(bench, feature=2)

    assert runs(bench) == [run_of_push(PROJECT.name, commit_id(2))]


def test_a_fast_forward_to_a_commit_of_another_branch_is_found_without_its_webhook(bench: Bench) -> None:
    first_look(bench, main=1)
    built = bench.push(2, branch="feature")
    bench.drain()
    bench.end_job(built, "build")
    first_look(bench, main=2, feature=2)
    bench.drain()

    assert bench.state(run_of_push_to(PROJECT.name, commit_id(2), "main")) == "building"
    assert bench.state(built) == "built"


def test_a_push_that_was_heard_of_is_not_taken_again(bench: Bench) -> None:
    first_look(bench, main=1)
    run_id = bench.push(2)
    first_look(bench, main=2)

    assert runs(bench) == [run_id]


def test_a_branch_that_went_away_is_forgotten_and_starts_nothing(bench: Bench) -> None:
    first_look(bench, main=1, feature=2)
    del bench.source.branches["feature"]
    bench.app.reconciler.heads()

    assert runs(bench) == []
    assert bench.app.world.projects.get(PROJECT.name).known_heads == {"main": commit_id(1)}


def test_a_repository_that_cannot_be_asked_does_not_stop_the_look_at_others(bench: Bench) -> None:
    from dataclasses import replace

    bench.app.world.projects.put(replace(PROJECT, name="another", host="nowhere", repository="a/b"))  # type: ignore[arg-type] - a name
    first_look(bench, main=1)

    assert bench.app.world.projects.get(PROJECT.name).known_heads == {"main": commit_id(1)}
