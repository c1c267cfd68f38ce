"""The stable address: whom it leads to, what it does when a deployment is gone, and what it tells where nobody answers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

import pytest
from builders import Bench

from handlers import scoring
from handlers.answers import Answer, Request, error_answer
from mlops_core.application import Application, Limits
from mlops_core.domain.errors import HeadraceError
from mlops_core.domain.ids import DeploymentName, ModelName, ModelVersion, deployment_of_version
from mlops_core.ports import DeploymentStatus
from mlops_core.services import routing
from mlops_core.services.routing import Router

MODEL = ModelName("diabetes")
Told = TypeVar("Told")


@dataclass
class Deployment:
    """A deployment that answers what the test says, on a real socket."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"[7.0]"
    dies: bool = False
    asked: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    address: str = ""


class Server(ThreadingHTTPServer):
    """As many connections may wait as a test makes at once."""

    request_queue_size = 64


Serve = Callable[..., Deployment]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start deployments; all are stopped in the end."""
    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(**answer: Any) -> Deployment:
        deployment = Deployment(**answer)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                deployment.asked.append(({key.lower(): value for key, value in self.headers.items()}, body))
                deployment.paths.append(self.path)
                if deployment.dies:
                    self.close_connection = True
                    return
                self.send_response(deployment.status)
                for name, value in {**deployment.headers, "content-length": str(len(deployment.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(deployment.body)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        server = Server(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        deployment.address = f"http://127.0.0.1:{server.server_port}"
        return deployment

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


def of_version(number: int) -> DeploymentName:
    return deployment_of_version(MODEL, ModelVersion(str(number)))


def lead_to(bench: Bench, name: DeploymentName, address: str) -> None:
    bench.deployer.states[name] = DeploymentStatus(name, "ready", address)


@pytest.fixture
def live(bench: Bench) -> Bench:
    """A bench whose first version is in service; where, the test says."""
    bench.deliver(bench.push(1))
    return bench


def impatient(app: Application) -> Application:
    """The same application, whose router thinks that each look at the clock takes a second."""
    seconds = itertools.count()
    return replace(app, router=Router(app.world, monotonic=lambda: float(next(seconds))))


async def ask(app: Application, body: bytes = b"[[1]]", **headers: str) -> Answer:
    try:
        return await scoring.score(app, Request(body, headers, {"model": MODEL}))
    except HeadraceError as error:
        return error_answer(error)


async def _closed(app: Application, asking: Awaitable[Told]) -> Told:
    try:
        return await asking
    finally:
        await app.router.close()


def run(app: Application, asking: Awaitable[Told]) -> Told:
    """Ask on an event loop of its own, and close the router's connections with it."""
    return asyncio.run(_closed(app, asking))


def score(app: Application, body: bytes = b"[[1]]", **headers: str) -> Answer:
    return run(app, ask(app, body, **headers))


def sentence(answer: Answer) -> str:
    text: str = json.loads(answer.body)["error"]
    assert text.endswith("."), text
    return text


def test_a_request_is_answered_by_the_champion(live: Bench, serve: Serve) -> None:
    deployment = serve(headers={"x-headrace-model-version": "1", "server": "x"})
    lead_to(live, of_version(1), deployment.address)

    answer = score(live.app, b"[[2]]", **{"content-type": "application/json", "x-functions-key": "k", "cookie": "c"})

    assert (answer.status, answer.body) == (200, b"[7.0]")
    assert answer.headers == {"x-headrace-model-version": "1"}
    [(headers, body)] = deployment.asked
    assert body == b"[[2]]"
    assert headers["content-type"] == "application/json"
    assert not {"x-functions-key", "cookie"} & set(headers), "what proves the caller to us is not the model's business"


def test_what_concerns_the_body_and_the_callers_own_id_are_passed_on_and_back(live: Bench, serve: Serve) -> None:
    deployment = serve(headers={"x-request-id": "abc"})
    lead_to(live, of_version(1), deployment.address)

    answer = score(live.app, b"packed", **{"content-encoding": "gzip", "x-request-id": "abc"})

    assert answer.headers == {"x-request-id": "abc"}
    assert {"content-encoding": "gzip", "x-request-id": "abc"}.items() <= deployment.asked[0][0].items()


def test_details_are_asked_for_where_the_caller_wants_them_and_no_other_query_is_passed_on(
    live: Bench, serve: Serve
) -> None:
    deployment = serve()
    lead_to(live, of_version(1), deployment.address)

    for query in ({}, {"details": "true", "code": "key"}, {"details": "1"}):
        run(live.app, scoring.score(live.app, Request(b"[[1]]", {}, {"model": MODEL}, query)))

    assert deployment.paths == ["/score", "/score?details=true", "/score"]


def test_without_a_champion_the_answer_says_so_and_what_to_do(bench: Bench) -> None:
    answer = score(bench.app)

    assert answer.status == 404
    assert "'diabetes'" in sentence(answer)
    assert "Push a project that trains it." in sentence(answer)


@pytest.mark.parametrize("how", [{"dies": True}, {"status": 503}, {"status": 500}])
def test_a_deployment_that_dies_or_stops_meanwhile_is_asked_for_its_successor(
    live: Bench, serve: Serve, how: dict[str, Any]
) -> None:
    ending, successor = serve(**how), serve(body=b"[8.0]")
    lead_to(live, of_version(1), ending.address)

    async def switch() -> Answer:
        asking = asyncio.create_task(ask(live.app))
        while not ending.asked:  # noqa: ASYNC110 - it is asked in another thread
            await asyncio.sleep(0.001)
        lead_to(live, of_version(1), successor.address)
        return await asking

    answer = run(live.app, switch())

    assert (answer.status, answer.body) == (200, b"[8.0]")
    assert [body for _, body in successor.asked] == [b"[[1]]"]


def test_a_deployment_that_is_gone_is_a_503_with_the_time_to_wait(live: Bench) -> None:
    live.deployer.delete(of_version(1))

    answer = score(impatient(live.app))

    assert answer.status == 503
    assert answer.headers["retry-after"] == "2"
    assert "Version 1 of model 'diabetes' is not answering at the moment" in sentence(answer)
    assert "Repeat the request." in sentence(answer)


def test_a_deployment_that_takes_no_connection_is_asked_for_its_successor(
    live: Bench, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container group that is gone may leave an address from which nothing comes back, not even a refusal."""
    monkeypatch.setattr(routing, "_CONNECT_SECONDS", 0.05)
    successor = serve(body=b"[8.0]")
    with socket.socket() as silent, contextlib.ExitStack() as waiting:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        for _ in range(2):  # fills its queue; the next connection gets no answer
            first = waiting.enter_context(socket.socket())
            first.setblocking(False)
            first.connect_ex(silent.getsockname())
        addresses = iter([f"http://127.0.0.1:{silent.getsockname()[1]}", successor.address])
        monkeypatch.setattr(live.app.router, "address", lambda _: next(addresses))

        answer = score(live.app)

    assert (answer.status, answer.body) == (200, b"[8.0]")


def test_a_deployment_that_refuses_connections_is_a_503_with_the_time_to_wait(live: Bench) -> None:
    lead_to(live, of_version(1), "http://127.0.0.1:9")

    answer = score(impatient(live.app))

    assert answer.status == 503
    assert answer.headers["retry-after"] == "2"
    assert "'diabetes'" in sentence(answer)


def test_a_deployment_that_is_overloaded_is_not_asked_again(live: Bench, serve: Serve) -> None:
    busy = serve(status=503, headers={"retry-after": "1"}, body=b'{"error": "The queue is full."}')
    lead_to(live, of_version(1), busy.address)

    answer = score(live.app)

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert len(busy.asked) == 1


def test_a_model_that_raises_is_not_asked_again(live: Bench, serve: Serve) -> None:
    raising = serve(status=500, headers={"x-headrace-model-version": "1"}, body=b'{"error": "The model raised."}')
    lead_to(live, of_version(1), raising.address)

    assert score(live.app).status == 500
    assert len(raising.asked) == 1


def test_an_address_that_failed_is_looked_up_again_however_late_it_is(
    live: Bench, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine may bring the first failure only after the patience is over."""
    monkeypatch.setattr(routing, "_PATIENCE_SECONDS", -1.0)
    ending, successor = serve(dies=True), serve()
    addresses = iter([ending.address, successor.address])
    monkeypatch.setattr(live.app.router, "address", lambda _: next(addresses))

    assert score(live.app).status == 200


def test_a_model_that_moved_is_asked_where_it_is_now_however_often_and_late(
    live: Bench, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine without a moment to spare, one switch is over before a connection of the last one is refused."""
    monkeypatch.setattr(routing, "_PATIENCE_SECONDS", -1.0)
    gone = [serve(dies=True).address for _ in range(3)]
    # Each is looked up to be asked, and once more after it failed, when the next has taken over already.
    addresses = itertools.chain([gone[0], gone[1], gone[2]], itertools.repeat(serve().address))
    monkeypatch.setattr(live.app.router, "address", lambda _: next(addresses))

    assert score(live.app).status == 200


def test_a_model_that_stays_where_it_fails_is_not_asked_for_ever(
    live: Bench, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "_PATIENCE_SECONDS", -1.0)
    dying = serve(dies=True)
    lead_to(live, of_version(1), dying.address)

    assert score(live.app).status == 503
    assert len(dying.asked) == 2


def test_a_request_over_the_limit_is_refused_before_anybody_is_asked(live: Bench, serve: Serve) -> None:
    deployment = serve()
    lead_to(live, of_version(1), deployment.address)
    app = replace(live.app, limits=Limits(score_bytes=100))

    assert score(app, b"x" * 100).status == 200
    answer = score(app, b"x" * 101)

    assert answer.status == 413
    assert "101 bytes; at most 100" in sentence(answer)
    assert len(deployment.asked) == 1


def test_many_requests_at_once_are_looked_up_once(live: Bench, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    lead_to(live, of_version(1), serve().address)
    router, looked = Router(live.app.world, monotonic=lambda: 0.0), []
    found = router.address
    monkeypatch.setattr(router, "address", lambda model: looked.append(model) or found(model))
    app = replace(live.app, router=router)

    async def all_at_once() -> list[Answer]:
        return await asyncio.gather(*(ask(app) for _ in range(20)))

    assert {answer.status for answer in run(app, all_at_once())} == {200}
    assert len(looked) == 1
