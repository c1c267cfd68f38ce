"""
Runs what was submitted to the double of Azure ML: from the uploaded code, by the local executor, tracked by a real MLflow.

The resource manager's form of a job is written back as YAML files, so what runs is what arrived and not what was sent.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import azurite
import yaml
from azure.storage.blob import BlobSasPermissions, BlobServiceClient, generate_blob_sas

from mlops_core.adapters.local.model_files import ModelFiles
from mlops_core.adapters.mlflow_api import MlflowApi
from mlops_core.domain.errors import HeadraceError
from mlops_core.domain.ids import ModelName, ModelVersion
from mlops_core.pipelines.results import PipelineResult, read_step_results
from mlops_core.pipelines.runner import PipelineRun
from mlops_core.pipelines.step_files import folder_name
from mlops_core.pipelines.step_process import StepProcesses

if TYPE_CHECKING:
    from aml_double import AzureMlDouble

STORE_PATH = re.compile(r"azureml://(?:.*/)?datastores/[^/]+/paths/(.+)")
WORDS = {"succeeded": "Completed", "failed": "Failed", "cancelled": "Canceled"}
LOG = "user_logs/std_log.txt"


@dataclass
class Job:
    name: str
    properties: dict[str, Any]
    folder: Path
    status: str = "NotStarted"
    created_at: float = field(default_factory=time.time)
    processes: StepProcesses = field(default_factory=StepProcesses)
    thread: threading.Thread | None = None


@dataclass(frozen=True)
class Child:
    name: str
    run_id: str
    parent: str
    status: str
    created_at: float


class JobHouse:
    """All jobs of the workspace, each in a folder."""

    def __init__(
        self,
        folder: Path,
        storage: azurite.Azurite,
        tracking_uri: str,
        inherited: Mapping[str, str],
        *,
        seconds: float = 0,
    ) -> None:
        self.tracking_uri = tracking_uri
        self._folder = folder
        self._storage = storage
        self._inherited = dict(inherited)
        self._seconds = seconds
        self._jobs: dict[str, Job] = {}
        self._told: set[tuple[str, str]] = set()
        self._api = MlflowApi(lambda: tracking_uri)
        self._models = ModelFiles(folder / "models", self._api)
        self._blobs = BlobServiceClient.from_connection_string(storage.connection_string)
        self._published: dict[str, str] = {}
        self._lock = threading.RLock()

    def bind(self, double: AzureMlDouble) -> None:
        self._double = double

    def stop(self) -> None:
        for job in self._jobs.values():
            job.processes.halt()
            if job.thread:
                job.thread.join(timeout=30)
        self._api.close()

    def find(self, name: str) -> Job | None:
        return self._jobs.get(name)

    def all(self) -> list[Job]:
        return list(self._jobs.values())

    def submit(self, name: str, properties: dict[str, Any]) -> Job:
        job = Job(name, properties, self._folder / "jobs" / name)
        self._jobs[name] = job
        job.thread = threading.Thread(target=self._run, args=(job,), daemon=True)
        job.thread.start()
        return job

    def add_ended(self, name: str, created_at: float) -> None:
        properties = {"jobType": "Pipeline", "jobs": {}, "inputs": {}, "outputs": {}, "settings": {}}
        self._jobs[name] = Job(name, properties, self._folder / "jobs" / name, "Completed", created_at)

    def cancel(self, name: str) -> None:
        job = self._jobs[name]
        if job.status in WORDS.values():
            return
        job.status = "CancelRequested"
        threading.Thread(target=job.processes.halt, daemon=True).start()

    # ---------------------------------------------------------------- running

    def _run(self, job: Job) -> None:
        job.status = "Preparing"
        try:
            word = "Completed" if self._is_taken_over(job) else WORDS[self._execute(job).outcome]
        except HeadraceError as error:
            job.folder.mkdir(parents=True, exist_ok=True)
            (job.folder / "error.txt").write_text(str(error))
            word = "Failed"
        self._tell_models(job)
        job.status = word
        if word == "Completed":
            self._tell(job, "RunCompleted", {"runId": job.name, "runType": "azureml.PipelineRun"})
        # Azure ML sends nothing for jobs that failed or were cancelled.

    def _is_taken_over(self, job: Job) -> bool:
        """
        Tell whether all of a pipeline is as it was in one that went well, so that Azure ML runs none of its steps.

        Source: "Debug pipeline reuse issues": deterministic components, no `force_rerun`, the same code and inputs.
        """
        if job.properties["jobType"] != "Pipeline" or job.properties.get("settings", {}).get("force_rerun"):
            return False
        completed = [other for other in self.all() if other is not job and other.status == "Completed"]
        return self._content(job) in [self._content(other) for other in completed]

    def _content(self, job: Job) -> Any:
        """Read what a pipeline runs: its steps with the digests of their code, and its inputs."""
        steps = {}
        for name, node in job.properties.get("jobs", {}).items():
            component = node["trial"]["componentId"] if node["type"] == "sweep" else node["componentId"]
            spec = dict(self._double.asset(component)["properties"]["componentSpec"])
            if spec.get("code"):
                spec["code"] = self._double.asset(spec["code"])["properties"]["properties"]["hash_sha256"]
            steps[name] = ({**node, "componentId": "", "trial": ""}, spec)
        return steps, job.properties.get("inputs")

    def _execute(self, job: Job) -> PipelineResult:
        source = job.folder / "source"
        source.mkdir(parents=True)
        environments = self._write(job, source)
        run = PipelineRun(
            file=source / "pipeline.yml",
            project_root=source,
            folder=job.folder / "run",
            caches=self._folder / "caches",
            job_name=job.name,
            inherited=self._inherited,
            tracking_uri=self.tracking_uri,
            environments=environments,
            reuse=False,
            processes=job.processes,
        )
        plan = run.plan()
        if job.status != "CancelRequested":
            job.status = "Running"
        return run.execute(plan, lambda _kind, _text: self._tell_models(job))

    def _write(self, job: Job, source: Path) -> dict[str, str]:
        """Write the job's YAML and fetch its code and data. Returns what stands for its environments here."""
        properties = job.properties
        environments: dict[str, str] = {}
        if properties["jobType"] == "Command":
            component = {
                "command": properties["command"],
                "environment": properties["environmentId"],
                "code": properties.get("codeId"),
                "inputs": {},
                "outputs": {},
            }
            self._write_component(component, source / "component-tests.yml", environments)
            jobs: dict[str, Any] = {"tests": {"type": "command", "component": "./component-tests.yml"}}
        else:
            jobs = {name: self._step(name, node, source, environments) for name, node in properties["jobs"].items()}
        document = {
            "$schema": "https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json",
            "type": "pipeline",
            "display_name": properties.get("displayName") or job.name,
            "experiment_name": properties.get("experimentName") or "default",
            "inputs": {name: self._input(name, value, source) for name, value in properties.get("inputs", {}).items()},
            "jobs": jobs,
        }
        (source / "pipeline.yml").write_text(yaml.safe_dump(document, sort_keys=False))
        return environments

    def _step(self, name: str, node: dict[str, Any], source: Path, environments: dict[str, str]) -> dict[str, Any]:
        component_id = node["trial"]["componentId"] if node["type"] == "sweep" else node["componentId"]
        component = self._double.asset(component_id)["properties"]["componentSpec"]
        file = f"component-{name}.yml"
        self._write_component(component, source / file, environments)
        step: dict[str, Any] = {"type": node["type"]}
        step["trial" if node["type"] == "sweep" else "component"] = f"./{file}"
        step["inputs"] = {key: value["value"] for key, value in node.get("inputs", {}).items()}
        step["outputs"] = {
            key: {"type": value["job_output_type"]}
            for key, value in node.get("outputs", {}).items()
            if "job_output_type" in value
        }
        for key in ("sampling_algorithm", "search_space", "objective", "limits", "early_termination"):
            if key in node:
                step[key] = node[key]
        return step

    def _write_component(self, component: dict[str, Any], path: Path, environments: dict[str, str]) -> None:
        label = f"azureml:{component['environment'].split('/environments/')[1].replace('/versions/', ':')}"
        # What the environment declares is held in the workspace; the steps run in the tests' own interpreter.
        assert self._double.asset(component["environment"])["properties"]
        environments[label] = "current"
        document = {
            "$schema": "https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json",
            "type": "command",
            "name": path.stem.replace("-", "_"),
            "version": "1",
            "command": component["command"],
            "environment": label,
            "inputs": component.get("inputs", {}),
            "outputs": component.get("outputs", {}),
        }
        for known in document["inputs"].values():
            if known.get("type") in ("integer", "number") and "default" in known:
                known["default"] = (int if known["type"] == "integer" else float)(known["default"])
        if component.get("code"):
            folder = path.with_suffix("")
            self._fetch_code(component["code"], folder)
            document["code"] = f"./{folder.name}"
        path.write_text(yaml.safe_dump(document, sort_keys=False))

    def _input(self, name: str, value: dict[str, Any], source: Path) -> Any:
        if value["jobInputType"] == "literal":
            return value["value"]
        uri = value["uri"]
        if "/data/" in uri:
            uri = self._double.asset(uri)["properties"]["dataUri"]
        found = STORE_PATH.fullmatch(uri)
        assert found, f"the double cannot read {uri}"
        target = source / f"input-{name}" / Path(found[1]).name
        self._fetch("azureml", found[1], target)
        return {"type": value["jobInputType"], "path": f"./{target.relative_to(source)}"}

    def _fetch_code(self, reference: str, folder: Path) -> None:
        code = self._double.asset(reference)["properties"]
        path = urlsplit(code["codeUri"]).path.removeprefix(f"/{azurite.ACCOUNT}/")
        container, _, prefix = path.partition("/")
        self._fetch(container, prefix, folder)

    def _fetch(self, container: str, prefix: str, target: Path) -> None:
        client = self._blobs.get_container_client(container)
        for blob in client.list_blobs(name_starts_with=prefix):
            rest = blob.name.removeprefix(prefix).strip("/")
            place = target / rest if rest else target
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(client.download_blob(blob.name).readall())

    # ---------------------------------------------------------------- what is asked

    def children(self, name: str) -> list[Child]:
        job = self._jobs.get(name)
        if job is None:
            return []
        results = read_step_results(job.folder / "run")
        words = {"succeeded": "Completed", "reused": "Completed", "failed": "Failed", "cancelled": "Canceled"}
        return [
            Child(step, result.run_id or step, name, words[result.state], job.created_at + place)
            for place, (step, result) in enumerate(results.items())
            if result.state in words
        ]

    def logs(self, run_id: str) -> dict[str, Path]:
        for job in self._jobs.values():
            for step, result in read_step_results(job.folder / "run").items():
                if run_id in (result.run_id, step):
                    folder = job.folder / "run" / "steps" / folder_name(step)
                    return {LOG: folder / "log.txt"} if (folder / "log.txt").exists() else {}
            if job.name == run_id and (job.folder / "error.txt").exists():
                return {LOG: job.folder / "error.txt"}
        return {}

    def log_address(self, run_id: str, name: str) -> str:
        """Put a log where Azure ML has it: in a blob, with an address that carries its own right for an hour."""
        return self.published(f"dcid.{run_id}/{name}", self.logs(run_id)[name].read_bytes())

    def published(self, name: str, content: bytes) -> str:
        """Put a file where Azure ML has logs."""
        container = self._blobs.get_container_client("azureml")
        blob = f"ExperimentRun/{name}"
        container.upload_blob(blob, content, overwrite=True)
        signature = generate_blob_sas(
            azurite.ACCOUNT,
            "azureml",
            blob,
            account_key=azurite.KEY,
            permission=BlobSasPermissions(read=True),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        return f"{self._storage.blob}/azureml/{blob}?{signature}"

    def model_names(self) -> list[str]:
        pages = self._api.pages("registered-models/search", {}, items="registered_models")
        return [entry["name"] for page in pages for entry in page]

    def model_versions(self, name: str) -> list[dict[str, Any]]:
        # MLflow's filters know no escape: a quote within needs the other kind around it.
        quote = '"' if "'" in name else "'"
        query = {"filter": f"name={quote}{name}{quote}"}
        found = [
            entry for page in self._api.pages("model-versions/search", query, items="model_versions") for entry in page
        ]
        return [entry | {"run_id": self._run_of(entry)} for entry in found]

    def _run_of(self, entry: dict[str, Any]) -> str:
        if entry.get("run_id"):
            return str(entry["run_id"])
        model_id = entry.get("model_id") or str(entry.get("source", "")).removeprefix("models:/")
        answer = self._api.get(f"logged-models/{model_id}", {}, kind="logged model", name=model_id)
        return str(answer["model"]["info"]["source_run_id"])

    def published_model(self, name: str, entry: dict[str, Any]) -> str:
        """Put a version's files where Azure ML keeps them, and give their address in its form."""
        key = f"{name}/{entry['version']}"
        with self._lock:
            if key not in self._published:
                files = self._models.artifact_path(ModelName(name), ModelVersion(str(entry["version"])))
                container = self._blobs.get_container_client("azureml")
                for path in sorted(files.rglob("*")):
                    if path.is_file():
                        container.upload_blob(f"models/{key}/{path.relative_to(files).as_posix()}", path.read_bytes())
                self._published[key] = f"azureml://datastores/workspaceblobstore/paths/models/{key}"
        return self._published[key]

    # ---------------------------------------------------------------- events, as Event Grid has them

    def _tell_models(self, job: Job) -> None:
        """Announce what was registered: Azure ML does it before the pipeline is complete."""
        for name in self.model_names():
            for entry in self.model_versions(name):
                key = (name, str(entry["version"]))
                with self._lock:
                    if key in self._told:
                        continue
                    self._told.add(key)
                data = {"modelName": name, "modelVersion": key[1], "modelTags": {}, "modelProperties": {}}
                self._tell(job, "ModelRegistered", data)

    def _tell(self, job: Job, kind: str, data: dict[str, Any]) -> None:
        experiment = job.properties.get("experimentName") or "default"
        subject = (
            f"models/{data['modelName']}:{data['modelVersion']}"
            if "modelName" in data
            else f"experiments/{experiment}/runs/{job.name}"
        )
        self._double.on_event(
            {
                "eventType": f"Microsoft.MachineLearningServices.{kind}",
                "subject": subject,
                "data": {**({"experimentName": experiment} if kind != "ModelRegistered" else {}), **data},
            }
        )


def wait_for(house: JobHouse, name: str, seconds: float = 120) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = house.find(name)
        if job is not None and job.status in WORDS.values():
            return job.status
        time.sleep(0.1)
    raise AssertionError(f"job {name} did not end within {seconds} s")
