"""Queue messages, events and timers through the registered functions: what is done, kept, repeated or given up."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest
from builders import Bench, commit_id

from handlers import effect_due
from mlops_core import bootstrap
from mlops_core.controller import effect_message
from mlops_core.domain.errors import TemporaryError
from mlops_core.domain.ids import EffectKey, RunId

# A copy of our own: an app object gives its functions once only.
_SPEC = importlib.util.spec_from_file_location("triggered_app", Path(__file__).parents[3] / "function_app.py")
assert _SPEC is not None
assert _SPEC.loader is not None
function_app = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(function_app)
_APP = {function.get_function_name(): function.get_user_function() for function in function_app.app.get_functions()}
BUILD = EffectKey("submit:build")


class Message(func.QueueMessage):
    """A message as the host hands it over."""

    def __init__(self, text: str, tries: int) -> None:
        super().__init__(id="1", body=text)
        self._tries = tries

    @property
    def dequeue_count(self) -> int | None:
        return self._tries


@pytest.fixture
def used(bench: Bench) -> Iterator[Bench]:
    """The function app answers with the bench's application."""
    bootstrap.use(bench.app)
    yield bench
    bootstrap.use(None)


def event(kind: str, data: object, event_id: str = "1") -> func.EventGridEvent:
    return func.EventGridEvent(
        id=event_id,
        topic="/t",
        subject="s",
        event_type=kind,
        event_time=None,
        data=data,
        data_version="1",  # type: ignore[arg-type] - set below
    )


def told(used: Bench, kind: str, data: object) -> func.EventGridEvent:
    made = event(kind, data)
    object.__setattr__(made, "_EventGridEvent__event_time", used.clock.now())
    return made


def letters(used: Bench) -> list[str]:
    return [letter.reason for letter in used.app.world.dead_letters.list().items]


def building(used: Bench) -> RunId:
    """A run whose build is to be submitted, by a message that was not delivered yet."""
    run_id = used.push()
    used.app.controller.perform(run_id, EffectKey("policy"))
    return run_id


def break_runner(used: Bench, error: Exception) -> None:
    def refuse(_: object) -> None:
        raise error

    used.jobs.submit = refuse  # type: ignore[method-assign, assignment] - this bench only


def test_a_message_performs_the_effect_that_it_names(used: Bench) -> None:
    run_id = building(used)
    _APP["take_effect"](Message(effect_message(run_id, BUILD), 1))

    assert used.jobs.launches == {used.run(run_id).job_name("build"): 1}


@pytest.mark.parametrize("error", [TemporaryError("not yet"), ValueError("a bug")], ids=["temporary", "unforeseen"])
def test_a_message_that_fails_is_delivered_again_and_given_up_at_the_fifth_time(used: Bench, error: Exception) -> None:
    run_id = building(used)
    break_runner(used, error)
    for tries in range(1, 5):
        with pytest.raises(type(error)):
            _APP["take_effect"](Message(effect_message(run_id, BUILD), tries))
    assert used.state(run_id) == "building"
    _APP["take_effect"](Message(effect_message(run_id, BUILD), 5))

    assert used.state(run_id) == "failed"
    assert [reason.startswith("tried 5 times: ") for reason in letters(used)] == [True]
    assert str(error) in used.run(run_id).reason


@pytest.mark.parametrize("text", ["nonsense", "[]", "null", '{"run_id": "r"}', "[" * 100_000, ""])
def test_a_message_that_names_no_effect_is_kept_at_once(used: Bench, text: str) -> None:
    _APP["take_effect"](Message(text, 1))

    assert [reason.endswith("names no effect.") for reason in letters(used)] == [True]


def test_a_message_of_a_run_that_is_not_there_is_kept_once_with_why(used: Bench) -> None:
    for _ in range(2):
        _APP["take_effect"](Message(effect_message(RunId("nobody"), BUILD), 1))

    assert [reason.startswith("There is no run 'nobody'") for reason in letters(used)] == [True]


def test_a_message_without_a_count_is_taken_as_the_first(used: Bench) -> None:
    run_id = building(used)
    break_runner(used, TemporaryError("not yet"))

    with pytest.raises(TemporaryError):
        _APP["take_effect"](Message(effect_message(run_id, BUILD), None))  # type: ignore[arg-type] - some hosts tell none


def test_giving_up_before_the_last_try_does_nothing(used: Bench) -> None:
    assert not effect_due.give_up_on_last_try(used.app, effect_message(building(used), BUILD), 4, ValueError())
    assert letters(used) == []


def test_a_push_event_starts_its_run_and_one_that_is_none_is_kept(used: Bench) -> None:
    push = {"host": "local", "repository": "diabetes", "ref": "refs/heads/main", "commit": commit_id(1)}
    _APP["take_git_push"](told(used, "Headrace.GitPush", {**push, "pushed_at": "2026-03-01T12:00:00Z"}))
    _APP["take_git_push"](told(used, "Headrace.GitPush", push))

    assert used.state(RunId("diabetes-000000010000")) == "received"
    assert [reason.startswith("Event '1' is no push: ") for reason in letters(used)] == [True]


def test_a_push_to_a_repository_that_is_not_allowed_any_more_is_kept(used: Bench) -> None:
    push = {"host": "local", "repository": "gone", "ref": "refs/heads/main", "commit": commit_id(1)}
    _APP["take_git_push"](told(used, "Headrace.GitPush", {**push, "pushed_at": "2026-03-01T12:00:00Z"}))

    assert ["Allow it first" in reason for reason in letters(used)] == [True]


def test_an_event_that_cannot_be_taken_now_leaves_the_function_so_that_it_comes_again(
    used: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise TemporaryError("not yet")

    monkeypatch.setattr(used.app.intake, "push", refuse)
    push = {"host": "local", "repository": "diabetes", "ref": "refs/heads/main", "commit": commit_id(1)}

    with pytest.raises(TemporaryError):
        _APP["take_git_push"](told(used, "Headrace.GitPush", {**push, "pushed_at": "2026-03-01T12:00:00Z"}))
    assert letters(used) == []


def test_a_deployment_that_is_told_of_is_looked_at_and_one_without_a_name_is_kept(used: Bench) -> None:
    used.deployer.ready_at_once = False
    run_id = used.push()
    used.deliver(run_id)
    (name,) = used.deployer.states
    used.deployer.make_ready(name)
    _APP["take_deployment_event"](
        told(used, "Headrace.DeploymentChanged", {"model": "diabetes", "version": "1", "state": "ready"})
    )
    _APP["take_deployment_event"](told(used, "Headrace.DeploymentChanged", {"model": "diabetes"}))
    used.drain()

    assert used.state(run_id) == "live"
    assert ["data.model and data.version are needed" in reason for reason in letters(used)] == [True]


@pytest.mark.parametrize("timer", ["reconcile", "reconcile_heads"])
def test_the_timers_look_after_what_nobody_told_of(used: Bench, timer: str) -> None:
    used.source.branches["main"] = commit_id(1)
    used.app.reconciler.heads()
    used.source.branches["main"] = commit_id(2)
    run_id = building(used)
    used.queue.messages.clear()
    used.clock.advance(120)
    _APP[timer](None)

    lost = RunId("diabetes-000000020000")
    assert used.app.controller.exists(lost) is (timer == "reconcile_heads")
    assert (effect_message(run_id, BUILD) in used.queue.messages) is (timer == "reconcile")


def call(name: str, **route: str) -> Any:
    request = func.HttpRequest("GET", "/", params={}, route_params=route, body=b"")
    return _APP[name](request)


def test_what_is_asked_of_models_runs_and_logs_is_answered(used: Bench) -> None:
    run_id = used.push()
    used.deliver(run_id)

    assert b'"champion": {' in call("list_models").get_body()
    assert b'"address": "/api/models/diabetes/score"' in call("show_model", model="diabetes").get_body()
    assert b'"rmse": 50.0' in call("list_versions", model="diabetes").get_body()
    assert b'"state": "live"' in call("show_progress", run_id=run_id).get_body()
    for stage in ("build", "train"):
        assert call("show_log", run_id=run_id, stage=stage).status_code == 200
    assert b'"projects": [{' in call("list_projects").get_body()


@pytest.mark.parametrize(
    ("stage", "sentence"), [("build", "It is 'received' still"), ("train", "It is 'received' still")]
)
def test_a_log_that_is_not_there_yet_says_how_to_watch_for_it(used: Bench, stage: str, sentence: str) -> None:
    answer = call("show_log", run_id=used.push(), stage=stage)

    assert answer.status_code == 404
    assert sentence.encode() in answer.get_body()
