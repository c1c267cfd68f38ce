"""One real MLflow server for the whole session, with what a few jobs left in it."""

from collections.abc import Iterator

import pytest
from registry_contract import DIABETES, PLAIN_ENVIRONMENT, register_everything

from mlops_core.adapters.local.mlflow_server import MlflowServer
from mlops_core.adapters.mlflow_api import MlflowApi


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("data") / "mlflow", environment=PLAIN_ENVIRONMENT)
    server.start()
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def mlflow_api(mlflow_server: MlflowServer) -> Iterator[MlflowApi]:
    api = MlflowApi(lambda: mlflow_server.address)
    yield api
    api.close()


@pytest.fixture(scope="session")
def registered(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `mlflow_session.py` registered: diabetes 1, 2 and twin 1 by job-a, diabetes 3 by job-b, it's 1 by none."""
    return register_everything(mlflow_server.address, tmp_path_factory.mktemp("session"), DIABETES)
