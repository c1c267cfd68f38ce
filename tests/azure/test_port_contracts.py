"""The contracts of ports on Azure ML: the suites that the laptop's adapters pass, against the double of a workspace."""

from __future__ import annotations

import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from aml_double import AzureMlDouble
from job_runner_contract import JobRunnerContract
from registry_contract import JOBS, ModelRegistryContract, register_everything
from tls import Certificate

from mlops_core.adapters.azure.job_runner import AzureMlJobRunner
from mlops_core.adapters.azure.model_registry import AzureMlModelRegistry
from mlops_core.adapters.azure.source import CommitFiles
from mlops_core.adapters.azure.workspace import Workspace
from mlops_core.adapters.clock import SystemClock
from mlops_core.domain.ids import CommitId, ModelName
from mlops_core.ports import JobRunner, ModelRegistry, ProjectRecord

# azure-ai-ml and what it stands on warn of their own future.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def _no_complaints(azure_ml: AzureMlDouble) -> Iterator[None]:
    """What Azure's own specifications refuse fails each of these tests."""
    azure_ml.complaints.clear()
    azure_ml.faults.clear()
    yield
    assert azure_ml.complaints == []


def fetch(project: ProjectRecord, commit: CommitId, folder: Path) -> None:
    """Put a commit's files into a folder, as a host's archive of it would have them."""
    archive = subprocess.run(
        ["git", "-C", project.clone_url, "archive", commit], check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "--extract", "--directory", str(folder)], check=True, input=archive)


class TestAzureMlJobRunner(JobRunnerContract):
    @pytest.fixture
    def runner(self, workspace: Workspace, certificate: Certificate) -> Iterator[JobRunner]:
        with httpx.Client(verify=ssl.create_default_context(cafile=str(certificate.certificate))) as http:
            yield AzureMlJobRunner(workspace, CommitFiles(fetch), SystemClock(), http=http)


class TestAzureMlModelRegistry(ModelRegistryContract):
    # Other tests register models of the example in this workspace.
    model = ModelName("contract")

    @pytest.fixture(scope="class")
    def registered(self, azure_ml: AzureMlDouble, tracking: str, tmp_path_factory: pytest.TempPathFactory) -> None:
        """Two pipeline jobs, and what their steps and somebody else registered."""
        for name in JOBS:
            azure_ml.add_ended_job(name, created_at=time.time())
        register_everything(tracking, tmp_path_factory.mktemp("session"), self.model)

    @pytest.fixture
    def registry(self, registered: None, workspace: Workspace) -> ModelRegistry:
        return AzureMlModelRegistry(workspace)
