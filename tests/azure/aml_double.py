"""
A stateful double of an Azure ML workspace: the resource manager's API, run history, and MLflow's REST API, over TLS.

Everything that the genuine client sends is held against the published specifications. A submitted job is really run: from
the code that was uploaded to the storage account, by the local executor, with a real MLflow server as its tracking and
registry. What is asked for and is not known gets the 404 that Azure gives.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aml_jobs
import azurite
import httpx
import uvicorn
from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, generate_container_sas
from specs import Specification
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tls import Certificate

SCOPE = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.MachineLearningServices/workspaces/[^/]+",
    re.IGNORECASE,
)
COLLECTIONS = ("environments", "codes", "components", "data", "models")
STORE = "workspaceblobstore"
CONTAINER = "azureml"
STORAGE_ID = f"/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/{azurite.ACCOUNT}"
# Which document is the judge of a request, by its api-version and part of the API.
SPECIFICATIONS = {
    ("jobs", "2024-01-01-preview"): "aml-jobs-2024-01-01-preview.oas3.json",
    ("jobs", "2023-04-01-preview"): "aml-jobs-2023-04-01-preview.oas3.json",
    ("jobs", "2024-10-01-preview"): "aml-jobs-2024-10-01-preview.oas3.json",
    ("components", "2024-01-01-preview"): "aml-jobs-2024-01-01-preview.oas3.json",
    ("codes", "2023-04-01"): "aml-codes-2023-04-01.oas3.json",
    ("models", "2023-08-01-preview"): "aml-models-2023-08-01-preview.oas3.json",
    ("environments", "2023-04-01-preview"): "aml-jobs-2023-04-01-preview.oas3.json",
    ("data", "2023-04-01-preview"): "aml-jobs-2023-04-01-preview.oas3.json",
    ("datastores", "2024-10-01-preview"): "aml-jobs-2024-10-01-preview.oas3.json",
    # Command jobs are made by a version that is not among the documents; the one before it is the judge.
    ("jobs", "2025-01-01-preview"): "aml-jobs-2024-10-01-preview.oas3.json",
}
# What is only read, and is in none of the documents: the workspace itself, and its computes.
READ_ONLY = ("", "computes")
# Where the genuine client itself, in every version that we know, sends something else than its specification says.
KNOWN_OF_THE_CLIENT = ("properties.properties.hash_version: 202208 is not of type 'string'",)
_cache: dict[str, Specification] = {}


def specification(part: str, version: str) -> Specification | None:
    name = SPECIFICATIONS.get((part, version))
    if name is None:
        return None
    if name not in _cache:
        _cache[name] = Specification(name)
    return _cache[name]


@dataclass
class Fault:
    """What to answer instead, for the next requests that match."""

    method: str
    path: str
    status: int
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False
    """True: the request does its work, and only the reply is cut."""


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    status: int


class AzureMlDouble:
    """One workspace."""

    def __init__(
        self,
        storage: azurite.Azurite,
        certificate: Certificate,
        jobs: aml_jobs.JobHouse,
        *,
        on_event: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self.port = azurite.free_port()
        self.address = f"https://127.0.0.1:{self.port}"
        self.calls: list[Call] = []
        self.complaints: list[str] = []
        self.faults: list[Fault] = []
        self.trouble: Callable[[str, str], Fault | None] = lambda *_: None
        """Asked for each request, by method and path, that no fault matches."""
        self.details: dict[str, dict[str, Any]] = {}
        """What run history says of a job besides or instead, such as why Azure ML could not even start it."""
        self.on_event = on_event
        self._storage = storage
        self._certificate = certificate
        self._jobs = jobs
        self._assets: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        self._lock = threading.RLock()
        jobs.bind(self)

    # ---------------------------------------------------------------- the server

    def start(self) -> None:
        BlobServiceClient.from_connection_string(self._storage.connection_string).create_container(CONTAINER)
        app = Starlette(routes=[Route("/{path:path}", self._serve, methods=["GET", "PUT", "POST", "PATCH", "DELETE"])])
        config = uvicorn.Config(
            app,
            host="127.0.0.1",
            port=self.port,
            ssl_certfile=str(self._certificate.certificate),
            ssl_keyfile=str(self._certificate.key),
            log_level="warning",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.02)

    def stop(self) -> None:
        # Clients keep their connections open, and closing one over TLS waits for its other side.
        for connection in list(self._server.server_state.connections):
            connection.loop.call_soon_threadsafe(connection.transport.abort)
        self._server.should_exit = True
        self._thread.join(timeout=10)
        # A client may have connected between the two lines above.
        self._server.force_exit = True
        self._thread.join(timeout=20)
        if self._thread.is_alive():
            # It ends with the process, and no test is about its end.
            sys.__stderr__.write(f"the double did not end:\n{stacks()}\n")  # type: ignore[union-attr]
        self._jobs.stop()

    async def _serve(self, request: Request) -> Response:
        raw = await request.body()
        return await run_in_threadpool(self._answer, request, raw)

    def _answer(self, request: Request, raw: bytes) -> Response:
        path, query = request.url.path, dict(request.query_params)
        if not path.startswith("/mlflow") and not path.startswith("/discovery"):
            token = request.headers.get("authorization", "")
            if not token.startswith("Bearer "):
                return JSONResponse({"error": {"code": "InvalidAuthenticationToken", "message": "no token"}}, 401)
        body = json.loads(raw) if raw and "json" in request.headers.get("content-type", "json") else None
        fault = self._fault(request.method, path)
        if fault is not None and not fault.after:
            return self._noted(
                request.method, path, query, body, _error(fault.status, "Fault", "asked for", fault.headers)
            )
        if path.startswith("/mlflow"):
            told = self._mlflow(request, path, raw)
            return told if fault is None else _error(fault.status, "Fault", "the reply was cut", fault.headers)
        faults = self._check(request.method, path, query, body)
        if faults:
            self.complaints += faults
            return self._noted(request.method, path, query, body, _error(400, "ValidationError", "; ".join(faults)))
        answer = self._route(request.method, path, query, body)
        self._noted(request.method, path, query, body, answer)
        spec = self._specification(path, query)
        if spec is not None:
            content = json.loads(answer.body) if answer.body else None
            self.complaints += _unknown(spec.faults_of_answer(request.method, path, answer.status_code, content))
        if fault is not None:
            return _error(fault.status, "Fault", "the work was done, the reply was cut", fault.headers)
        return answer

    def _noted(self, method: str, path: str, query: dict[str, str], body: Any, answer: Response) -> Response:
        with self._lock:
            self.calls.append(Call(method, path, query, body, answer.status_code))
        return answer

    def _fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method in (method, "*") and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return self.trouble(method, path)

    def _specification(self, path: str, query: dict[str, str]) -> Specification | None:
        rest = SCOPE.sub("", path).strip("/").split("/")
        return specification(rest[0], query.get("api-version", ""))

    def _check(self, method: str, path: str, query: dict[str, str], body: Any) -> list[str]:
        if not path.startswith("/subscriptions"):
            return []
        if "api-version" not in query:
            return [f"{method} {path}: no api-version"]
        part = SCOPE.sub("", path).strip("/").split("/")[0]
        if part in READ_ONLY:
            return [] if method == "GET" else [f"{method} {path}: no document knows it"]
        spec = self._specification(path, query)
        if spec is None or spec.operation(method, path) is None:
            return [f"{method} {path}?api-version={query['api-version']}: no document knows it"]
        return _unknown(spec.faults_of_request(method, path, query, body))

    # ---------------------------------------------------------------- what is asked for

    def _route(self, method: str, path: str, query: dict[str, str], body: Any) -> Response:
        if path == "/discovery":
            return JSONResponse({"api": self.address, "history": self.address})
        if path.startswith("/history/"):
            return self._history(method, path)
        scope = SCOPE.match(path)
        if scope is None:
            return _missing(path)
        rest = path[scope.end() :].strip("/").split("/")
        if rest == [""]:
            return self._workspace(path)
        match (rest[0], method):
            case ("jobs", _):
                return self._job(method, scope.group(), rest[1:], body)
            case ("datastores", _):
                return self._datastore(path, rest[1:])
            case ("computes", "GET") if len(rest) == 2:
                return self._compute(path, rest[1])
            case (collection, _) if collection in COLLECTIONS:
                return self._asset(method, scope.group(), rest, query, body)
        return _missing(path)

    def _workspace(self, path: str) -> Response:
        host = self.address.removeprefix("https://")
        properties = {
            "discoveryUrl": f"{self.address}/discovery",
            "mlFlowTrackingUri": f"azureml://{host}/mlflow/v1.0{path}",
            "storageAccount": STORAGE_ID,
            "provisioningState": "Succeeded",
            "workspaceId": str(uuid.UUID(int=7)),
        }
        name = path.rsplit("/", 1)[-1]
        return JSONResponse(
            {"id": path, "name": name, "location": "westeurope", "kind": "Default", "properties": properties}
        )

    def _datastore(self, path: str, rest: list[str]) -> Response:
        if rest and rest[0] != STORE:
            return _missing(path)
        properties = {
            "datastoreType": "AzureBlob",
            "accountName": azurite.ACCOUNT,
            "containerName": CONTAINER,
            "endpoint": f"core.localhost:{self._storage.blob.split(':')[2].split('/')[0]}",
            "protocol": "https",
            # As infra/ sets the workspace up: its stores are opened with identities.
            "credentials": {"credentialsType": "None"},
            "isDefault": True,
        }
        store = {"id": path if rest else f"{path}/{STORE}", "name": STORE, "properties": properties}
        return JSONResponse(store if rest else {"value": [store]})

    def _compute(self, path: str, name: str) -> Response:
        """Every compute is there: a cluster that nobody waits for."""
        properties = {
            "computeType": "AmlCompute",
            "provisioningState": "Succeeded",
            "computeLocation": "westeurope",
            "properties": {
                "vmSize": "Standard_DS3_v2",
                "vmPriority": "Dedicated",
                "scaleSettings": {"minNodeCount": 0, "maxNodeCount": 2},
                "osType": "Linux",
            },
        }
        return JSONResponse({"id": path, "name": name, "location": "westeurope", "properties": properties})

    # ---------------------------------------------------------------- assets

    def _asset(self, method: str, scope: str, rest: list[str], query: dict[str, str], body: Any) -> Response:
        collection, name = rest[0], rest[1] if len(rest) > 1 else ""
        path = f"{scope}/{'/'.join(rest)}"
        if collection == "models" and method == "GET":
            return self._models(scope, rest[1:])
        versions = self._assets.setdefault((collection, name), {})
        if len(rest) == 1:
            return JSONResponse({"value": []})
        if len(rest) == 2:
            return self._container(path, name, versions)
        if len(rest) == 3:
            newest = list(versions.values())[::-1]
            return JSONResponse({"value": newest[: int(query.get("$top", 100))]})
        version = rest[3]
        if method == "POST" and rest[4:] == ["startPendingUpload"]:
            return self._pending_upload(body, name)
        if method == "PUT":
            made = {
                "id": path,
                "name": version,
                "type": f"Microsoft.MachineLearningServices/workspaces/{collection}/versions",
                "systemData": _system_data(),
                "properties": {"isAnonymous": False, "tags": {}, "properties": {}, **body["properties"]},
            }
            known = version in versions
            if (
                known
                and collection in ("codes", "components")
                and versions[version]["properties"] != made["properties"]
            ):
                return _error(409, "Conflict", f"{collection} {name}:{version} cannot be changed")
            with self._lock:
                versions.setdefault(version, made)
            return JSONResponse(made, 200 if known else 201)
        found = versions.get(version)
        return JSONResponse(found) if found else _missing(path)

    def _container(self, path: str, name: str, versions: dict[str, Any]) -> Response:
        if not versions:
            return _missing(path)
        properties = {"latestVersion": list(versions)[-1], "tags": {}, "properties": {}, "dataType": "uri_file"}
        return JSONResponse({"id": path, "name": name, "properties": properties})

    def _pending_upload(self, body: Any, name: str) -> Response:
        container = f"code-{uuid.uuid5(uuid.NAMESPACE_URL, name)}"
        service = BlobServiceClient.from_connection_string(self._storage.connection_string)
        with contextlib.suppress(ResourceExistsError):
            service.create_container(container)
        address = f"{self._storage.blob}/{container}"
        permission = ContainerSasPermissions(read=True, write=True, list=True, create=True, add=True)
        expiry = datetime.now(UTC) + timedelta(hours=1)
        signature = generate_container_sas(
            azurite.ACCOUNT, container, azurite.KEY, permission=permission, expiry=expiry
        )
        reference = {
            "blobUri": address,
            "storageAccountArmId": STORAGE_ID,
            "credential": {"credentialType": "SAS", "sasUri": f"{address}?{signature}"},
        }
        return JSONResponse(
            {
                "pendingUploadId": body.get("pendingUploadId") or str(uuid.uuid4()),
                "pendingUploadType": "TemporaryBlobReference",
                "blobReferenceForConsumption": reference,
            }
        )

    def asset(self, reference: str) -> dict[str, Any]:
        """Find what a job refers to, by its id in the resource manager."""
        parts = reference.removeprefix("azureml:").strip("/").split("/")
        collection, name, version = parts[-4], parts[-3], parts[-1]
        return self._assets[(collection, name)][version]

    # ---------------------------------------------------------------- models: what is in MLflow's registry

    def _models(self, scope: str, rest: list[str]) -> Response:
        if not rest:
            names = self._jobs.model_names()
            listed = [
                {"id": f"{scope}/models/{name}", "name": name, "properties": {"tags": {}, "properties": {}}}
                for name in names
            ]
            return JSONResponse({"value": listed})
        entries = [self._model(scope, rest[0], entry) for entry in self._jobs.model_versions(rest[0])]
        if len(rest) == 1:
            if not entries:
                return _missing("/".join(rest))
            return JSONResponse(
                {
                    "id": f"{scope}/models/{rest[0]}",
                    "name": rest[0],
                    "properties": {"latestVersion": entries[0]["name"]},
                }
            )
        if len(rest) == 2:
            return JSONResponse({"value": entries})
        found = [entry for entry in entries if entry["name"] == rest[2]]
        return JSONResponse(found[0]) if found else _missing("/".join(rest))

    def _model(self, scope: str, name: str, entry: dict[str, Any]) -> dict[str, Any]:
        run_id = entry.get("run_id") or ""
        uri = self._jobs.published_model(name, entry)
        properties = {
            "modelUri": uri,
            "modelType": "mlflow_model",
            "flavors": {},
            "properties": {},
            "tags": {each["key"]: each["value"] for each in entry.get("tags", [])},
            "isAnonymous": False,
            "isArchived": False,
            "jobName": run_id,
            "provisioningState": "Succeeded",
        }
        return {
            "id": f"{scope}/models/{name}/versions/{entry['version']}",
            "name": str(entry["version"]),
            "type": "Microsoft.MachineLearningServices/workspaces/models/versions",
            "systemData": _system_data(int(entry["creation_timestamp"]) / 1000),
            "properties": properties,
        }

    # ---------------------------------------------------------------- jobs

    def _job(self, method: str, scope: str, rest: list[str], body: Any) -> Response:
        if not rest:
            return JSONResponse({"value": [self._job_resource(scope, job) for job in self._jobs.all()]})
        name, path = rest[0], f"{scope}/jobs/{rest[0]}"
        if method == "PUT":
            if self._jobs.find(name) is not None:
                return _error(409, "Conflict", f"a job named {name} exists already, and only its tags can change")
            job = self._jobs.submit(name, body["properties"])
            return JSONResponse(self._job_resource(scope, job), 201)
        job = self._jobs.find(name)
        if job is None:
            return _missing(path)
        if method == "POST" and rest[1:] == ["cancel"]:
            self._jobs.cancel(name)
            return Response(status_code=200)
        return JSONResponse(self._job_resource(scope, job))

    def _job_resource(self, scope: str, job: aml_jobs.Job) -> dict[str, Any]:
        properties = {
            "tags": {},
            "properties": {},
            "isArchived": False,
            "services": {},
            **job.properties,
            "status": job.status,
        }
        return {
            "id": f"{scope}/jobs/{job.name}",
            "name": job.name,
            "type": "Microsoft.MachineLearningServices/workspaces/jobs",
            "systemData": _system_data(job.created_at),
            "properties": properties,
        }

    def _history(self, method: str, path: str) -> Response:
        run_id, asked = path.split("/runs/", 1)[1].split("/", 1)
        if asked == "children":
            runs = [_run(child) for child in self._jobs.children(run_id)]
            return JSONResponse({"value": runs})
        files = {name: f"{self.address}/logs/{run_id}/{name}" for name in self._jobs.logs(run_id)}
        files = {name: self._jobs.log_address(run_id, name) for name in files}
        details = {"runId": run_id, "target": "local", "status": "Completed", "logFiles": files}
        return JSONResponse({**details, **self.details.get(run_id, {})})

    def add_ended_job(self, name: str, *, created_at: float) -> None:
        """Have a pipeline job that ended well, without running anything."""
        self._jobs.add_ended(name, created_at)

    def put_log(self, name: str, text: str) -> str:
        """Put a log beside those of jobs. Returns an address that carries its own right."""
        return self._jobs.published(f"more/{name}", text.encode())

    def _mlflow(self, request: Request, path: str, raw: bytes) -> Response:
        """Pass on to the real MLflow server what is asked under the workspace's own address."""
        if not request.headers.get("authorization", "").startswith("Bearer "):
            return JSONResponse({"error_code": "UNAUTHENTICATED"}, 401)
        inner = path[path.index("/api/2.0/") :]
        answer = httpx.request(
            request.method,
            f"{self._jobs.tracking_uri}{inner}",
            params=dict(request.query_params),
            content=raw or None,
            headers={"content-type": "application/json"},
        )
        return Response(answer.content, answer.status_code, media_type="application/json")


def stacks() -> str:
    """Show what every thread is at."""
    frames = sys._current_frames()
    named = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"{named.get(ident, ident)}\n{''.join(traceback.format_stack(frame)[-6:])}" for ident, frame in frames.items()
    )


def _unknown(faults: list[str]) -> list[str]:
    return [fault for fault in faults if not any(known in fault for known in KNOWN_OF_THE_CLIENT)]


def _run(child: aml_jobs.Child) -> dict[str, Any]:
    return {
        "runId": child.run_id,
        "displayName": child.name,
        "status": child.status,
        "runType": "azureml.StepRun",
        "createdUtc": _moment(child.created_at),
        "startTimeUtc": _moment(child.created_at),
        "parentRunId": child.parent,
        "rootRunId": child.parent,
        "tags": {},
        "properties": {},
    }


def _system_data(created_at: float | None = None) -> dict[str, str]:
    return {
        "createdAt": _moment(created_at if created_at is not None else time.time()),
        "createdBy": "headrace",
        "createdByType": "Application",
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _missing(path: str) -> Response:
    return _error(404, "ResourceNotFound", f"there is no {path}")


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)
