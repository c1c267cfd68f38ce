"""
RELIABILITY 24 on Azure: 20 marked secrets through pushes that go well and badly, none found where it does not belong.

Looked through: what is logged, every row, blob and event, what the function app answers, what stands beside the commits, and
every request that leaves the process: a secret may be in the header that proves who asks, sent to the service that it is of,
and in the parts of a container group that Azure keeps to itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import azurite
import hosts_double
import hosts_forms
import httpx
import pytest
import whole_cloud
from aml_double import Fault
from azure.core.pipeline.transport import RequestsTransport
from azure.data.tables import TableServiceClient
from azure.storage.blob import BlobServiceClient
from hosts_forms import Call, Reply
from loopback import LoopbackCredential
from marked import found_in, marked
from whole_cloud import TINY, Cloud

from mlops_core.settings import HostSettings, Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]

SECRETS = [marked(number) for number in range(20)]
WEBHOOK, TOPIC, TOKEN, LINK, BEARER, LOG_KEY = SECRETS[:6]
ENVIRONMENT = (
    "HEADRACE_KEY", "AZURE_CLIENT_SECRET", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "MLFLOW_TRACKING_PASSWORD",
    "SOME_API_KEY", "SMTP_PASSWORD", "DATABASE_PASSWORD",
)  # fmt: skip
KEPT_BY_AZURE = ("secureValue", "workspaceKey")
SIGNATURE = re.compile(rb"[?&]sig=[A-Za-z0-9%+/]{20,}")
CURIOUS = "import os, sys\nprint('arguments', sys.argv, 'environment', dict(os.environ), flush=True)\n"
FILES = {**TINY, "src/train.py": CURIOUS + TINY["src/train.py"].replace("RMSE", "0.5")}


class MarkedCredential(LoopbackCredential):
    """Tokens whose signature is a marked secret."""

    def get_token(self, *scopes: str, **options: Any) -> Any:
        token = super().get_token(*scopes, **options)
        return token._replace(token=f"{token.token.rpartition('.')[0]}.{BEARER}")


def marked_settings(**given: Any) -> Settings:
    """The settings of the whole cloud, with more secrets in them."""
    hosts = {
        **given["hosts"],
        "gitea": HostSettings(token=SECRETS[6], base_url="https://git.example.com"),  # type: ignore[arg-type] - made a secret
        "bitbucket": HostSettings(token=SECRETS[7], user="ci@example.com"),  # type: ignore[arg-type] - the same
    }
    webhooks = {"github": (WEBHOOK, SECRETS[8]), "gitlab": (SECRETS[9],), "gitea": (SECRETS[10], SECRETS[11])}
    more = {"hosts": hosts, "webhook_secrets": webhooks, "log_analytics_id": "w", "log_analytics_key": LOG_KEY}
    return Settings(**{**given, **more})


@dataclass
class Wire:
    """Holds every request of this process' clients against the secrets."""

    own: dict[str, tuple[str, ...]]
    """Per secret, the addresses that it may be sent to as a proof."""
    leaks: set[str] = field(default_factory=set)
    proofs: set[str] = field(default_factory=set)

    def look(self, method: str, url: str, headers: dict[str, str], body: bytes) -> None:
        place = f"{method} {url.partition('?')[0]}"
        for name, value in headers.items():
            for secret in found_in(f"{name}: {value}".encode(), SECRETS):
                self.proofs.add(secret)
                if not url.startswith(self.own.get(secret, ("nowhere",))):
                    self.leaks.add(f"{secret} in header {name} of {place}")
        for secret in found_in(url.encode(), SECRETS):
            if secret != LINK or not url.startswith(self.own[LINK]):
                self.leaks.add(f"{secret} in the address {place}")
        self.leaks |= {f"{secret} in the body of {place}" for secret in found_in(_told(body), SECRETS)}


def _told(body: bytes) -> bytes:
    """Leave out of a description of a container group what Azure never gives back."""
    if not any(key.encode() in body for key in KEPT_BY_AZURE):
        return body

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without(each) for key, each in value.items() if key not in KEPT_BY_AZURE}
        return [without(each) for each in value] if isinstance(value, list) else value

    return json.dumps(without(json.loads(body))).encode()


def _bytes(body: Any) -> bytes:
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes):
        return body
    if hasattr(body, "read") and hasattr(body, "seek"):
        content = body.read()
        body.seek(0)
        return bytes(content)
    return b""


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    for number, name in enumerate(ENVIRONMENT):
        monkeypatch.setenv(name, SECRETS[12 + number])
    monkeypatch.setattr(whole_cloud, "SECRET", WEBHOOK)
    monkeypatch.setattr(whole_cloud, "TOPIC_KEY", TOPIC)
    monkeypatch.setattr(whole_cloud, "Settings", marked_settings)
    monkeypatch.setattr(whole_cloud, "LoopbackCredential", MarkedCredential)
    for module in (hosts_forms, hosts_double):
        monkeypatch.setattr(module, "TOKEN", TOKEN)
        monkeypatch.setattr(module, "LINK_SECRET", LINK)
    with whole_cloud.own_cloud(tmp_path, files=FILES) as made:
        yield made


@pytest.fixture
def account(cloud: Cloud) -> azurite.Azurite:
    return cloud.azure_ml._storage


@pytest.fixture
def wire(cloud: Cloud, account: azurite.Azurite, monkeypatch: pytest.MonkeyPatch) -> Wire:
    storage = f"https://{azurite.ACCOUNT}.blob."
    made = Wire(
        {
            TOKEN: (f"{cloud.github.base}/github/",),
            LINK: (cloud.github.archive_base,),
            TOPIC: (cloud.grid.address,),
            BEARER: (cloud.azure_ml.address, storage, account.blob),
        }
    )
    real, plain = RequestsTransport.send, httpx.HTTPTransport.handle_request

    def send(transport: RequestsTransport, request: Any, **options: Any) -> Any:
        body = _bytes(getattr(request, "content", None) or getattr(request, "data", None))
        made.look(request.method, request.url, dict(request.headers), body)
        return real(transport, request, **options)

    def handle(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        made.look(request.method, str(request.url), dict(request.headers), request.read())
        return plain(transport, request)

    monkeypatch.setattr(RequestsTransport, "send", send)
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)
    return made


def stored(account: azurite.Azurite) -> Iterator[tuple[str, bytes]]:
    """Read all that is kept: rows of tables, whatever is in blobs."""
    with TableServiceClient.from_connection_string(account.connection_string) as tables:
        for table in tables.list_tables():
            for row in tables.get_table_client(table.name).list_entities():
                for name, value in row.items():
                    content = value if isinstance(value, bytes) else str(value).encode()
                    yield f"table {table.name}, row {row['PartitionKey']} {row['RowKey']}, {name}", content
    with BlobServiceClient.from_connection_string(account.connection_string) as blobs:
        for container in blobs.list_containers():
            client = blobs.get_container_client(container.name)
            for blob in client.list_blobs():
                yield f"blob {container.name}/{blob.name}", client.download_blob(blob.name).readall()


def answered(cloud: Cloud) -> str:
    """Read all that the function app answers."""
    told = [cloud.client.get(f"/api/{path}").text for path in ("projects", "models", "deployments", "dead-letters")]
    for run in cloud.client.get("/api/runs").json()["runs"]:
        run_id = run["run_id"]
        told += [cloud.client.get(f"/api/runs/{run_id}{more}").text for more in ("", "/progress", "/logs/train")]
    return "\n".join(told)


def echoing(call: Call) -> Reply | None:
    """A host that tells in its refusal of a status what it was sent."""
    if call.method == "POST" and "/statuses/" in call.path:
        return Reply(401, {"message": f"Bad credentials: {call.headers.get('authorization')}"})
    return None


def test_no_marked_secret_is_found_where_it_does_not_belong(
    cloud: Cloud, wire: Wire, account: azurite.Azurite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for name in ("mlops_core", "handlers"):
        caplog.set_level("DEBUG", logger=name)
    first = cloud.push("First")
    cloud.wait(first, "live", seconds=280)
    assert cloud.predict("tiny").status_code == 200
    # A job that breaks, a workspace that refuses once, and a host that tells what it was sent.
    train = cloud.repository.work / "src" / "train.py"
    train.write_text(CURIOUS + "raise SystemExit(3)\n")
    cloud.azure_ml.faults.append(Fault("PUT", r"/jobs/", 500))
    cloud.github.trouble = echoing
    second = cloud.push("Second")
    view = cloud.wait(second, "failed", seconds=280)
    told = answered(cloud)
    cloud.github.trouble = lambda _: None

    assert "'PATH'" in told, "the project was curious, and its log shows what it saw"
    assert "SystemExit" in told or view["log_tail"]
    assert wire.proofs >= {TOKEN, TOPIC, BEARER}, "what proves who asks was sent to whom it is for"
    assert wire.leaks == set()
    places = [*stored(account), ("logs", caplog.text.encode()), ("answers", told.encode())]
    places.append(("events", json.dumps(cloud.grid.published).encode()))
    places.append(
        (
            "statuses",
            json.dumps(
                cloud.repository_statuses()
                if hasattr(cloud, "repository_statuses")
                else [body for _, body in cloud.github.forms["github"].repositories["acme/x"].statuses]
            ).encode(),
        )
    )
    wanted = [*SECRETS, azurite.KEY]
    assert [f"{secret} in {place}" for place, content in places for secret in found_in(content, wanted)] == []
    # The right that an address of storage carries is a secret as well.
    assert [place for place, content in places if not place.startswith("blob") and SIGNATURE.search(content)] == []
