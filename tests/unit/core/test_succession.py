"""Which of two pushes is newer, where clocks do not say or say it wrongly."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from builders import PROJECT, Bench, commit_id, push
from fakes import START

from mlops_core.domain.errors import TemporaryError
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


@pytest.fixture
def timeless(bench: Bench) -> Bench:
    """A project at a host whose webhooks do not say when a push was."""
    bench.app.world.projects.put(replace(PROJECT, host="gitlab"))
    return bench


def heard(bench: Bench, number: int, *, seconds: float, before: int | None) -> RunId:
    made = push(number, at=START + timedelta(seconds=seconds), before=before).model_copy(update={"host": "gitlab"})
    return bench.app.intake.push(made)[0]


def test_where_a_host_tells_no_times_the_head_of_the_branch_is_the_newest(timeless: Bench) -> None:
    third, first = heard(timeless, 3, seconds=1, before=2), heard(timeless, 1, seconds=400, before=None)
    timeless.source.branches["main"] = commit_id(3)

    assert newer(timeless, first, third) == (False, True)


def test_three_pushes_told_of_newest_oldest_middle_end_with_the_newest(timeless: Bench) -> None:
    timeless.source.branches["main"] = commit_id(3)
    runs = {}
    for seconds, number in enumerate((3, 1, 2)):
        runs[number] = heard(timeless, number, seconds=seconds, before=number - 1 or None)
        timeless.drain()

    assert [timeless.state(runs[number]) for number in (1, 2, 3)] == ["superseded", "superseded", "building"]


def test_times_must_do_where_the_host_does_not_answer(timeless: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    third, first = heard(timeless, 3, seconds=1, before=2), heard(timeless, 1, seconds=400, before=None)

    def away(*_: object) -> None:
        raise TemporaryError("The host does not answer.")

    monkeypatch.setattr(timeless.source, "head", away)

    assert newer(timeless, first, third) == (True, False)


def test_a_host_that_tells_times_is_not_asked(bench: Bench) -> None:
    third, first = pushed(bench, 3, seconds=1, before=2), pushed(bench, 1, seconds=400)
    bench.source.branches["main"] = commit_id(3)

    assert newer(bench, first, third) == (True, False)


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
