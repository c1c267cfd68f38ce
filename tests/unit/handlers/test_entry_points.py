"""What a caller of the function app gets back: through the registered functions, over a real store."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest
from builders import Bench

from mlops_core import bootstrap

ROUTES = {
    ("GET", "dead-letters", "FUNCTION"),
    ("GET", "dead-letters/{letter_id}", "FUNCTION"),
    ("GET", "deployments", "FUNCTION"),
    ("GET", "health", "ANONYMOUS"),
    ("GET", "models", "FUNCTION"),
    ("GET", "models/{model}", "FUNCTION"),
    ("GET", "models/{model}/versions", "FUNCTION"),
    ("GET", "projects", "FUNCTION"),
    ("GET", "runs", "FUNCTION"),
    ("GET", "runs/{run_id}", "FUNCTION"),
    ("GET", "runs/{run_id}/logs/{stage}", "FUNCTION"),
    ("GET", "runs/{run_id}/progress", "FUNCTION"),
    ("POST", "dead-letters/{letter_id}/replay", "FUNCTION"),
    ("POST", "models/{model}/rollback", "FUNCTION"),
    ("POST", "models/{model}/score", "FUNCTION"),
    ("POST", "projects/{project}/retrain", "FUNCTION"),
    ("POST", "runs/{run_id}/decisions/{wish}", "FUNCTION"),
    ("POST", "webhooks/{host}", "ANONYMOUS"),
}
# A copy of our own: an app object gives its functions once only.
_SPEC = importlib.util.spec_from_file_location("own_function_app", Path(__file__).parents[3] / "function_app.py")
assert _SPEC is not None
assert _SPEC.loader is not None
function_app = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(function_app)
_APP = {function.get_function_name(): function for function in function_app.app.get_functions()}


def plain(value: Any) -> Any:
    return getattr(value, "name", value)


def call(name: str, body: object = None, *, query: dict[str, str] | None = None, **route: str) -> tuple[int, Any]:
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    request = func.HttpRequest("POST", "/", params=query or {}, route_params=route, body=content)
    answer = _APP[name].get_user_function()(request)
    if asyncio.iscoroutine(answer):
        answer = asyncio.run(answer)
    return answer.status_code, json.loads(answer.get_body())


@pytest.fixture
def used(bench: Bench) -> Iterator[Bench]:
    """The function app answers with the bench's application."""
    bootstrap.use(bench.app)
    yield bench
    bootstrap.use(None)


def test_routes_and_who_may_call_them_are_those_of_the_table() -> None:
    """A route that is added, or opened to everybody, must be added here on purpose."""
    triggers = [function.get_trigger().get_dict_repr() for function in _APP.values()]
    found = {
        (plain(method), trigger["route"], plain(trigger["authLevel"]))
        for trigger in triggers
        if trigger["type"] == "httpTrigger"
        for method in trigger["methods"]
    }
    assert found == ROUTES


def test_a_retrain_with_the_same_request_id_is_the_same_run(used: Bench) -> None:
    used.push()
    wish = {"request_id": "r1", "by": "ada", "reason": "new data", "commit": "00000001" * 5}

    first, again = (call("retrain", wish, project="diabetes") for _ in range(2))

    assert first[0] == again[0] == 202
    assert first[1]["run_id"] == again[1]["run_id"]


@pytest.mark.parametrize(
    ("name", "route", "body", "status"),
    [
        ("retrain", {"project": "nobody"}, {}, 404),
        ("retrain", {"project": "diabetes"}, {"typo": 1}, 400),
        ("retrain", {"project": "diabetes"}, {"rebuild": "yes"}, 400),
        ("retrain", {"project": "diabetes"}, {"commit": "main"}, 400),
        ("retrain", {"project": "diabetes"}, {"commit": "--output=x"}, 400),
        ("retrain", {"project": "diabetes"}, {"resume": "nobody"}, 404),
        ("retrain", {"project": "diabetes"}, b"[", 400),
        ("retrain", {"project": "diabetes"}, b"[1]", 400),
        ("retrain", {"project": "diabetes"}, b" " * 70_000, 413),
        ("decide", {"run_id": "nobody", "wish": "approve"}, {"by": "ada"}, 404),
        ("decide", {"run_id": "nobody", "wish": "dance"}, {"by": "ada"}, 400),
        ("rollback", {"model": "nobody"}, {}, 409),
        ("score", {"model": "nobody"}, {}, 404),
        ("score", {"model": "diabetes"}, b"x" * 10_485_761, 413),
        ("show_run", {"run_id": "nobody"}, None, 404),
        ("show_model", {"model": "nobody"}, None, 404),
        ("show_log", {"run_id": "nobody", "stage": "dance"}, None, 400),
        ("show_dead_letter", {"letter_id": "nobody"}, None, 404),
        ("replay_dead_letter", {"letter_id": "nobody"}, None, 404),
        ("take_webhook", {"host": "nobody"}, {}, 404),
    ],
)
def test_what_cannot_be_done_is_answered_with_its_status_and_a_sentence(
    used: Bench, name: str, route: dict[str, str], body: object, status: int
) -> None:
    found, view = call(name, body, **route)

    assert found == status, view
    assert view["error"].endswith((".", "}."))


def test_a_decision_that_the_state_does_not_permit_is_a_conflict_and_says_why(used: Bench) -> None:
    run_id = used.push()

    status, view = call("decide", {"by": "ada"}, run_id=run_id, wish="approve")

    assert status == 409
    assert run_id in view["error"]


def test_a_cancelled_run_says_who_cancelled_it(used: Bench) -> None:
    run_id = used.push()

    assert call("decide", {"by": "ada", "reason": "wrong branch"}, run_id=run_id, wish="cancel")[0] == 202
    assert "ada" in json.dumps(call("show_run", run_id=run_id)[1])


def test_runs_are_listed_in_pages_that_do_not_overlap(used: Bench) -> None:
    pushed = {used.push(number) for number in (1, 2, 3)}

    first = call("list_runs", query={"limit": "2"})[1]
    second = call("list_runs", query={"limit": "2", "cursor": first["cursor"]})[1]

    assert {run["run_id"] for run in first["runs"] + second["runs"]} == pushed
    assert len(first["runs"]) == 2
    assert second["cursor"] is None


@pytest.mark.parametrize("limit", ["0", "201", "-1", "many"])
def test_a_page_size_out_of_range_is_refused(used: Bench, limit: str) -> None:
    assert call("list_runs", query={"limit": limit})[0] == 400


def test_an_unforeseen_error_leaks_no_trace(used: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a secret path")

    monkeypatch.setattr(used.app.queries, "projects", fails)

    status, view = call("list_projects")
    assert status == 500
    assert "secret" not in json.dumps(view)
    assert "Traceback" not in json.dumps(view)


def message(text: str, tries: int) -> func.QueueMessage:
    made = func.QueueMessage(id="1", body=text)
    object.__setattr__(made, "_QueueMessage__dequeue_count", tries)
    return made


def test_a_message_that_names_no_effect_becomes_a_dead_letter_that_stays_until_replaying_works(used: Bench) -> None:
    _APP["take_effect"].get_user_function()(message("nonsense", 1))

    letter = call("list_dead_letters")[1]["dead_letters"][0]
    assert letter["body"] == "nonsense"
    assert call("replay_dead_letter", {"by": "ada"}, letter_id=letter["id"])[0] == 400
    assert call("show_dead_letter", letter_id=letter["id"])[0] == 200


def test_an_event_that_could_not_be_taken_is_replayed_once_its_cause_is_mended(used: Bench) -> None:
    event = func.EventGridEvent(
        id="1", topic="/t", subject="s", event_type="Microsoft.MachineLearningServices.ModelRegistered",
        event_time=used.clock.now(), data={"ModelName": "diabetes", "ModelVersion": "1"}, data_version="1",
    )  # fmt: skip
    _APP["take_ml_event"].get_user_function()(event)
    letter = call("list_dead_letters")[1]["dead_letters"][0]

    used.registry.register("diabetes", "somebody-elses", rmse=1.0)

    assert call("replay_dead_letter", {"by": "ada"}, letter_id=letter["id"]) == (200, {"replayed": letter["id"]})
    assert call("list_dead_letters")[1]["dead_letters"] == []


@pytest.mark.parametrize("name", ["list_dead_letters", "list_runs"])
@pytest.mark.parametrize("cursor", ["nonsense", "-1", "9" * 400, "\x00", "|", "2026-01-01|"])
def test_a_cursor_that_nobody_gave_is_no_error_of_ours(used: Bench, name: str, cursor: str) -> None:
    used.push()

    assert call(name, query={"cursor": cursor})[0] in (200, 400)


@pytest.mark.parametrize("wish", ["cancel", "approve", "reject", "waive"])
@pytest.mark.parametrize("body", [{}, {"by": ""}, {"reason": "so"}], ids=str)
def test_a_decision_of_nobody_is_refused(used: Bench, wish: str, body: dict[str, str]) -> None:
    run_id = used.push()
    status, view = call("decide", body, run_id=run_id, wish=wish)

    assert (status, used.state(run_id)) == (400, "received")
    assert "Say who decides" in view["error"]
