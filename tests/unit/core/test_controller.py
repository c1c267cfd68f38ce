"""The controller's loop: conflicts, giving up, and replaying what was given up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from builders import Bench

from mlops_core.application import assemble
from mlops_core.domain import events as ev
from mlops_core.domain.errors import NotFoundError, PermanentError, RefusedError, StaleRunError, TemporaryError
from mlops_core.domain.ids import EffectKey, RunId
from mlops_core.domain.run import Run

BUILD = EffectKey("submit:build")


class ContestedRuns:
    """A run store in which somebody else saves first, so many times."""

    def __init__(self, inner: Any, conflicts: int) -> None:
        self._inner, self.conflicts, self.tried = inner, conflicts, 0

    def commit(self, run: Run, *, read_version: int, **options: Any) -> int:
        self.tried += 1
        if self.tried <= self.conflicts:
            raise StaleRunError(run.id, read_version=read_version, found_version=read_version + 1)
        return int(self._inner.commit(run, read_version=read_version, **options))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def contested(bench: Bench, conflicts: int) -> ContestedRuns:
    runs = ContestedRuns(bench.app.world.runs, conflicts)
    bench.app = assemble(replace(bench.app.world, runs=runs), verifiers={}, smoke=bench.smoke)  # type: ignore[arg-type] - structural
    return runs


def given_up(bench: Bench) -> RunId:
    """A run whose build no runner takes."""

    def refuse(_: object) -> None:
        raise PermanentError("no runner takes it")

    bench.jobs.submit = refuse  # type: ignore[method-assign, assignment] - this bench only
    run_id = bench.push()
    bench.drain()
    assert bench.state(run_id) == "failed"
    return run_id


def test_a_save_that_somebody_else_came_before_is_repeated_on_what_they_saved(bench: Bench) -> None:
    run_id = bench.push()
    runs = contested(bench, 3)
    bench.app.controller.take(run_id, ev.RunCancelled(at=bench.clock.now(), by="ada", reason="so"))

    assert (runs.tried, bench.state(run_id)) == (4, "cancelled")


def test_a_run_that_is_contested_for_ever_is_delivered_again_later(bench: Bench) -> None:
    run_id = bench.push()
    contested(bench, 10**6)

    with pytest.raises(TemporaryError, match=f"'{run_id}' was saved by others 100 times in a row"):
        bench.app.controller.take(run_id, ev.RunCancelled(at=bench.clock.now(), by="ada", reason="so"))


def test_a_fact_that_was_taken_before_changes_nothing_and_hints_at_nothing(bench: Bench) -> None:
    run_id = bench.push()
    told = ev.RunCancelled(at=bench.clock.now(), by="ada", reason="so")
    bench.app.controller.take(run_id, told)
    before, bench.queue.messages = bench.app.world.runs.load(run_id), []

    assert bench.app.controller.take(run_id, told) == before.value
    assert (bench.app.world.runs.load(run_id), bench.queue.messages) == (before, [])


def test_an_effect_that_is_not_pending_any_more_is_neither_performed_nor_given_up(bench: Bench) -> None:
    run_id = bench.push()
    bench.drain()
    bench.app.controller.perform(run_id, BUILD)
    bench.app.controller.give_up(run_id, BUILD, "too late")

    assert bench.jobs.launches == {bench.run(run_id).job_name("build"): 1}
    assert list(bench.app.world.dead_letters.list().items) == []


def test_an_effect_of_a_run_that_is_not_there_is_refused(bench: Bench) -> None:
    with pytest.raises(NotFoundError, match="no run 'nobody'"):
        bench.app.controller.perform(RunId("nobody"), BUILD)
    assert not bench.app.controller.exists(RunId("nobody"))


def test_what_was_given_up_is_kept_once_with_the_effect_whole(bench: Bench) -> None:
    run_id = given_up(bench)
    (letter,) = bench.app.world.dead_letters.list().items

    assert (letter.run_id, letter.key, letter.reason) == (run_id, BUILD, "no runner takes it")
    assert json.loads(letter.body)["job_name"] == f"{run_id}-build"


def test_a_replay_that_is_repeated_because_no_answer_came_is_one_replay(bench: Bench) -> None:
    run_id = given_up(bench)
    for _ in range(2):
        bench.app.controller.replay_effect(run_id, BUILD, by="ada")

    replays = [fact for fact in bench.run(run_id).facts.slots.values() if fact.kind == "effect_replayed"]
    assert [replay.attempt for replay in replays] == [1]


def test_what_has_not_failed_cannot_be_replayed(bench: Bench) -> None:
    run_id = given_up(bench)
    bench.app.controller.replay_effect(run_id, BUILD, by="ada")

    with pytest.raises(RefusedError, match=r"'submit:build' of run '.*' has not failed"):
        bench.app.controller.replay_effect(run_id, BUILD, by="bob")


def test_what_fails_again_after_a_replay_is_given_up_again_and_can_be_replayed_again(bench: Bench) -> None:
    run_id = given_up(bench)
    for attempt in (1, 2):
        bench.app.controller.replay_effect(run_id, BUILD, by="ada")
        bench.drain()
        assert (bench.state(run_id), len(bench.app.world.dead_letters.list().items)) == ("failed", attempt + 1)
