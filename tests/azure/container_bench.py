"""A `ContainerDeployer` on the genuine client, with the double as its other side."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from arm_containers import Command, Containers
from arm_double import GROUP, LOCATION, SUBSCRIPTION, ArmDouble
from arm_shapes import plain_environment
from specs import Specification

from mlops_core.adapters.azure.container_group import ContainerOptions, ServedFiles
from mlops_core.adapters.azure.deployer import ContainerDeployer
from mlops_core.adapters.azure.scoring_image import ImageState
from mlops_core.ports import DeploymentRequest

SPECIFICATION = "aci-2023-05-01.oas3-with-examples.json"
IDENTITY = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/serving"
)
IMAGE = "registry.azurecr.io/headrace/scoring:0123456789ab"
FILES = ServedFiles("https://account.blob.core.windows.net/headrace/manifest.json", "0" * 64, "sha256:" + "1" * 64)


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
