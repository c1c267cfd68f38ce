"""How many calls of Azure's services one run costs, and that a long history does not make it dearer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import azurite
import pytest
from aml_double import AzureMlDouble
from azure.core.pipeline.transport import RequestsTransport
from tls import Certificate
from whole_cloud import TINY, Cloud, whole_cloud

from mlops_core.domain import events as ev
from mlops_core.domain.ids import CommitId, ProjectName, run_of_push
from mlops_core.domain.machine import advance, settle
from mlops_core.domain.run import Run, Trigger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]

FILES = {**TINY, "src/train.py": TINY["src/train.py"].replace("RMSE", "0.5")}
DOCS = Path(__file__).parents[2] / "docs" / "azure.md"


@contextmanager
def counted(account: azurite.Azurite, azure_ml: AzureMlDouble, patch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count the requests that the SDKs really send, by service."""
    found: Counter[str] = Counter()
    real = RequestsTransport.send
    places = {account.table: "tables", account.queue: "queue", account.blob: "blobs", azure_ml.address: "Azure ML"}

    def send(self: RequestsTransport, request: Any, **options: Any) -> Any:
        service = next((name for place, name in places.items() if request.url.startswith(place)), None)
        if service is None and ".blob.core.localhost" in request.url:
            service = "blobs"
        if service is None:
            service = "Event Grid" if request.url.endswith("api-version=2018-01-01") else "resource manager"
        # An idle queue is asked all the time; on Azure the Functions host does that, far more rarely.
        if service != "queue" or request.method != "GET":
            found[service] += 1
        return real(self, request, **options)

    patch.setattr(RequestsTransport, "send", send)
    yield found
    patch.undo()


def bill(cloud: Cloud, found: Counter[str], message: str) -> Counter[str]:
    found.clear()
    before = cloud.host.queue.taken
    (cloud.repository.work / "note.txt").write_text(message)
    run_id = cloud.push(message)
    # By its event, since looking at the run would be calls too.
    cloud.grid.wait_for("Headrace.ReleaseLive", run_id, seconds=150)
    return Counter({**found, "effects": cloud.host.queue.taken - before})


def history_of(cloud: Cloud, count: int) -> None:
    """Write runs that ended long ago, as many pushes would have left them."""
    runs, long_ago = cloud.app.world.runs, datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(count):
        at = long_ago + timedelta(minutes=number)
        commit = CommitId(f"{number:012x}{0:028x}")
        trigger = Trigger(kind="push", ordinal=at, branch="main", commit=commit)
        run_id, project = run_of_push(ProjectName("tiny"), commit), ProjectName("tiny")
        run = settle(Run(id=run_id, project=project, trigger=trigger, created_at=at, updated_at=at))
        assert runs.create(run)
        cancelled = ev.RunCancelled(at=at, by="ada", reason="long ago")
        # All that it wanted was done, such as telling of its end.
        ended = advance(run, cancelled).model_copy(update={"pending": ()})
        assert ended.ended
        runs.commit(
            ended,
            read_version=runs.load(run_id).version,
            event=cancelled,
            entry_reason=ended.reason,
            recorded_at=at,
        )


def test_a_run_costs_what_the_docs_say_and_no_more_after_others(
    account: azurite.Azurite,
    azure_ml: AzureMlDouble,
    certificate: Certificate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        counted(account, azure_ml, monkeypatch) as found,
        whole_cloud(
            tmp_path, account=account, azure_ml=azure_ml, certificate=certificate, files=FILES, timer_seconds=6
        ) as cloud,
    ):
        bills = [bill(cloud, found, f"Push {number}") for number in range(2)]
        history_of(cloud, 150)
        bills.append(bill(cloud, found, "After many"))
        assert cloud.predict("tiny").json() == pytest.approx([30.0])
    assert bills[1]["Azure ML"] <= bills[0]["Azure ML"] + 5, bills
    assert bills[1]["effects"] <= bills[0]["effects"] + 4, bills
    # Each of 150 runs that was looked at once more would be in one of these.
    for service in ("tables", "queue", "blobs", "Event Grid", "Azure ML", "resource manager", "effects"):
        assert bills[2][service] <= bills[1][service] * 1.3 + 20, f"{service}: {bills}"
    text = DOCS.read_text()
    told = {name: int(number) for name, number in re.findall(r"^\| ([\w ]+) \| (\d+) \| per run", text, re.MULTILINE)}
    for service in ("tables", "queue", "blobs", "Event Grid", "Azure ML", "resource manager"):
        assert bills[1][service] <= told.get(service, 0), f"{service}: {bills}, the docs say {told}"
