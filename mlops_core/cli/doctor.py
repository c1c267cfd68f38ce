"""`headrace doctor`: what is missing on this machine, and how to get it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from mlops_core.cli.api import Api
from mlops_core.cli.context import out, print_json, settings

_PACKAGES = ("mlflow", "azure-ai-ml", "uvicorn", "starlette", "psutil", "croniter")
_WANTED_GIB = 5
_ROUNDED_GIB = 10
_WANTED_GIT = (2, 28)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `advice` is empty where nothing is to be done."""

    name: str
    ok: bool
    found: str
    advice: str = ""


def doctor(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False) -> None:
    """Say what is missing on this machine and how to get it."""
    findings = list(_findings())
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            mark = "[green]✓[/green]" if finding.ok else "[bold red]✗[/bold red]"
            out.print(f"{mark} {finding.name}: {finding.found}" + (f"\n    {finding.advice}" if finding.advice else ""))
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
    if not as_json:
        out.print("\nNothing is missing. Not needed: an account, Docker, Node.")


def _findings() -> Iterator[Finding]:
    checks: tuple[Callable[[], Finding], ...] = (_python, _git, _bash, _installer, _interpreters, _disk, _port)
    for check in checks:
        yield check()
    for package in _PACKAGES:
        yield _package(package)


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    ok = sys.version_info >= (3, 11)
    return Finding("Python", ok, version, "" if ok else "Headrace needs Python 3.11 or newer.")


def _git() -> Finding:
    path = shutil.which("git")
    if path is None:
        return Finding("git", ok=False, found="not installed", advice=_install("git"))
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.split()
    version = said[2] if len(said) > 2 else "unknown"  # noqa: PLR2004 - git version X
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    ok = parts >= _WANTED_GIT
    return Finding("git", ok, version, "" if ok else f"Headrace needs git 2.28 or newer. {_install('git')}")


def _bash() -> Finding:
    path = shutil.which("bash")
    advice = "" if path else f"Steps run in bash, as on Azure ML. {_install('bash')}"
    return Finding("bash", path is not None, path or "not installed", advice)


def _installer() -> Finding:
    beside = Path(sys.executable).parent / "uv"
    path = str(beside) if beside.exists() else shutil.which("uv")
    found = path or "not installed: environments are made by venv and pip, which takes longer"
    return Finding("uv", ok=True, found=found, advice="" if path else "To have it: pip install uv")


def _interpreters() -> Finding:
    from mlops_core.pipelines.interpreters import installed

    own = f"3.{sys.version_info.minor}"
    found = [each.version for each in installed() if each.version != own]
    said = f"{', '.join(found) or 'none'}; an environment that asks for a missing one gets the nearest"
    return Finding("other Pythons for environments", ok=True, found=said)


def _disk() -> Finding:
    folder = settings().data_folder
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        advice = "Choose a folder of your own: HEADRACE_DATA=FOLDER."
        return Finding("data folder", ok=False, found=f"{folder} cannot be written to", advice=advice)
    free = shutil.disk_usage(existing).free / 2**30
    ok = free >= _WANTED_GIB
    advice = "" if ok else f"Environments need room: free {_WANTED_GIB} GiB, or set HEADRACE_DATA to another disk."
    return Finding("data folder", ok, f"{folder}, {free:.{0 if free >= _ROUNDED_GIB else 1}f} GiB free", advice)


def _port() -> Finding:
    from mlops_core.adapters.local.running import address_of_controller

    address = address_of_controller(settings().data_folder)
    if address is not None:
        return _answering(address)
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", 7071)) == 0
    if taken:
        advice = "Choose another: headrace up --port 7072."
        return Finding("port 7071", ok=False, found="in use by another program", advice=advice)
    return Finding("controller", ok=True, found="not up; port 7071 is free. Start it: headrace up")


def _answering(address: str) -> Finding:
    if Api(address).is_up():
        return Finding("controller", ok=True, found=f"up at {address}")
    advice = "It may be starting. If it stays so: headrace down, then headrace up."
    return Finding("controller", ok=False, found=f"its process runs, but nothing answers at {address}", advice=advice)


def _install(program: str) -> str:
    by = {"Debian, Ubuntu": "apt", "Fedora": "dnf", "macOS": "brew"}
    return "Install it: " + ", ".join(f"{tool} install {program} ({system})" for system, tool in by.items()) + "."


def _package(name: str) -> Finding:
    try:
        return Finding(name, ok=True, found=importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, ok=False, found="not installed", advice="pip install 'headrace[local]'")
