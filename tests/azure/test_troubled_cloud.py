"""
The whole Azure backend while its other side is in trouble.

Refused and throttled calls, answers that are lost after the work was done, events that never come, a full quota, an image
that cannot be pulled, groups that die: what was pushed ends live once, or says in a sentence what a person has to do.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

from mlops_core.domain.ids import ModelName

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]

FILES = {
    **TINY,
    "mlops.yaml": TINY["mlops.yaml"] + "build: {environment: current, test: python -V}\n",
    "src/train.py": TINY["src/train.py"].replace("RMSE", "0.5"),
}
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


@pytest.fixture(scope="module")
def shared(
    account: azurite.Azurite,
    azure_ml: AzureMlDouble,
    certificate: Certificate,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cloud]:
    azure_ml.complaints.clear()
    azure_ml.faults.clear()
    folder = tmp_path_factory.mktemp("cloud")
    with whole_cloud(folder, account=account, azure_ml=azure_ml, certificate=certificate, files=FILES) as made:
        yield made
    assert azure_ml.complaints == []


@pytest.fixture
def cloud(shared: Cloud) -> Iterator[Cloud]:
    """The cloud that all tests of this file share, in good weather again."""
    yield shared
    shared.grid.lost, shared.grid.held = set(), None
    shared.bench.containers.quota = 100
    shared.bench.containers.is_there = lambda _: True


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
            if run["run_id"] == f"tiny-{commit[:12]}":
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


def pushed(cloud: Cloud, message: str) -> str:
    """Push another commit. Returns its run's id."""
    (cloud.repository.work / "note.txt").write_text(message)
    return cloud.push(message)


def served(cloud: Cloud) -> str:
    """Make sure that something is in service. Returns its version."""
    if cloud.app.world.models.load(ModelName("tiny")).value.champion is None:
        cloud.wait(pushed(cloud, "Something to lose"), "live")
    answers(cloud)
    champion = cloud.app.world.models.load(ModelName("tiny")).value.champion
    assert champion is not None
    return str(champion.version)


def groups(cloud: Cloud) -> list[str]:
    return sorted(cloud.bench.containers.groups)


def until(read: Callable[[], Any], wanted: Any, *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while (found := read()) != wanted:
        assert time.monotonic() < deadline, f"{found}, not {wanted}"
        time.sleep(0.1)


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
    until(lambda: groups(cloud), [f"tiny-v{view['version']}"])
    answers(cloud)
    assert cloud.host.queue.poisoned == []
    assert cloud.app.world.dead_letters.list().items == []


def test_events_that_come_after_everything_tripled_and_the_last_first_change_nothing(cloud: Cloud) -> None:
    served(cloud)
    cloud.grid.held = []
    run_id = pushed(cloud, "Nobody tells")
    # The push itself is told by an event; without it the look at the branch finds the commit.
    view = cloud.wait(run_id, "live")
    until(lambda: groups(cloud), [f"tiny-v{view['version']}"])
    before = cloud.client.get("/api/runs").json()["runs"]
    told = cloud.grid.release(times=3)
    assert {"Headrace.GitPush", "Microsoft.MachineLearningServices.ModelRegistered"} <= set(told)
    assert {"Microsoft.MachineLearningServices.RunCompleted", "Microsoft.Resources.ResourceWriteSuccess"} <= set(told)
    assert [(run["run_id"], run["state"]) for run in cloud.client.get("/api/runs").json()["runs"]] == [
        (run["run_id"], run["state"]) for run in before
    ]
    assert launches(cloud, run_id) == Counter(build=1, train=1)
    assert (cloud.grid.dead, cloud.app.world.dead_letters.list().items) == ([], [])
    answers(cloud)


def test_an_image_that_cannot_be_pulled_ends_the_run_with_what_to_do_and_the_champion_serves_on(cloud: Cloud) -> None:
    version = served(cloud)
    cloud.bench.containers.is_there = lambda _: False
    view = cloud.wait(pushed(cloud, "No image"), "failed")
    assert "cannot be pulled" in view["reason"]
    assert "'AcrPull'" in view["reason"]
    answers(cloud)
    until(lambda: groups(cloud), [f"tiny-v{version}"])
    assert served(cloud) == version


def test_a_full_quota_ends_the_run_with_what_to_do_and_its_replay_goes_live_once_there_is_room(cloud: Cloud) -> None:
    version = served(cloud)
    cloud.bench.containers.quota = 1
    run_id = pushed(cloud, "No room")
    view = cloud.wait(run_id, "failed")
    assert "a quota of Container Instances in 'westeurope' is reached" in view["reason"]
    assert "under 'Quotas'" in view["reason"]
    assert (groups(cloud), served(cloud)) == ([f"tiny-v{version}"], version)
    cloud.bench.containers.quota = 100
    (letter,) = cloud.app.world.dead_letters.list().items
    assert cloud.client.post(f"/api/dead-letters/{letter.letter_id}/replay", json={"by": "ada"}).is_success
    cloud.wait(run_id, "live")
    answers(cloud)
    assert launches(cloud, run_id) == Counter(build=1, train=1)


@pytest.mark.parametrize("end", ["killed", "deleted by somebody", "failed"])
def test_a_group_that_dies_in_service_is_made_again_and_answers(cloud: Cloud, end: str) -> None:
    version = served(cloud)
    name = f"tiny-v{version}"
    containers = cloud.bench.containers
    before = containers.groups[name]
    if end == "killed":
        containers.kill(name)
        until(lambda: before.generation > 1, wanted=True)
    else:
        if end == "failed":
            containers.fail(name, "Failed", "the node went away")
        else:
            containers.lose(name)
        until(lambda: containers.groups.get(name) not in (None, before), wanted=True)
    answers(cloud)
    assert (groups(cloud), served(cloud)) == ([name], version)
