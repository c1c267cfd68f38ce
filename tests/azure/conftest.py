"""The Azure backend's other side, on loopback: storage, an Azure ML workspace, and a credential that it takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import azurite
from aml_double import AzureMlDouble
from aml_jobs import JobHouse
from loopback import PLAIN, trusted_certificate, workspace_of
from tls import Certificate

from mlops_core.adapters.azure.workspace import Workspace
from mlops_core.adapters.local.mlflow_server import MlflowServer


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certificate]:
    with trusted_certificate(tmp_path_factory.mktemp("tls")) as made:
        yield made


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


@pytest.fixture(scope="session")
def workspace(azure_ml: AzureMlDouble, account: azurite.Azurite) -> Workspace:
    return workspace_of(azure_ml, account)
