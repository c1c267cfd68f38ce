"""
RELIABILITY 6 on Azure: Azure ML, its MLflow, the resource manager and the topic answer 30% of calls with 429, 500 or 503.

Everything completes, what is asked to wait is waited, by the client itself where it is short and by the queue where it is
long, and it costs at most three times the calls. The genuine clients, real servers, a clock that tests move.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import aml_double
import arm_double
import pytest
from aml_double import AzureMlDouble
from aml_jobs import Job
from arm_double import GROUP, SUBSCRIPTION
from arm_registry import REGISTRY, Registry
from azure.core.credentials import AzureKeyCredential
from azure.core.pipeline.transport import HttpTransport
from container_bench import APP, ContainerBench, container_bench, request_for, stand_in_command, until

from mlops_core.adapters.azure.event_bus import EventGridBus
from mlops_core.adapters.azure.job_runner import AzureMlJobRunner
from mlops_core.adapters.azure.model_registry import AzureMlModelRegistry
from mlops_core.adapters.azure.scoring_image import ImageOptions, ScoringImages
from mlops_core.adapters.azure.source import CommitFiles
from mlops_core.adapters.azure.workspace import Workspace
from mlops_core.adapters.clock import SystemClock
from mlops_core.adapters.http_retry import Timing
from mlops_core.adapters.mlflow_api import MlflowApi
from mlops_core.domain.errors import TemporaryError
from mlops_core.domain.ids import JobName
from mlops_core.pipelines.plan import EnvironmentSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]
SEED = 6
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
# As the effect queue: the longer of what is asked and a pause of its own.
QUEUE_SECONDS = 5.0
RUNNING = JobName("refused-train")


@dataclass
class Clock:
    seconds: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    @property
    def timing(self) -> Timing:
        return Timing(
            sleep=self.sleep, monotonic=lambda: self.seconds, now=lambda: BEGIN + timedelta(seconds=self.seconds)
        )


@dataclass
class Refusing:
    """Refuses some of the calls, and looks whether its wish to be left alone is kept; per service, as Azure counts."""

    clock: Clock
    share: float = 0.3
    random: random.Random = field(default_factory=lambda: random.Random(SEED))
    not_before: dict[str, float] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    too_early: int = 0
    always: tuple[int, dict[str, str]] | None = None

    def __call__(self, service: str) -> tuple[int, dict[str, str]] | None:
        self.calls[service] += 1
        if self.always is not None:
            return self.always
        self.too_early += self.clock.seconds < self.not_before.get(service, 0.0)
        if self.random.random() >= self.share:
            return None
        self.refused[service] += 1
        kind = self.random.choice(["429", "429 ms", "503", "500"])
        if kind == "500":
            return 500, {}
        seconds = self.random.choice([1, 3, 8, 40, 1800])
        self.not_before[service] = self.clock.seconds + seconds
        if kind.endswith("ms"):
            return 429, {"retry-after": str(seconds), "x-ms-retry-after-ms": str(seconds * 1000)}
        return int(kind), {"retry-after": str(seconds)}


class Topic:
    """A topic of Event Grid that refuses."""

    def __init__(self, refusing: Callable[[str], tuple[int, dict[str, str]] | None]) -> None:
        self.taken: list[bytes] = []
        topic = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, headers = refusing("Event Grid") or (200, {})
                if status == 200:
                    topic.taken.append(body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/api/events"
        self._thread = Thread(target=self._server.serve_forever, args=[0.02])
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclass
class Bench:
    workspace: Workspace
    containers: ContainerBench
    bus: EventGridBus
    images: ScoringImages
    clock: Clock
    refusing: Refusing
    topic: Topic

    def wishes(self) -> list[Callable[[], None]]:
        """The calls of these adapters, each of which is one request."""
        runner = AzureMlJobRunner(self.workspace, CommitFiles(_no_fetch), SystemClock())
        registry = AzureMlModelRegistry(self.workspace)
        deployer = self.containers.deployer()
        name = request_for().name
        return [
            lambda: _same(runner.status(RUNNING) is not None, True),
            lambda: _same(deployer._groups.names(), [name]),
            lambda: _same(registry.models() is not None, True),
            lambda: _same(
                len(self.workspace.mlflow.get("experiments/search", {"max_results": 1}, kind="x", name="x")) > 0, True
            ),
            lambda: _same(self.images.ensure(EnvironmentSpec(name="e", pip_requirements=("numpy",))).state, "building"),
            lambda: self.bus.publish(event_id="e", event_type="Headrace.GitPush", subject="s", data={}, at=BEGIN),
        ]


def _no_fetch(*_: Any) -> None:
    raise AssertionError("nothing is submitted here")


def _same(found: object, wanted: object) -> None:
    assert found == wanted


@pytest.fixture
def bench(
    azure_ml: AzureMlDouble, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    clock = Clock()
    refusing = Refusing(clock)
    monkeypatch.setattr(HttpTransport, "sleep", lambda _, seconds: clock.sleep(seconds))
    job = Job(RUNNING, {"jobType": "Pipeline", "jobs": {}, "inputs": {}, "settings": {}}, tmp_path, status="Running")
    azure_ml._jobs._jobs[RUNNING] = job
    azure_ml.complaints.clear()
    topic = Topic(refusing)
    mlflow = MlflowApi(
        lambda: workspace._tracking_address, token=workspace.mlflow._token, timing=clock.timing, advice="-"
    )
    monkeypatch.setitem(workspace.__dict__, "mlflow", mlflow)
    with container_bench(tmp_path, stand_in_command(APP)) as containers:
        containers.deployer().create(request_for())
        until(lambda: containers.deployer().status(request_for().name), lambda found: found.state == "ready")
        registry = Registry(containers.arm)
        containers.arm.parts.append(registry.answer)
        containers.arm.open_parts.append(registry.upload_or_log)
        images = ScoringImages(
            ImageOptions(
                subscription=SUBSCRIPTION, resource_group=GROUP, registry=REGISTRY, client=containers.arm.client_options
            ),
            object(),  # type: ignore[arg-type]  # see PlainToken
            containers.clock,
        )
        images.ensure(EnvironmentSpec(name="e", pip_requirements=("numpy",)))
        assert workspace._tracking_address
        azure_ml.trouble = lambda *_: _aml_fault(refusing("Azure ML"))
        containers.arm.trouble = lambda _: _arm_fault(refusing("resource manager"))
        bus = EventGridBus(topic.address, AzureKeyCredential("k"))
        yield Bench(workspace, containers, bus, images, clock, refusing, topic)
        azure_ml.trouble = lambda *_: None
        containers.arm.trouble = lambda _: None
        images.close()
    mlflow.close()
    topic.stop()
    del azure_ml._jobs._jobs[RUNNING]
    azure_ml.complaints.clear()


def _aml_fault(answer: tuple[int, dict[str, str]] | None) -> aml_double.Fault | None:
    return aml_double.Fault("*", "", answer[0], headers=answer[1]) if answer else None


def _arm_fault(answer: tuple[int, dict[str, str]] | None) -> arm_double.Fault | None:
    return arm_double.Fault(answer[0], headers=answer[1]) if answer else None


def until_done(wish: Callable[[], None], clock: Clock) -> int:
    """Deliver again as the queue does. Returns: How often it was delivered."""
    for delivery in range(1, 20):
        try:
            wish()
        except TemporaryError as error:
            clock.sleep(max(error.retry_after_seconds or 0.0, QUEUE_SECONDS))
        else:
            return delivery
    raise AssertionError(f"it never completed (seed {SEED})")


@pytest.mark.parametrize("count", [120, pytest.param(1_000, marks=pytest.mark.full)])
def test_azure_that_refuses_a_third_of_all_calls_is_asked_until_all_is_done(bench: Bench, count: int) -> None:
    wishes = bench.wishes()
    longest, deliveries = 0.0, 0
    for number in range(count):
        wish, before = wishes[number % len(wishes)], time.monotonic()
        deliveries += until_done(wish, bench.clock)
        longest = max(longest, time.monotonic() - before)

    assert bench.refusing.refused.keys() == {"Azure ML", "resource manager", "Event Grid"}
    assert bench.refusing.refused.total() > count // 5
    assert bench.refusing.too_early == 0, "Retry-After was not kept"
    assert bench.refusing.calls.total() <= 3 * count
    assert deliveries <= 2 * count
    assert len(bench.topic.taken) == count // len(wishes)


class AsleepError(Exception):
    """Somebody sleeps for longer than a function call may take."""


def test_no_client_sleeps_for_as_long_as_a_throttled_subscription_asks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDKs by themselves would sleep half an hour, in a function that ends after ten minutes."""

    def sleep(_: HttpTransport[Any, Any], seconds: float) -> None:
        raise AsleepError(seconds)

    monkeypatch.setattr(HttpTransport, "sleep", sleep)
    bench.refusing.always = (503, {"retry-after": "1800"})
    for wish in bench.wishes():
        before = bench.refusing.calls.total()
        with pytest.raises(TemporaryError) as asked:
            wish()
        assert asked.value.retry_after_seconds == 1800
        assert bench.refusing.calls.total() == before + 1
