"""A `ContainerDeployer` on the genuine client, with the double as its other side."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from arm_containers import Command, Containers
from arm_double import GROUP, LOCATION, SUBSCRIPTION, ArmDouble
from arm_shapes import plain_environment
from builders import PROJECT, commit_id
from specs import Specification

from mlops_core.adapters.azure.container_group import ContainerOptions, ServedFiles
from mlops_core.adapters.azure.deployer import ContainerDeployer
from mlops_core.adapters.azure.scoring_image import ImageState
from mlops_core.domain.ids import ModelName, ModelVersion, deployment_of_version
from mlops_core.domain.project import Serve
from mlops_core.ports import DeploymentRequest

SPECIFICATION = "aci-2023-05-01.oas3-with-examples.json"
IDENTITY = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/serving"
)
IMAGE = "registry.azurecr.io/headrace/scoring:0123456789ab"
FILES = ServedFiles("https://account.blob.core.windows.net/headrace/manifest.json", "0" * 64, "sha256:" + "1" * 64)

COMMIT = commit_id(1)
# Ready at once; `--die` ends it instead, `--unready` answers that it is not.
APP = """
import http.server, os, sys
if "--die" in sys.argv:
    print("ValueError: the model is broken", flush=True); sys.exit(3)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"still loading" if "--unready" in sys.argv else str(os.getpid()).encode()
        self.send_response(503 if "--unready" in sys.argv else 200)
        self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
port_file = sys.argv[sys.argv.index("--port-file") + 1]
open(port_file + ".new", "w").write(str(server.server_port)); os.rename(port_file + ".new", port_file)
server.serve_forever(0.02)
"""


@dataclass
class HandClock:
    """A clock that a test moves."""

    at: datetime = field(default_factory=lambda: datetime(2026, 11, 23, 12, tzinfo=UTC))

    def now(self) -> datetime:
        return self.at

    def move(self, **parts: float) -> None:
        self.at += timedelta(**parts)


@dataclass
class ContainerBench:
    arm: ArmDouble
    containers: Containers
    image: ImageState = field(default_factory=lambda: ImageState("ready", IMAGE))
    clock: HandClock = field(default_factory=HandClock)

    def deployer(self, **changes: Any) -> ContainerDeployer:
        """Make a deployer that remembers nothing, as another instance of the function app would."""
        options = {
            "subscription": SUBSCRIPTION,
            "resource_group": GROUP,
            "location": LOCATION,
            "identity": IDENTITY,
            "identity_client": "00000000-0000-0000-0000-00000000000c",
            "registry": "registry.azurecr.io",
            "client": {**self.arm.client_options, **changes.pop("client", {})},
        }
        image_of: Callable[[DeploymentRequest], ImageState] = changes.pop("image_of", lambda _: self.image)
        files_of: Callable[[DeploymentRequest], ServedFiles] = changes.pop("files_of", lambda _: FILES)
        return ContainerDeployer(
            ContainerOptions(**{**options, **changes}),
            object(),  # type: ignore[arg-type]  # the double's own policy puts the token in
            image_of=image_of,
            files_of=files_of,
            clock=self.clock,
            http=self.containers.http,
        )


def stand_in_command(program: str, *more: str) -> Command:
    """Start a program of a test that writes its port, as the scoring app does."""
    return lambda _, port_file: [sys.executable, "-c", program, "--port-file", str(port_file), *more]


@contextmanager
def container_bench(folder: Path, command: Command) -> Iterator[ContainerBench]:
    """Run a resource manager until the block ends; nothing that it was sent may be against the specification."""
    arm = ArmDouble(Specification(SPECIFICATION))
    containers = Containers(folder, command, inherited=plain_environment())
    containers.address = arm.address
    arm.parts.append(containers.answer)
    arm.start()
    try:
        yield ContainerBench(arm, containers)
    finally:
        containers.stop()
        arm.stop()
    assert not arm.complaints, arm.complaints


def until(read: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not wanted(found := read()):
        assert time.monotonic() < deadline, f"still {found}"
        time.sleep(0.01)
    return found


def request_for(number: int = 1, **serve: Any) -> DeploymentRequest:
    model, version = ModelName("diabetes"), ModelVersion(str(number))
    name = deployment_of_version(model, version)
    return DeploymentRequest(name, model, version, PROJECT, COMMIT, Serve(**serve))
