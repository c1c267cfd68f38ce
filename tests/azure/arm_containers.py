"""
Container groups of the double: each starts its app as a process of this machine, with the environment that was asked for.

The address that a group gets is a name of Azure's form; `Containers.http` is a client that finds its loopback port. A group
restarts what ends, as its restart policy says, and tells of it in the words of Azure.
"""

from __future__ import annotations

import hashlib
import subprocess
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from arm_double import GROUP, LOCATION, SUBSCRIPTION, Answer, Request, refuse
from arm_shapes import ByName, event, moment, refusal_of_group, written

GROUPS = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.ContainerInstance/containerGroups"
OPERATIONS = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.ContainerInstance/locations/{LOCATION}/operations"

Command = Callable[[Mapping[str, str], Path], list[str]]
"""How to start an app, given the environment of its container and a folder; it writes its port to `port` there."""


@dataclass
class Group:
    name: str
    body: dict[str, Any]
    folder: Path
    provisioning: str = "Pending"
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    started: datetime | None = None
    ended: datetime | None = None
    exit_code: int | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    going: bool = False
    generation: int = 0

    @property
    def container(self) -> dict[str, Any]:
        found: dict[str, Any] = self.body["properties"]["containers"][0]
        return found

    @property
    def environment(self) -> dict[str, str]:
        listed = self.container["properties"].get("environmentVariables", [])
        return {each["name"]: each.get("value", each.get("secureValue", "")) for each in listed}


class Containers:
    """The container groups of one resource group."""

    def __init__(self, folder: Path, command: Command, *, inherited: Mapping[str, str] | None = None) -> None:
        self.command = command
        self.groups: dict[str, Group] = {}
        self.quota = 100
        self.unpullable: set[str] = set()
        self.is_there: Callable[[str], bool] = lambda _: True
        """Whether a registry has an image."""
        self.on_event: Callable[[dict[str, Any]], None] = lambda _: None
        """Is told of each group that was made or deleted, as Event Grid tells it."""
        self.silent = False
        """Leave out the view of the instance, as Azure does now and then."""
        self.held = False
        """Leave new groups pending, and deleted ones as they go, until `release`."""
        self.honours_if_none_match = True
        self.unreachable = False
        self.restarted_in_place: list[str] = []
        self.pause = 0.05
        self.address = ""
        self._folder = folder
        self.inherited = dict(inherited or {})
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._waiters: list[threading.Thread] = []
        self.http = httpx.Client(transport=ByName(self.port), timeout=30)

    def stop(self) -> None:
        for group in list(self.groups.values()):
            self._end(group)
        self._stopped.set()
        for thread in self._waiters:
            thread.join(timeout=30)
            assert not thread.is_alive(), "an app did not end"
        self.http.close()

    # ---------------------------------------------------------------- faults

    def release(self) -> None:
        self.held = False
        for group in list(self.groups.values()):
            if group.provisioning == "Pending":
                self._make(group)
            elif group.provisioning == "Deleting":
                del self.groups[group.name]

    def kill(self, name: str) -> None:
        """Kill a group's process; the group restarts it."""
        process = self.groups[name].process
        assert process is not None
        process.kill()

    def lose(self, name: str) -> None:
        """Make a group vanish, as if somebody had deleted it in the portal."""
        self._end(self.groups.pop(name))

    def fail(self, name: str, kind: str, message: str) -> None:
        group = self.groups[name]
        self._end(group)
        group.provisioning = "Failed"
        group.events.append(event(kind, message))

    # ---------------------------------------------------------------- requests

    def answer(self, request: Request) -> Answer | None:
        if request.path.startswith(OPERATIONS):
            return Answer(200, {"id": request.path, "status": "Succeeded"})
        if not request.path.lower().startswith(GROUPS.lower()):
            return None
        rest = request.path[len(GROUPS) :].strip("/").split("/")
        with self._lock:
            if rest == [""]:
                listed = [self._resource(group, listing=True) for group in self.groups.values()]
                return Answer(200, {"value": listed})
            name = rest[0]
            if request.method == "PUT":
                return self._put(name, request)
            group = self.groups.get(name)
            if group is None:
                if request.method == "DELETE":
                    return Answer(204)
                return refuse(404, "ResourceNotFound", f"The Resource 'containerGroups/{name}' was not found.")
            if request.method == "DELETE":
                return self._delete(group)
            if rest[1:2] == ["containers"]:
                return self._log(group, request)
            if rest[1:] == ["restart"]:
                self.kill(name)
                return Answer(204, None, self._operation())
            return Answer(200, self._resource(group))

    def _put(self, name: str, request: Request) -> Answer:
        fault = self._refusal(name, request.body)
        if fault is not None:
            return fault
        known = self.groups.get(name)
        if known is not None:
            if self.honours_if_none_match and request.headers.get("if-none-match") == "*":
                return refuse(412, "PreconditionFailed", f"'{name}' is there.")
            if known.provisioning == "Pending":
                return refuse(
                    409, "ContainerGroupTransitioning", f"The container group '{name}' is still transitioning."
                )
            self.restarted_in_place.append(name)
            self._end(known)
        group = Group(name, request.body, self._folder / f"{name}-{uuid.uuid4().hex[:8]}")
        self.groups[name] = group
        if not self.held:
            self._make(group)
        return Answer(201, self._resource(group, fresh=True), self._operation())

    def _refusal(self, name: str, body: dict[str, Any]) -> Answer | None:
        if name not in self.groups and len(self.groups) >= self.quota:
            message = f"container group quota 'ContainerGroups' exceeded in region '{LOCATION}'. Limit: '{self.quota}'"
            return refuse(409, "ContainerGroupQuotaReached", message)
        return refusal_of_group(name, body)

    def _delete(self, group: Group) -> Answer:
        gone = self._resource(group)
        self._end(group)
        if self.held:
            group.provisioning = "Deleting"
            return Answer(202, None, self._operation())
        del self.groups[group.name]
        self.on_event(written(f"{GROUPS}/{group.name}", "Microsoft.Resources.ResourceDeleteSuccess"))
        return Answer(200, gone, self._operation())

    def _log(self, group: Group, request: Request) -> Answer:
        path = group.folder / "log"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return Answer(200, {"content": "\n".join(lines[-int(request.query.get("tail", 1000)) :])})

    def _operation(self) -> dict[str, str]:
        return {"Azure-AsyncOperation": f"{self.address}{OPERATIONS}/{uuid.uuid4()}?api-version=2018-06-01"}

    # ---------------------------------------------------------------- how a group stands

    def host(self, group: Group) -> str:
        label = group.body["properties"]["ipAddress"]["dnsNameLabel"]
        scope = hashlib.sha256(label.encode()).hexdigest()[:16]
        return f"{label}.{scope}.{LOCATION}.azurecontainer.io"

    def port(self, host: str) -> int | None:
        if self.unreachable:
            return None
        for group in list(self.groups.values()):
            if self.host(group) == host:
                path = group.folder / f"port-{group.generation}"
                return int(path.read_text()) if path.exists() and path.read_text() else None
        return None

    def _resource(self, group: Group, *, listing: bool = False, fresh: bool = False) -> dict[str, Any]:
        asked = group.body["properties"]
        container = dict(group.container["properties"])
        # What is secure goes in and never comes out.
        shown = [
            {key: value for key, value in each.items() if key != "secureValue"}
            for each in container.get("environmentVariables", [])
        ]
        container["environmentVariables"] = shown
        address = dict(asked["ipAddress"])
        properties = {**asked, "provisioningState": "Pending" if fresh else group.provisioning, "ipAddress": address}
        if group.provisioning == "Succeeded" and "dnsNameLabel" in address:
            address |= {"ip": "203.0.113.7", "fqdn": self.host(group)}
        if not (listing or self.silent):
            properties["instanceView"] = {"events": group.events, "state": "Running" if group.process else "Pending"}
            container["instanceView"] = self._view(group)
        properties["containers"] = [{"name": group.container["name"], "properties": container}]
        return {
            "id": f"{GROUPS}/{group.name}",
            "name": group.name,
            "type": "Microsoft.ContainerInstance/containerGroups",
            "location": group.body["location"],
            "tags": group.body.get("tags", {}),
            "properties": properties,
        }

    def _view(self, group: Group) -> dict[str, Any]:
        view: dict[str, Any] = {"restartCount": group.restarts, "events": []}
        running = group.process is not None and group.process.poll() is None
        if running:
            view["currentState"] = {"state": "Running", "startTime": moment(group.started)}
        else:
            view["currentState"] = {"state": "Waiting", "detailStatus": "CrashLoopBackOff" if group.restarts else ""}
        if group.ended is not None:
            view["previousState"] = {
                "state": "Terminated",
                "exitCode": group.exit_code,
                "startTime": moment(group.ended - timedelta(seconds=1)),
                "finishTime": moment(group.ended),
                "detailStatus": "Error",
            }
        return view

    # ---------------------------------------------------------------- the apps

    def _make(self, group: Group) -> None:
        image = group.container["properties"]["image"]
        if image in self.unpullable or not self.is_there(image):
            group.events += [
                event("Pulling", f'pulling image "{image}"'),
                event("Failed", f'Failed to pull image "{image}": manifest unknown', count=4, kind="Warning"),
                event("BackOff", f'Back-off pulling image "{image}"', count=4, kind="Warning"),
            ]
            return
        group.folder.mkdir(parents=True)
        self._start(group)
        group.provisioning = "Succeeded"
        self.on_event(written(f"{GROUPS}/{group.name}", "Microsoft.Resources.ResourceWriteSuccess"))

    def _start(self, group: Group) -> None:
        group.generation += 1
        environment = {**self.inherited, **group.environment}
        command = self.command(environment, group.folder / f"port-{group.generation}")
        with (group.folder / "log").open("ab") as log:
            group.process = subprocess.Popen(
                command, cwd=group.folder, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        group.started = datetime.now(UTC)
        waiter = threading.Thread(target=self._watch, args=[group, group.process], daemon=True)
        self._waiters.append(waiter)
        waiter.start()

    def _watch(self, group: Group, process: subprocess.Popen[bytes]) -> None:
        """Start an app again when it ended, after a short pause, as `Always` says."""
        code = process.wait()
        with self._lock:
            if group.going:
                return
            group.exit_code, group.ended = code, datetime.now(UTC)
        self._stopped.wait(self.pause * group.restarts)
        with self._lock:
            if not group.going and not self._stopped.is_set():
                group.restarts += 1
                self._start(group)

    def _end(self, group: Group) -> None:
        with self._lock:  # else its watcher may be starting it again
            group.going = True
            if group.process is not None and group.process.poll() is None:
                group.process.terminate()
