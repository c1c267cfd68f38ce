"""All of Azure's other side at once, and the function app composed against it."""

from __future__ import annotations

import gc
import hashlib
import hmac
import json
import shutil
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import azurite
import hosts_double
import hosts_forms
import httpx
import pytest
from aml_double import AzureMlDouble
from aml_jobs import JobHouse
from arm_containers import Containers
from arm_double import GROUP, LOCATION, SUBSCRIPTION, Answer, Request
from arm_registry import REGISTRY, Registry
from azure.data.tables import TableServiceClient
from azure.storage.queue import QueueServiceClient
from container_bench import IDENTITY, ContainerBench
from functions_host import EventGrid, Host, event_grid, functions_host
from loopback import DOMAIN, PLAIN, LoopbackCredential, cloud_of, trusted_certificate
from test_served_models import serving
from tls import Certificate

from mlops_core.adapters.azure.effect_queue import StorageEffectQueue
from mlops_core.adapters.azure.tables import StorageAccount
from mlops_core.adapters.local.mlflow_server import MlflowServer
from mlops_core.application import Application
from mlops_core.composition.azure import Elsewhere, build_azure
from mlops_core.domain.ids import ProjectName
from mlops_core.ports import ProjectRecord
from mlops_core.settings import HostSettings, Settings

EXAMPLE = Path(__file__).parents[2] / "examples" / "diabetes"
SECRET, TOPIC_KEY = "the webhook's secret", "the topic's key"
# A container resolves the storage account's name too; this stands for the name server.
SITE = f"""
import socket
real = socket.getaddrinfo
socket.getaddrinfo = lambda host, *a, **k: real(
    "127.0.0.1" if isinstance(host, str) and host.endswith(".{DOMAIN}") else host, *a, **k)
"""


@dataclass
class Repository:
    """A repository at GitHub, and its working copy."""

    work: Path
    bare: Path
    name: str = "acme/x"
    before: str = "0" * 40
    """The commit that was pushed last."""

    def commit(self, message: str) -> str:
        git = ["git", "-C", str(self.work), "-c", "user.name=ada", "-c", "user.email=ada@example.invalid"]
        for command in (
            ["add", "--all"],
            ["commit", "--quiet", "-m", message],
            ["push", "--quiet", str(self.bare), "main"],
        ):
            subprocess.run([*git, *command], check=True, capture_output=True)
        return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


# One step that registers a model as fast as MLflow can.
TINY = {
    "mlops.yaml": """
project: tiny
train: {pipeline: pipeline.yml, model: tiny}
release:
  gates: [{metric: rmse, max: 1}]
  stages: [{name: production, smoke: {request: sample.json, requests: 2}}]
""",
    "sample.json": '{"input_data": [[3.0]]}',
    "conda.yml": "name: tiny\ndependencies:\n- python=3.11\n- pip\n- pip:\n  - mlflow\n  - scikit-learn\n",
    "pipeline.yml": """
$schema: https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json
type: pipeline
experiment_name: tiny
jobs:
  train:
    type: command
    code: ./src
    command: python train.py
    environment:
      image: mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04
      conda_file: conda.yml
""",
    "src/train.py": """
import mlflow
import mlflow.sklearn
from sklearn.linear_model import LinearRegression

model = LinearRegression().fit([[1.0], [2.0]], [10.0, 20.0])
mlflow.log_metric("rmse", RMSE)
mlflow.sklearn.log_model(model, name="model", registered_model_name="tiny", pip_requirements=["mlflow", "scikit-learn"])
""",
}


def repository_of(folder: Path, files: dict[str, str] | None, *, name: str = "acme/x") -> Repository:
    """Make a repository of these files, or of the example."""
    work, bare = folder / "work", folder / "x.git"
    folder.mkdir(parents=True, exist_ok=True)
    if files is None:
        shutil.copytree(EXAMPLE, work)
    for path, text in (files or {}).items():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(text)
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(work)], check=True)
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(bare)], check=True)
    return Repository(work, bare, name)


@dataclass
class Cloud:
    app: Application
    host: Host
    grid: EventGrid
    azure_ml: AzureMlDouble
    bench: ContainerBench
    registry: Registry
    github: hosts_double.HostsDouble
    repository: Repository
    client: httpx.Client

    def push(self, message: str, repository: Repository | None = None) -> str:
        """Push, and have GitHub tell of it. Returns the run's id."""
        pushed = repository or self.repository
        before, commit = pushed.before, pushed.commit(message)
        pushed.before = commit
        payload = {
            "ref": "refs/heads/main",
            "before": before,
            "after": commit,
            "repository": {"full_name": pushed.name, "pushed_at": int(time.time())},
            "pusher": {"name": "ada"},
            "head_commit": {"id": commit, "message": message, "timestamp": datetime.now(UTC).isoformat()},
            "commits": [],
        }
        body = json.dumps(payload).encode()
        signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "x-github-event": "push",
            "x-github-delivery": str(uuid.uuid4()),
            "x-hub-signature-256": f"sha256={signature}",
            "content-type": "application/json",
        }
        answer = self.client.post("/api/webhooks/github", content=body, headers=headers)
        assert answer.status_code == 202, answer.text
        (run,) = answer.json()["runs"]
        return str(run["run_id"])

    def add(self, project: str, folder: Path, files: dict[str, str]) -> Repository:
        """Allow one more repository, `acme/PROJECT`."""
        made = repository_of(folder, files, name=f"acme/{project}")
        self.github.github.repositories[made.name] = hosts_forms.Repository(made.bare)
        address = f"{self.github.base}/github/{made.name}.git"
        self.app.world.projects.put(ProjectRecord(ProjectName(project), "github", made.name, address))
        return made

    def wait(self, run_id: str, *states: str, seconds: float = 200) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        view: dict[str, Any] = {}
        while time.monotonic() < deadline:
            answer = self.client.get(f"/api/runs/{run_id}")
            view = answer.json() if answer.is_success else {"state": f"{answer.status_code}"}
            if view["state"] in states:
                return view
            assert view["state"] not in {"failed", "rejected", "cancelled"} - set(states), json.dumps(view, indent=1)[
                :6000
            ]
            time.sleep(0.3)
        raise AssertionError(f"run {run_id} is {json.dumps(view, indent=1)[:6000]}")

    def predict(self, model: str = "diabetes") -> httpx.Response:
        sample = {"diabetes": "azureml/sample.json", "tiny": "sample.json"}[model]
        body = (self.repository.work / sample).read_bytes()
        return self.client.post(
            f"/api/models/{model}/score", content=body, headers={"content-type": "application/json"}
        )


def groups_by_name(containers: Containers, patch: pytest.MonkeyPatch) -> None:
    """Lead what is for a group's name to the port of its process, in every client of this process."""
    plain, plain_async = httpx.HTTPTransport.handle_request, httpx.AsyncHTTPTransport.handle_async_request

    def led(request: httpx.Request) -> None:
        if request.url.host.endswith(".azurecontainer.io"):
            port = containers.port(request.url.host)
            if port is None:
                raise httpx.ConnectError(f"nobody is at {request.url.host}", request=request)
            request.url = request.url.copy_with(host="127.0.0.1", port=port)

    def handle(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        led(request)
        return plain(self, request)

    async def handle_async(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        led(request)
        return await plain_async(self, request)

    patch.setattr(httpx.HTTPTransport, "handle_request", handle)
    patch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", handle_async)


def build_images(registry: Registry, stop: threading.Event) -> None:
    """Be the registry's build agent: every build takes a moment and goes well."""
    while not stop.wait(0.3):
        registry.finish(at=datetime.now(UTC))


def forget_records(account: azurite.Azurite) -> None:
    """Remove what an earlier test recorded: tests share an account, and runs are looked after for ever."""
    with TableServiceClient.from_connection_string(account.connection_string) as tables:
        for table in list(tables.list_tables()):
            if table.name.startswith("headrace"):
                tables.delete_table(table.name)
    with QueueServiceClient.from_connection_string(account.connection_string) as queues:
        for queue in list(queues.list_queues(name_starts_with="headrace")):
            queues.delete_queue(queue.name)


@contextmanager
def whole_cloud(
    folder: Path,
    *,
    account: azurite.Azurite,
    azure_ml: AzureMlDouble,
    certificate: Certificate,
    seed: int = 1,
    files: dict[str, str] | None = None,
    timer_seconds: float = 0.7,
) -> Iterator[Cloud]:
    """Compose the function app with `backend=azure`, and run everything that it talks to."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    patch = pytest.MonkeyPatch()
    with ExitStack() as stack:
        # The SDKs' clients end with the application, and their connections when nobody holds them any more.
        stack.callback(gc.collect)
        grid = stack.enter_context(event_grid(seed, TOPIC_KEY))
        github = stack.enter_context(hosts_double.running())
        bench = stack.enter_context(serving(folder / "groups", certificate))
        bench.containers.inherited["PYTHONPATH"] += f":{site}"
        registry = Registry(bench.arm)
        bench.arm.parts.append(registry.answer)
        bench.arm.open_parts.append(registry.upload_or_log)
        bench.arm.parts.insert(0, _told(bench, grid))
        stopping = threading.Event()
        builder = threading.Thread(target=build_images, args=[registry, stopping])
        builder.start()
        stack.callback(builder.join)
        stack.callback(stopping.set)
        groups_by_name(bench.containers, patch)
        stack.callback(patch.undo)
        azure_ml.on_event = grid.system_event
        repository = repository_of(folder, files)
        github.add("github", repository.bare)
        trusted = ssl.create_default_context(cafile=str(certificate.certificate))
        http = stack.enter_context(httpx.Client(verify=trusted, timeout=30))
        forget_records(account)
        app = _compose(account, azure_ml, grid, github, bench, http)
        names = StorageAccount(connection_string=account.connection_string)
        queue = StorageEffectQueue(names, name="headrace-effects")
        host = stack.enter_context(functions_host(app, queue.client(), timer_seconds=timer_seconds))
        grid.target = host.address
        client = stack.enter_context(httpx.Client(base_url=host.address, timeout=60))
        name = "diabetes" if files is None else "tiny"
        record = ProjectRecord(ProjectName(name), "github", "acme/x", f"{github.base}/github/acme/x.git")
        app.world.projects.put(record)
        yield Cloud(app, host, grid, azure_ml, bench, registry, github, repository, client)


def _told(bench: ContainerBench, grid: EventGrid) -> Any:
    """Tell Event Grid of writes to container groups, as the resource manager does."""

    def part(request: Request) -> Answer | None:
        if request.method in ("PUT", "DELETE") and "/containerGroups/" in request.path:
            kind = "ResourceWriteSuccess" if request.method == "PUT" else "ResourceDeleteSuccess"
            data = {"resourceUri": request.path, "operationName": "Microsoft.ContainerInstance/containerGroups/write"}
            grid.system_event({"eventType": f"Microsoft.Resources.{kind}", "subject": request.path, "data": data})
        return None

    return part


def _compose(
    account: azurite.Azurite,
    azure_ml: AzureMlDouble,
    grid: EventGrid,
    github: hosts_double.HostsDouble,
    bench: ContainerBench,
    http: httpx.Client,
) -> Application:
    given = github.options("github")
    settings = Settings(
        backend="azure",
        base_url="https://headrace.example.com",
        storage=account.connection_string,  # type: ignore[arg-type] - made a secret by the settings
        subscription=SUBSCRIPTION,
        resource_group=GROUP,
        location=LOCATION,
        workspace="workspace",
        workspace_resource_group="group",
        topic_endpoint=grid.address,
        topic_key=TOPIC_KEY,  # type: ignore[arg-type] - as above
        registry=REGISTRY,
        serving_identity=IDENTITY,
        serving_client_id="00000000-0000-0000-0000-00000000000c",
        webhook_secrets={"github": (SECRET,)},  # type: ignore[dict-item] - as above
        hosts={"github": HostSettings(token=given.token, base_url=given.base_url, archive_hosts=given.archive_hosts)},  # type: ignore[arg-type] - as above
        resend_after_seconds=15,
    )
    elsewhere = Elsewhere(
        credential=LoopbackCredential(),
        workspace=cloud_of(azure_ml, account),
        management=bench.arm.client_options,
        http=http,
        storage_hosts=(".blob.core.windows.net", f".blob.{account.blob.split('//')[1].split('/')[0]}"),
        plain_http=True,
    )
    return build_azure(settings, elsewhere)


@contextmanager
def own_cloud(folder: Path, *, files: dict[str, str]) -> Iterator[Cloud]:
    """A cloud for one test, with storage, tracking and workspace of its own."""
    place = folder / "cloud"
    for name in ("tls", "account", "jobs"):
        (place / name).mkdir(parents=True)
    with ExitStack() as stack:
        certificate = stack.enter_context(trusted_certificate(place / "tls"))
        account = stack.enter_context(azurite.running(place / "account", (certificate.certificate, certificate.key)))
        server = MlflowServer(place / "mlflow", environment=PLAIN)
        server.start()
        stack.callback(server.stop)
        server.wait_until_ready()
        double = AzureMlDouble(account, certificate, JobHouse(place / "jobs", account, server.address, PLAIN))
        double.start()
        stack.callback(double.stop)
        yield stack.enter_context(
            whole_cloud(folder, account=account, azure_ml=double, certificate=certificate, files=files)
        )
        assert double.complaints == []
