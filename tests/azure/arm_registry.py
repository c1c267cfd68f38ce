"""
The registry's task runs of the double: a named run builds an image from sources that were uploaded, and says how it went.

No specification of this part is beside the checkout, so requests are held against the keys that the genuine client's own
models know. What a build does is decided by the test: it reads the context that really came and finishes it.
"""

from __future__ import annotations

import io
import re
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from arm_double import GROUP, SUBSCRIPTION, Answer, ArmDouble, Request, refuse
from azure.mgmt.containerregistrytasks import models

REGISTRY = "headracetest"
SCOPE = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.ContainerRegistry/registries/{REGISTRY}"
)
# Source: TaskRun.tsp of the published specification.
NAME = re.compile(r"[a-zA-Z0-9-]{5,50}")


@dataclass
class TaskRun:
    name: str
    properties: dict[str, Any]
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:4])
    status: str = "Queued"
    error: str | None = None
    log: str = ""
    finished: datetime | None = None


class Registry:
    """One registry."""

    def __init__(self, arm: ArmDouble) -> None:
        self.runs: dict[str, TaskRun] = {}
        self.uploads: dict[str, bytes] = {}
        self.images: set[str] = set()
        self.builds = 0
        self.instant = False
        """End each build well as soon as it is asked for."""
        self._arm = arm

    def finish(self, status: str = "Succeeded", *, error: str | None = None, log: str = "", at: datetime) -> None:
        """End every build that is under way."""
        for run in self.runs.values():
            if run.finished is None:
                run.status, run.error, run.log, run.finished = status, error, log, at
                if status == "Succeeded":
                    self.images |= set(run.properties["runRequest"]["imageNames"])

    def has(self, image: str) -> bool:
        """Tell whether an image was built here, as who pulls it finds out."""
        return image.partition("/")[2] in self.images

    def context(self) -> dict[str, str]:
        """Unpack the newest sources."""
        archive = list(self.uploads.values())[-1]
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            return {entry.name: opened.extractfile(entry).read().decode() for entry in opened}  # type: ignore[union-attr]

    def answer(self, request: Request) -> Answer | None:
        if not request.path.startswith(SCOPE):
            return None
        rest = request.path[len(SCOPE) :].strip("/").split("/")
        if rest == ["listBuildSourceUploadUrl"] and request.method == "POST":
            path = f"source/{uuid.uuid4()}.tar.gz"
            return Answer(200, {"relativePath": path, "uploadUrl": f"{self._arm.address}/storage/{path}?sig=marked"})
        if rest[0] == "runs" and rest[2:] == ["listLogSasUrl"]:
            return Answer(200, {"logLink": f"{self._arm.address}/storage/logs/{rest[1]}?sig=marked"})
        if rest[0] != "taskRuns" or len(rest) != 2:
            return None
        name = rest[1]
        if request.method == "PUT":
            return self._put(name, request.body)
        run = self.runs.get(name)
        if run is None:
            return refuse(404, "TaskRunNotFound", f"there is no task run {name}")
        return Answer(200, _resource(run))

    def upload_or_log(self, request: Request) -> Answer | None:
        """Be the storage behind the registry: signed addresses, no token."""
        if not request.path.startswith("/storage/"):
            return None
        if request.query.get("sig") != "marked":
            return refuse(403, "AuthenticationFailed", "no signature")
        path = request.path.removeprefix("/storage/")
        if request.method == "PUT":
            if request.headers.get("x-ms-blob-type") != "BlockBlob":
                return refuse(400, "MissingRequiredHeader", "x-ms-blob-type")
            self.uploads[path] = request.body
            return Answer(201)
        for run in self.runs.values():
            if path == f"logs/{run.run_id}":
                return _part(run.log, request.headers.get("range"))
        return refuse(404, "BlobNotFound", path)

    def _put(self, name: str, body: dict[str, Any]) -> Answer:
        faults = [*_faults(name, body), *self._missing_sources(body)]
        if faults:
            self._arm.complaints += faults
            return refuse(400, "InvalidRequest", "; ".join(faults))
        known = self.runs.get(name)
        if known is not None and known.properties == body["properties"]:
            return Answer(200, _resource(known))
        self.builds += 1
        self.runs[name] = TaskRun(name, body["properties"])
        if self.instant:
            self.finish(at=datetime.now(UTC))
        return Answer(201, _resource(self.runs[name]))

    def _missing_sources(self, body: dict[str, Any]) -> list[str]:
        place = body.get("properties", {}).get("runRequest", {}).get("sourceLocation")
        return [] if place in self.uploads else [f"nothing was uploaded to {place}"]


def _part(text: str, asked: str | None) -> Answer:
    """Give a part of a blob: storage knows no range that counts from the end. Source: "Specifying the range header"."""
    if asked is None:
        return Answer(200, text)
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
    if found is None:
        return refuse(400, "InvalidHeaderValue", f"range: {asked}")
    return Answer(206, text[int(found[1]) : int(found[2]) + 1 if found[2] else None])


def _faults(name: str, body: dict[str, Any]) -> Iterator[str]:
    if not NAME.fullmatch(name):
        yield f"'{name}' is no name of a task run"
    request = body.get("properties", {}).get("runRequest", {})
    yield from _unknown(models.TaskRun, body, "")
    yield from _unknown(models.TaskRunProperties, body.get("properties", {}), "properties")
    yield from _unknown(models.DockerBuildRequest, request, "properties.runRequest")
    for key in ("type", "dockerFilePath", "platform", "imageNames"):
        if key not in request:
            yield f"properties.runRequest.{key} is missing"


def _unknown(model: Any, value: dict[str, Any], place: str) -> list[str]:
    known = {each._rest_name for each in model._attr_to_rest_field.values()}
    return [f"unknown key '{place}.{key}'" for key in value if key not in known]


def _resource(run: TaskRun) -> dict[str, Any]:
    under_way = run.finished is None
    result = {
        "runId": run.run_id,
        "status": run.status,
        "runType": "QuickBuild",
        "createTime": datetime(2026, 11, 23, 12, tzinfo=UTC).isoformat(),
        "provisioningState": "Succeeded",
    }
    if run.finished is not None:
        result["finishTime"] = run.finished.isoformat()
    if run.error is not None:
        result["runErrorMessage"] = run.error
    state = "Creating" if under_way else ("Succeeded" if run.status == "Succeeded" else "Failed")
    return {
        "id": f"{SCOPE}/taskRuns/{run.name}",
        "name": run.name,
        "type": "Microsoft.ContainerRegistry/registries/taskRuns",
        "properties": {
            **run.properties,
            "provisioningState": state,
            "runResult": {"id": f"{SCOPE}/runs/{run.run_id}", "name": run.run_id, "properties": result},
        },
    }
