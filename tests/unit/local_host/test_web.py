"""The local host's HTTP side answers as the genuine host does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import azure.functions as func
import httpx
import pytest

from mlops_core.adapters.local.host.functions import Invoker, read_functions
from mlops_core.adapters.local.host.visitors import LOOPBACK
from mlops_core.adapters.local.host.web import FunctionsWeb

SAMPLES = Path(__file__).parents[4] / "shared" / "contracts" / "eventgrid" / "delivery"
DELIVER = "/runtime/webhooks/eventgrid?functionName=take"
EVENT = {
    "id": "1", "eventType": "A.B", "subject": "s", "eventTime": "2026-03-01T12:00:00Z", "data": {}, "topic": "/t",
    "dataVersion": "1", "metadataVersion": "1",
}  # fmt: skip


class Bench:
    """A small app, and what its functions and topics were given."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.published: list[Any] = []
        self.app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
        self._register()
        self.functions = read_functions(self.app)

    def accept(self, topic: str, events: Sequence[Mapping[str, Any]]) -> None:
        if topic != "known":
            raise KeyError(topic)
        self.published += events

    def _register(self) -> None:
        @self.app.route("things/{id:int}", methods=["POST"])
        def echo(req: func.HttpRequest) -> func.HttpResponse:
            view = {"headers": dict(req.headers), "query": dict(req.params), "route": dict(req.route_params)}
            return func.HttpResponse(json.dumps(view | {"body": req.get_body().decode()}), status_code=201)

        @self.app.route("kinds/{kind}", auth_level=func.AuthLevel.ANONYMOUS)
        async def kinds(req: func.HttpRequest) -> Any:
            if req.route_params["kind"] == "error":
                raise ValueError("a secret")
            return {"nothing": None, "text": "hello"}[req.route_params["kind"]]

        @self.app.event_grid_trigger("event")
        def take(event: func.EventGridEvent) -> None:
            self.taken.append(event)
            if event.subject == "refuse":
                raise ValueError("not now")

    def send(
        self,
        method: str,
        path: str,
        *,
        keys: Sequence[str] = (),
        names: Sequence[str] = (),
        topic_key: str = "",
        **options: Any,
    ) -> httpx.Response:
        return asyncio.run(self._send(method, path, {"keys": keys, "names": names, "topic_key": topic_key}, options))

    async def _send(self, method: str, path: str, limits: Any, options: Any) -> httpx.Response:
        invoker = Invoker(threads=1)
        web = FunctionsWeb(self.functions, invoker, self, max_body_bytes=10_000, **limits).app()
        try:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://host") as client:
                return await client.request(method, path, **options)
        finally:
            invoker.close()


@pytest.fixture
def host() -> Bench:
    return Bench()


def test_a_function_gets_lower_case_headers_route_values_and_no_empty_query_values(host: Bench) -> None:
    answer = host.send("POST", "/api/things/7?a=1&b=", headers={"X-Some": "Thing"}, content=b"body")

    view = answer.json()
    assert answer.status_code == 201
    assert (view["route"], view["query"], view["body"]) == ({"id": "7"}, {"a": "1"}, "body")
    assert view["headers"]["x-some"] == "Thing"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/things/seven", 404),
        ("GET", "/api/things/7", 405),
        ("GET", "/api/nowhere", 404),
        ("GET", "/things/7", 404),
        ("GET", "/api/kinds/nothing", 204),
        ("GET", "/api/kinds/text", 200),
    ],
)
def test_routes_are_told_apart_as_the_genuine_host_does(host: Bench, method: str, path: str, status: int) -> None:
    assert host.send(method, path).status_code == status


def test_a_function_that_raises_is_a_500_without_its_text_and_the_host_goes_on(host: Bench) -> None:
    answer = host.send("GET", "/api/kinds/error")

    assert answer.status_code == 500
    assert "a secret" not in answer.text
    assert host.send("GET", "/api/kinds/text").text == "hello"


def test_a_body_over_the_limit_is_refused_also_where_its_length_is_not_told(host: Bench) -> None:
    async def parts() -> Any:
        for _ in range(3):
            yield b"x" * 5_000

    assert host.send("POST", "/api/things/7", content=b"x" * 10_001).status_code == 413
    assert host.send("POST", "/api/things/7", content=parts()).status_code == 413


def test_routes_with_the_function_level_ask_for_a_key_where_there_are_keys(host: Bench) -> None:
    keys = ("new", "old")

    assert host.send("POST", "/api/things/7", keys=keys).status_code == 401
    assert host.send("POST", "/api/things/7?code=wrong", keys=keys).status_code == 401
    assert host.send("POST", "/api/things/7?code=old", keys=keys).status_code == 201
    assert host.send("POST", "/api/things/7", keys=keys, headers={"x-functions-key": "new"}).status_code == 201
    assert host.send("GET", "/api/kinds/text", keys=keys).status_code == 200


def test_both_handshakes_of_event_grid_are_answered(host: Bench) -> None:
    question = [{**EVENT, "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
                 "data": {"validationCode": "512d38b6"}}]  # fmt: skip
    headers = {"aeg-event-type": "SubscriptionValidation"}

    answer = host.send("POST", DELIVER, json=question, headers=headers)
    cloud = host.send("OPTIONS", DELIVER, headers={"WebHook-Request-Origin": "eventgrid.azure.net"})

    assert answer.json() == {"validationResponse": "512d38b6"}
    assert cloud.headers["webhook-allowed-origin"] == "eventgrid.azure.net"
    assert host.taken == []


def test_all_events_of_a_batch_are_delivered(host: Bench) -> None:
    assert host.send("POST", DELIVER, json=[EVENT, {**EVENT, "id": "2"}]).is_success
    assert [event.id for event in host.taken] == ["1", "2"]


@pytest.mark.skipif(not SAMPLES.exists(), reason=f"the samples of Event Grid are not at {SAMPLES}")
@pytest.mark.parametrize("schema", ["eventgrid", "cloudevents"])
def test_samples_of_both_schemas_reach_the_function(host: Bench, schema: str) -> None:
    for sample in sorted(SAMPLES.glob(f"{schema}.*.json")):
        assert host.send("POST", DELIVER, content=sample.read_bytes()).is_success, sample.name
    assert len(host.taken) == 5


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (DELIVER, b"[", 400),
        (DELIVER, b"[]", 400),
        (DELIVER, b" " * 10_001, 413),
        (DELIVER, b"[1]", 400),
        ("/runtime/webhooks/eventgrid?functionName=echo", b"[{}]", 404),
        (DELIVER, json.dumps([{**EVENT, "subject": "refuse"}]).encode(), 500),
    ],
)
def test_deliveries_that_cannot_be_taken_are_answered_so_that_event_grid_knows_what_to_do(
    host: Bench, path: str, body: bytes, status: int
) -> None:
    assert host.send("POST", path, content=body).status_code == status


@pytest.mark.parametrize("path", ["/topics/known/api/events", DELIVER], ids=["publish", "deliver"])
def test_events_need_the_key_where_there_is_one(host: Bench, path: str) -> None:
    def status(**shown: Any) -> int:
        return host.send("POST", path, json=[EVENT], topic_key="right", **shown).status_code

    assert status() == 401
    assert status(headers={"aeg-sas-key": "wrong"}) == 401
    assert host.published == host.taken == []
    assert status(headers={"aeg-sas-key": "right"}) in (200, 202)
    assert len(host.published + host.taken) == 1


def test_only_known_topics_take_events(host: Bench) -> None:
    assert host.send("POST", "/topics/known/api/events", json=[EVENT]).status_code == 200
    assert host.send("POST", "/topics/other/api/events", json=[EVENT]).status_code == 404
    refused = host.send("POST", "/topics/known/api/events", json=[EVENT, {"foo": 1}])
    assert refused.status_code == 400
    assert "Event 2 of 2 has no id or no type: it is of neither schema. None was taken." in refused.text
    assert host.published == [EVENT]


TOPIC = "/topics/known/api/events"
OWN = {"host": "127.0.0.1:7071"}


@pytest.mark.parametrize("path", ["/api/things/7", DELIVER, TOPIC])
@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        (OWN, True),
        ({"host": "localhost:7071"}, True),
        ({"host": "[::1]:7071"}, True),
        ({**OWN, "origin": "http://127.0.0.1:7071"}, True),
        ({**OWN, "origin": "https://evil.example"}, False),
        ({**OWN, "origin": "http://127.0.0.1:8080"}, False),
        ({**OWN, "origin": "null"}, False),
        ({**OWN, "origin": "http://[::1"}, False),
        ({"host": "evil.example:7071"}, False),
        ({"host": "evil.example:7071", "origin": "http://evil.example:7071"}, False),
        ({"host": "127.0.0.1.evil.example"}, False),
        ({"host": "127.0.0.1:7071:7071"}, False),
    ],
    ids=str,
)
def test_pages_of_others_and_names_that_others_chose_are_refused(
    host: Bench, path: str, headers: dict[str, str], *, taken: bool
) -> None:
    """A browser on this machine sends what any page wants to loopback, and a page's own name may lead there."""
    answer = host.send("POST", path, names=LOOPBACK, headers=headers, json=[EVENT])

    assert answer.is_success is taken
    if not taken:
        assert answer.status_code == 403
        assert answer.json()["error"].endswith(".")
        assert (host.taken, host.published) == ([], [])


def test_routes_that_anybody_may_call_are_reached_through_a_tunnel(host: Bench) -> None:
    answer = host.send("GET", "/api/kinds/text", names=LOOPBACK, headers={"host": "abc.tunnel.example"})

    assert answer.text == "hello"


@pytest.mark.parametrize(
    "path", ["/runtime/webhooks/eventgrid?functionName=nobody", "/runtime/webhooks/eventgrid", "/api/nowhere"]
)
def test_what_is_not_there_is_answered_with_a_sentence(host: Bench, path: str) -> None:
    answer = host.send("POST", path, json=[EVENT])

    assert (answer.status_code, answer.json()["error"][-1]) == (404, ".")
