"""
What a text in pipeline YAML points at: a local path, an asset of a workspace, a registry, remote data or a binding.

The raw YAML is asked, not the loaded job: azure-ai-ml turns `azureml:taxi-data@latest` into `taxi-data@latest`, which
reads like a relative path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_BINDING = re.compile(r"\s*\$\{\{\s*(.*?)\s*\}\}\s*")
_INPUT = re.compile(r"parent\.inputs\.([\w.-]+)")
_OUTPUT = re.compile(r"parent\.outputs\.([\w-]+)")
_STEP_OUTPUT = re.compile(r"parent\.jobs\.([\w-]+)\.outputs\.([\w-]+)")
_ASSET = re.compile(r"azureml:(?!/)(?P<name>[^:@/]+)(?::(?P<version>[^:@]+)|@(?P<label>[^:@]+))?")
_REGISTRY = re.compile(
    r"azureml://registries/(?P<registry>[^/]+)/(?P<kind>[^/]+)/(?P<name>[^/]+)"
    r"(?:/versions/(?P<version>[^/]+)|/labels/(?P<label>[^/]+))?"
)
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True, slots=True)
class AssetReference:
    """`azureml:NAME`, `azureml:NAME:VERSION` or `azureml:NAME@LABEL`: something registered in the workspace."""

    text: str
    name: str
    version: str | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class RegistryReference:
    """`azureml://registries/R/KIND/NAME/...`: something shared between workspaces."""

    text: str
    registry: str
    kind: str
    name: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class RemoteReference:
    """A datastore path or an address on the network."""

    text: str


@dataclass(frozen=True, slots=True)
class LocalReference:
    """A path, relative to the file that holds it."""

    text: str


Reference = AssetReference | RegistryReference | RemoteReference | LocalReference


@dataclass(frozen=True, slots=True)
class Binding:
    """`${{parent...}}`: an input of the pipeline around, an output of a step beside, or an output of the pipeline."""

    kind: Literal["input", "step_output", "output", "other"]
    text: str
    name: str = ""
    """Of the input or output."""
    step: str = ""
    """Of a step's output."""


def parse_reference(text: str) -> Reference:
    """Tell what a text points at. Each text that is nothing else is a local path; `file:` before it is dropped."""
    stripped = text.strip()
    if match := _REGISTRY.match(stripped):
        return RegistryReference(stripped, match["registry"], match["kind"], match["name"], match["version"])
    if match := _ASSET.fullmatch(stripped):
        return AssetReference(stripped, match["name"], match["version"], match["label"])
    if stripped.startswith("file:"):
        return LocalReference(stripped.removeprefix("file://").removeprefix("file:"))
    if stripped.startswith(("git+", "azureml:")) or _REMOTE.match(stripped):
        return RemoteReference(stripped)
    return LocalReference(stripped)


def parse_binding(value: object) -> Binding | None:
    """Read a text that is a binding as a whole; None for everything else."""
    if not isinstance(value, str):
        return None
    match = _BINDING.fullmatch(value)
    if match is None or "${{" in match[1]:
        return None
    inner = match[1]
    if found := _INPUT.fullmatch(inner):
        return Binding("input", value, found[1])
    if found := _STEP_OUTPUT.fullmatch(inner):
        return Binding("step_output", value, found[2], step=found[1])
    if found := _OUTPUT.fullmatch(inner):
        return Binding("output", value, found[1])
    return Binding("other", value)


def bound_value(entry: object) -> object:
    """Give what an entry under `inputs` or `outputs` holds: its `path` where it is a mapping, else itself."""
    return entry.get("path") if isinstance(entry, dict) else entry
