"""Test 20, from the wire on: what hosts truly sign and nobody asked to be trained launches no training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from benches import quick_bench
from builders import PROJECT, Bench
from deliveries import AFTER, BEFORE, SECRET, SIGN, ZEROS, Delivery, body_of, github, gitlab, payload
from fakes import FakeBus

from handlers import events
from handlers.answers import Request
from handlers.inbound import read_envelope
from handlers.webhook import take_webhook
from mlops_core.adapters.hosts import build_verifiers
from mlops_core.application import Application, assemble
from mlops_core.domain.errors import NotFoundError
from mlops_core.domain.ids import JobName, ProjectName

LISTED = b"""
project: %s
triggers: {branches: [main]}
train: {pipeline: azureml/pipeline.yml, model: %s}
"""


class Wire:
    """An application that knows `owner/name` at every host, and its webhook."""

    def __init__(self, folder: Path) -> None:
        self.bench: Bench = quick_bench(folder)
        source = self.bench.source
        read = source.read_file

        def manifest_of(project: object, commit: object, path: str, *, limit_bytes: int = 1_000_000) -> bytes:
            name = getattr(project, "name", "").encode()
            return LISTED % (name, name) if path == "mlops.yaml" else read(project, commit, path)  # type: ignore[arg-type]

        source.read_file = manifest_of  # type: ignore[method-assign] # this bench only
        world = replace(self.bench.app.world, sources=dict.fromkeys(SIGN, source))
        self.app: Application = assemble(world, verifiers=build_verifiers({host: [SECRET] for host in SIGN}))
        self.bench.app = self.app
        for host in SIGN:
            record = replace(PROJECT, name=ProjectName(host), host=host, repository="owner/name")
            self.app.world.projects.put(record)

    def deliver(self, host: str, delivery: Delivery) -> None:
        """Hand on the delivery, and then the events that it published, as Event Grid would."""
        request = Request(body=delivery.body, headers=delivery.headers, params={"host": host})
        bus: FakeBus = self.bench.bus
        bus.published.clear()
        try:
            assert take_webhook(self.app, request).status == 202
        except NotFoundError:
            return
        for event_id, event in bus.published.items():
            raw = {"id": event_id, "eventType": event["type"], "subject": event["subject"], "data": event["data"]}
            events.take_event(self.app, read_envelope(json.loads(json.dumps(raw | {"eventTime": str(event["at"])}))))

    def work_off(self) -> None:
        """Let everything follow: end all jobs well, until there are no more."""
        for _ in range(3):
            self.bench.settle(rounds=1)
            for name in [name for name, status in self.bench.jobs.statuses.items() if status.outcome is None]:
                self.bench.jobs.end(name, "succeeded")
                self.app.intake.job_told(JobName(name), "succeeded")
        self.bench.settle(rounds=1)

    def trained(self) -> list[str]:
        return sorted(name for name in self.bench.jobs.launches if name.endswith("-train"))


def unwanted(random: Random, host: str) -> Delivery:
    """Make up a genuine delivery that must not lead to a training."""
    new = f"{random.getrandbits(160) | 1:040x}"
    kind = random.choice(["fork", "pull request", "tag", "moved tag", "unlisted", "deletion", "moved branch", "ping"])
    sign = SIGN[host]
    if kind == "fork":
        return sign(json.dumps(payload(host, after=new)).replace("owner", "stranger").encode())
    if kind == "tag":
        return sign(body_of(host, ref="refs/tags/main", before=ZEROS, after=new))
    if kind == "moved tag":
        return sign(body_of(host, ref="refs/tags/main", after=new))
    if kind == "unlisted":
        ref = random.choice(
            ["feature", "Main", "main2", "x/main", "main-", "refs/heads/main", "pull/1/head", "m\u0430in"]
        )
        return sign(body_of(host, ref=f"refs/heads/{ref}", before=ZEROS, after=new))
    if kind == "deletion":
        return sign(body_of(host, before=new, after=ZEROS))
    if kind == "moved branch":
        return sign(body_of(host, before=random.choice([new, ZEROS, BEFORE]), after=AFTER))
    return no_push(host, new, kind)


def no_push(host: str, new: str, kind: str) -> Delivery:
    """Sign an event of another kind, with a push's keys in it where the host would have none."""
    body = body_of(host, ref="refs/pull/7/merge" if host in ("azure-devops", "local") else "refs/heads/main", after=new)
    if host in ("github", "gitea"):
        return SIGN[host](body, event="ping" if kind == "ping" else "pull_request")
    if host == "gitlab":
        other = {**payload(host, after=new), "object_kind": "merge_request"}
        return gitlab(json.dumps(other).encode(), event="Merge Request Hook")
    if host.startswith("bitbucket"):
        return SIGN[host](body, event="diagnostics:ping" if kind == "ping" else "pullrequest:created")
    return SIGN[host](body)


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    made = Wire(tmp_path)
    yield made
    made.bench.database.close()


def deliver_unwanted(wire: Wire, count: int) -> None:
    random = Random(20)
    for host, sign in SIGN.items():
        wire.deliver(host, sign(body_of(host)))
    wire.work_off()
    for number in range(count):
        host = random.choice(list(SIGN))
        wire.deliver(host, unwanted(random, host))
        if number % 100 == 99:
            wire.work_off()
    wire.work_off()


ONE_EACH = sorted(f"{host}-{AFTER[:12]}-train" for host in SIGN)


def test_sixty_unwanted_deliveries_train_nothing_more_than_the_one_wanted_push_of_each_host(wire: Wire) -> None:
    deliver_unwanted(wire, 60)

    assert wire.trained() == ONE_EACH
    assert len(wire.bench.jobs.launches) > 2 * len(SIGN), "unlisted branches are built"
    assert wire.bench.jobs.launches == dict.fromkeys(wire.bench.jobs.launches, 1)


@pytest.mark.full
def test_five_hundred_unwanted_deliveries_train_nothing_more(wire: Wire) -> None:
    deliver_unwanted(wire, 500)

    assert wire.trained() == ONE_EACH
    assert wire.bench.jobs.launches == dict.fromkeys(wire.bench.jobs.launches, 1)


def test_a_wanted_delivery_more_trains_once_more(wire: Wire) -> None:
    """The other side: the tests above would pass with a wire that delivers nothing."""
    deliver_unwanted(wire, 0)
    for _ in range(2):
        wire.deliver("github", github(body_of("github", before=AFTER, after="c" * 40)))
    wire.work_off()

    assert set(wire.trained()) - set(ONE_EACH) == {f"github-{'c' * 12}-train"}
