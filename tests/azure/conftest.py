"""The Azure backend's other side, on loopback: storage, an Azure ML workspace, and a credential that it takes."""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import azurite
from aml_double import AzureMlDouble
from aml_jobs import JobHouse
from tls import Certificate, make_certificate

from mlops_core.adapters.azure.workspace import Workspace, WorkspaceOptions
from mlops_core.adapters.local.mlflow_server import MlflowServer

DOMAIN = "core.localhost"
PLAIN = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}  # noqa: TID251 - real processes


class LoopbackCredential:
    """Tokens in the form that the clients look into; nobody on loopback checks a signature."""

    def get_token(self, *scopes: str, **_: Any) -> Any:
        from azure.core.credentials import AccessToken

        audience = scopes[0].removesuffix("/.default").rstrip("/")
        parts = [{"alg": "none", "typ": "JWT"}, {"aud": audience, "oid": "o", "tid": "t"}]
        head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
        return AccessToken(f"{head}.{body}.eA", int(time.time()) + 3600)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certificate]:
    """A certificate that this process' clients trust."""
    made = make_certificate(tmp_path_factory.mktemp("tls"), f"{azurite.ACCOUNT}.blob.{DOMAIN}")
    patch = pytest.MonkeyPatch()
    patch.setenv("REQUESTS_CA_BUNDLE", str(made.certificate))
    patch.setenv("SSL_CERT_FILE", str(made.certificate))
    real = socket.getaddrinfo

    def resolve(host: Any, *others: Any, **named: Any) -> Any:
        known = isinstance(host, str) and host.endswith(f".{DOMAIN}")
        return real("127.0.0.1" if known else host, *others, **named)

    # azure-ai-ml uploads data to https://ACCOUNT.blob.DOMAIN, a name that no name server knows here.
    patch.setattr(socket, "getaddrinfo", resolve)
    yield made
    patch.undo()


@pytest.fixture(scope="session")
def account(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[azurite.Azurite]:
    with azurite.running(tmp_path_factory.mktemp("account"), (certificate.certificate, certificate.key)) as running:
        yield running


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow") / "data", environment=PLAIN)
    server.start()
    try:
        server.wait_until_ready()
        yield server.address
    finally:
        server.stop()


@pytest.fixture(scope="session")
def azure_ml(
    certificate: Certificate, account: azurite.Azurite, tracking: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AzureMlDouble]:
    house = JobHouse(tmp_path_factory.mktemp("jobs"), account, tracking, PLAIN)
    double = AzureMlDouble(account, certificate, house)
    double.start()
    yield double
    double.stop()


def workspace_of(double: AzureMlDouble, account: azurite.Azurite) -> Workspace:
    """The adapters' own workspace object, pointed at the double."""
    port = account.blob.split(":")[2].split("/")[0]
    cloud = {
        "azure_portal": "https://portal.azure.com/",
        "resource_manager": f"{double.address}/",
        "active_directory": "https://login.microsoftonline.com/",
        "aml_resource_id": "https://ml.azure.com/",
        "storage_endpoint": f"{DOMAIN}:{port}",
        "registry_discovery_endpoint": f"{double.address}/",
    }
    options = WorkspaceOptions(
        subscription="00000000-0000-0000-0000-000000000001",
        resource_group="group",
        workspace="workspace",
        client={"cloud": "loopback", "cloud_metadata": cloud},
    )
    return Workspace(options, LoopbackCredential())


@pytest.fixture(scope="session")
def workspace(azure_ml: AzureMlDouble, account: azurite.Azurite) -> Workspace:
    return workspace_of(azure_ml, account)
