"""
The whole Azure backend while its other side is in trouble.

Refused and throttled calls, answers that are lost after the work was done, events that never come, a full quota, an image
that cannot be pulled, groups that die: what was pushed ends live once, or says in a sentence what a person has to do.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import aml_double
import arm_double
import azurite
import pytest
from aml_double import AzureMlDouble
from azure.core.exceptions import ServiceRequestError, ServiceResponseError
from azure.core.pipeline.transport import RequestsTransport
from hosts_forms import Call, Reply
from tls import Certificate
from whole_cloud import TINY, Cloud, whole_cloud

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]

FILES = {**TINY, "src/train.py": TINY["src/train.py"].replace("RMSE", "0.5")}
# What Azure tells by itself, each of which reconciling must find without.
TOLD_BY_AZURE = {
    "Microsoft.MachineLearningServices.ModelRegistered",
    "Microsoft.MachineLearningServices.RunStatusChanged",
    "Microsoft.MachineLearningServices.RunCompleted",
    "Microsoft.Resources.ResourceWriteSuccess",
    "Microsoft.Resources.ResourceDeleteSuccess",
}


class Weather:
    """Troubles a share of all calls: some are refused, some are not answered though their work is done."""

    def __init__(self, seed: int, share: float) -> None:
        self.random = Random(seed)
        self.share = share
        self.met: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._lock = threading.Lock()

    def draw(self, service: str, *kinds: str) -> str:
        """Draw what happens to a call: nothing, or one of these kinds."""
        with self._lock:
            self.calls[service] += 1
            if self.random.random() >= self.share:
                return ""
            kind = self.random.choice(kinds)
            self.met[f"{service}: {kind}"] += 1
            return kind

    def of_azure_ml(self, method: str, path: str) -> aml_double.Fault | None:
        kind = self.draw("Azure ML", "429", "500", "503", "lost")
        if not kind:
            return None
        if kind == "lost":
            return aml_double.Fault(method, path, 503, after=True)
        return aml_double.Fault(method, path, int(kind), headers={"retry-after": "1"} if kind == "429" else {})

    def of_the_resource_manager(self, _: arm_double.Request) -> arm_double.Fault | None:
        kind = self.draw("resource manager", "429", "500", "503", "cut", "lost")
        if not kind:
            return None
        if kind in ("cut", "lost"):
            return arm_double.Fault(cut=True, after=kind == "lost")
        return arm_double.Fault(int(kind), headers={"retry-after": "1"} if kind == "429" else {})

    def of_github(self, _: Call) -> Any:
        kind = self.draw("GitHub", "429", "502", "cut before", "cut after")
        return Reply(int(kind), b"", {"retry-after": "1"}) if kind.isdigit() else kind or None

    @contextmanager
    def over(self, cloud: Cloud, places: dict[str, str]) -> Iterator[None]:
        """Trouble all that the controller calls, until the block ends."""
        real = RequestsTransport.send

        def send(transport: RequestsTransport, request: Any, **options: Any) -> Any:
            service = next((name for place, name in places.items() if request.url.startswith(place)), None)
            # What the Functions host asks of its queue is not the controller's.
            if service is None or (service == "queue" and request.method != "POST"):
                return real(transport, request, **options)
            kind = self.draw(service, "unreachable", "lost")
            if kind == "unreachable":
                raise ServiceRequestError("asked for by a test")
            answer = real(transport, request, **options)
            if kind == "lost":
                raise ServiceResponseError("asked for by a test")
            return answer

        patch = pytest.MonkeyPatch()
        patch.setattr(RequestsTransport, "send", send)
        cloud.azure_ml.trouble = self.of_azure_ml
        cloud.bench.arm.trouble = self.of_the_resource_manager
        cloud.github.trouble = self.of_github
        try:
            yield
        finally:
            patch.undo()
            cloud.azure_ml.trouble = lambda *_: None
            cloud.bench.arm.trouble = lambda _: None
            cloud.github.trouble = lambda _: None


@pytest.fixture
def cloud(
    account: azurite.Azurite, azure_ml: AzureMlDouble, certificate: Certificate, tmp_path: Path
) -> Iterator[Cloud]:
    azure_ml.complaints.clear()
    azure_ml.faults.clear()
    with whole_cloud(tmp_path, account=account, azure_ml=azure_ml, certificate=certificate, files=FILES) as made:
        yield made
    assert azure_ml.complaints == []


def launches(cloud: Cloud, run_id: str) -> Counter[str]:
    """Count the jobs of a run that were really created."""
    return Counter(
        call.path.rsplit("/", 1)[-1].removeprefix(f"{run_id}-")
        for call in cloud.azure_ml.calls
        if call.method == "PUT" and f"/jobs/{run_id}-" in call.path and call.status == 201
    )


def run_of(cloud: Cloud, commit: str, *, seconds: float) -> str:
    """Wait for the run of a commit that nobody told of."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = cloud.client.get("/api/runs")
        for run in answer.json()["runs"] if answer.is_success else []:
            if run["commit"] == commit:
                return str(run["run_id"])
        time.sleep(0.3)
    raise AssertionError(f"no run of {commit}")


def answers(cloud: Cloud, *, seconds: float = 60) -> None:
    """Wait until the model answers again."""
    deadline = time.monotonic() + seconds
    while (answer := cloud.predict("tiny")).status_code != 200:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)
    assert answer.json() == pytest.approx([30.0])


def test_pushes_end_live_once_through_refusals_lost_answers_and_lost_events(
    cloud: Cloud, account: azurite.Azurite
) -> None:
    weather = Weather(seed=20261123, share=0.25)
    cloud.grid.lost = TOLD_BY_AZURE
    places = {account.table: "tables", account.queue: "queue", cloud.grid.address: "Event Grid"}
    first = cloud.push("First")
    with weather.over(cloud, places):
        cloud.wait(first, "live", seconds=280)
        # Its webhook is lost, so that looking at the branch has to find it.
        (cloud.repository.work / "note.txt").write_text("second")
        second = run_of(cloud, cloud.repository.commit("Second"), seconds=60)
        view = cloud.wait(second, "live", seconds=280)
    assert weather.calls.keys() == {"tables", "queue", "Event Grid", "Azure ML", "resource manager", "GitHub"}
    assert sum(weather.met.values()) > 0.15 * weather.calls.total()
    assert [launches(cloud, run) for run in (first, second)] == [Counter(build=1, train=1)] * 2
    assert cloud.bench.containers.restarted_in_place == []
    assert list(cloud.bench.containers.groups) == [f"tiny-v{view['version']}"]
    answers(cloud)
    assert cloud.host.queue.poisoned == []
    assert cloud.app.world.dead_letters.list().items == []
