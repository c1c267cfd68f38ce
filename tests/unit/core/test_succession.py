"""Which of two pushes is newer, where clocks do not say or say it wrongly."""

from __future__ import annotations

from datetime import timedelta

import pytest
from builders import Bench, commit_id, push
from fakes import START

from mlops_core.domain.ids import ModelName, RunId
from mlops_core.services.intake import Retrain
from mlops_core.services.succession import is_newer


def pushed(bench: Bench, number: int, *, seconds: float, before: int | None = None, branch: str = "main") -> RunId:
    made = push(number, at=START + timedelta(seconds=seconds), before=before, branch=branch)
    return bench.app.intake.push(made)[0]


def newer(bench: Bench, first: RunId, second: RunId) -> tuple[bool, bool]:
    runs = bench.run(first), bench.run(second)
    return is_newer(bench.app.world, *runs), is_newer(bench.app.world, *reversed(runs))


def test_the_later_of_two_pushes_is_newer(bench: Bench) -> None:
    assert newer(bench, pushed(bench, 1, seconds=1), pushed(bench, 2, seconds=2)) == (False, True)


def test_a_push_that_followed_another_is_newer_whatever_the_clocks_say(bench: Bench) -> None:
    """Of hosts that tell no time, what was delivered last would count as last; a found push has our own clock's time."""
    second, first = pushed(bench, 2, seconds=1, before=1), pushed(bench, 1, seconds=400)

    assert newer(bench, first, second) == (False, True)


def test_pushes_of_one_second_are_ordered_by_the_chain_of_their_commits(bench: Bench) -> None:
    runs = [pushed(bench, number, seconds=1, before=number - 1 or None) for number in (3, 1, 2)]

    assert newer(bench, runs[1], runs[0]) == (False, True)


def test_pushes_of_one_second_without_a_chain_are_in_no_order(bench: Bench) -> None:
    first, second, third = (
        pushed(bench, number, seconds=1, before=before) for number, before in ((1, 9), (2, 8), (3, 2))
    )

    assert newer(bench, first, third) == newer(bench, first, second) == (False, False)


def test_the_same_commits_on_another_branch_say_nothing(bench: Bench) -> None:
    second, first = pushed(bench, 2, seconds=1, before=1, branch="main"), pushed(bench, 1, seconds=2, branch="feature")

    assert newer(bench, first, second) == (True, False)


def test_a_retrain_of_the_commit_before_a_push_is_ordered_by_time(bench: Bench) -> None:
    second = pushed(bench, 2, seconds=1, before=1)
    bench.clock.advance(60)
    project = bench.run(second).project
    retrain = bench.app.intake.retrain(Retrain(project=project, request_id="r", by="ada", commit=commit_id(1)))

    assert newer(bench, retrain, second) == (True, False)


@pytest.mark.parametrize("late_by", [3, 300])
def test_an_older_push_that_is_delivered_last_by_a_host_without_times_does_not_go_live(
    bench: Bench, late_by: int
) -> None:
    newest = pushed(bench, 2, seconds=1, before=1)
    bench.drain()
    oldest = pushed(bench, 1, seconds=1 + late_by)
    bench.drain()
    bench.deliver(newest)

    champion = bench.app.world.models.load(ModelName("diabetes")).value.champion
    assert (bench.state(oldest), bench.state(newest)) == ("superseded", "live")
    assert champion is not None
    assert champion.run_id == newest


def test_an_older_push_that_comes_after_the_newer_is_live_is_superseded(bench: Bench) -> None:
    newest = pushed(bench, 2, seconds=1, before=1)
    bench.deliver(newest)
    oldest = pushed(bench, 1, seconds=300)
    bench.drain()

    assert (bench.state(oldest), bench.state(newest)) == ("superseded", "live")
