"""One real MLflow server for the whole session, with what a few jobs left in it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_core.adapters.local.mlflow_server import MlflowServer
from mlops_core.adapters.mlflow_api import MlflowApi

PLAIN_ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}  # noqa: TID251  a test starts real processes


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
    folder = tmp_path_factory.mktemp("session")
    environment = {**PLAIN_ENVIRONMENT, "MLFLOW_TRACKING_URI": mlflow_server.address}
    command = [sys.executable, str(Path(__file__).with_name("mlflow_session.py")), str(folder / "facts.json")]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    facts: dict[str, str] = json.loads((folder / "facts.json").read_text())
    return facts
