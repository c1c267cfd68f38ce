"""
Assets that the repository declares by YAML files: data, environments, components, models.

A reference such as `azureml:taxi-data@latest` names something registered in a workspace. On a laptop the repository
itself is asked: whoever registers `taxi-data` from `data.yml` has the file beside the code. Files are found by their
`$schema`, else by the keys that only one kind of asset has.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from mlops_core.pipelines.documents import Document, DocumentError, Reader
from mlops_core.pipelines.references import AssetReference

AssetKind = Literal["data", "environment", "component", "model"]

# Larger YAML is data.
_MAX_ASSET_BYTES = 200_000
_MAX_FILES = 20_000
_SKIPPED = {"node_modules", "__pycache__", "site-packages", "venv", "env", "build", "dist", "outputs", "mlruns"}
_SCHEMA = re.compile(r"/(\w+)\.schema\.json")
_KIND_OF_SCHEMA: dict[str, AssetKind] = {
    "data": "data",
    "mltable": "data",
    "environment": "environment",
    "commandComponent": "component",
    "pipelineComponent": "component",
    "sparkComponent": "component",
    "parallelComponent": "component",
    "importComponent": "component",
    "dataTransferComponent": "component",
    "automlComponent": "component",
    "model": "model",
}
_NAME = re.compile(rb"""^name\s*:\s*["']?([^"'#\r\n]*[^"'#\s])""", re.MULTILINE)
_DATA_TYPES = {"uri_file", "uri_folder", "mltable"}
_MODEL_TYPES = {"mlflow_model", "custom_model", "triton_model"}


@dataclass(frozen=True)
class DeclaredAsset:
    """An asset's own YAML file."""

    kind: AssetKind
    name: str
    version: str | None
    document: Document


class AssetNotDeclaredError(Exception):
    """The repository declares no such asset. Does not leave this package."""

    def __init__(self, reference: AssetReference, nearest: str | None, other_versions: tuple[str, ...]) -> None:
        super().__init__(reference.text)
        self.nearest = nearest
        """A declared name that it may be a misspelling of."""
        self.other_versions = other_versions
        """Versions of that name that are declared."""


def kind_of(data: dict[str, object]) -> AssetKind | None:
    """Tell what kind of asset a YAML file declares; None where it declares none."""
    schema = _SCHEMA.search(str(data.get("$schema", "")))
    if schema is not None:
        return _KIND_OF_SCHEMA.get(schema[1])
    if not isinstance(data.get("name"), str):
        return None
    type_ = data.get("type")
    if type_ in _DATA_TYPES and "path" in data:
        return "data"
    if type_ in _MODEL_TYPES and "path" in data:
        return "model"
    if type_ == "command" and "command" in data and "experiment_name" not in data:
        return "component"
    if type_ is None and (data.keys() & {"conda_file", "build"} or ("image" in data and "deployments" not in data)):
        return "environment" if not data.keys() & {"endpoint_name", "model", "code"} else None
    return None


@dataclass
class AssetIndex:
    """The declared assets of a repository; it is searched when the first of them is asked for."""

    reader: Reader
    declared: tuple[Path, ...] = ()
    """Files to look at besides what the search finds, such as those that `mlops.yaml` lists."""

    def find(self, kind: AssetKind, reference: AssetReference, *, beside: Path) -> DeclaredAsset:
        """
        Find the file that declares an asset.

        Where several files declare the name, the one nearest to the folder `beside` wins (as in a monorepo with one
        `train` component per project), then the highest version. A file without a version serves each version.

        Raises:
            AssetNotDeclaredError: There is none of that name and version.
        """
        named = [asset for asset in self._named(reference.name) if asset.kind == kind]
        fitting = [asset for asset in named if reference.version in (None, asset.version) or asset.version is None]
        if not fitting:
            near = difflib.get_close_matches(reference.name, self._paths_of.keys() - {reference.name}, n=1, cutoff=0.8)
            versions = tuple(sorted({asset.version or "" for asset in named}))
            raise AssetNotDeclaredError(reference, near[0] if near else None, versions)
        return max(fitting, key=lambda asset: (_nearness(asset.document.folder, beside), _version_key(asset)))

    def _named(self, name: str) -> Iterator[DeclaredAsset]:
        for path in self._paths_of.get(name, ()):
            try:
                document = self.reader.read(path)
            except DocumentError:
                # The repository may hold any YAML: templates, several documents in one file. It declares nothing then.
                continue
            kind, version = kind_of(document.data), document.data.get("version")
            if kind is not None and document.data.get("name") == name:
                yield DeclaredAsset(kind, name, None if version is None else str(version), document)

    @cached_property
    def _paths_of(self) -> dict[str, list[Path]]:
        """Files by the name at their top level; found without parsing, since a repository may hold thousands."""
        self.reader.scanned = True
        paths: dict[str, list[Path]] = {}
        for path in sorted({*self.declared, *yaml_files(self.reader.root)}):
            match = _NAME.search(path.read_bytes()) if path.is_file() else None
            if match is not None:
                paths.setdefault(match[1].decode(errors="replace"), []).append(path)
        return paths


def yaml_files(root: Path) -> Iterator[Path]:
    """List the YAML files below a folder that may declare something, without hidden and generated folders."""
    count = 0
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if name not in _SKIPPED and not name.startswith("."))
        for name in sorted(files):
            if not name.endswith((".yml", ".yaml")):
                continue
            path = Path(folder, name)
            count += 1
            if count > _MAX_FILES:
                return
            if path.is_file() and path.stat().st_size <= _MAX_ASSET_BYTES:
                yield path


def _nearness(folder: Path, other: Path) -> int:
    """Count the folders that one passes on the way from one to the other, negated."""
    here, there = folder.resolve().parts, other.resolve().parts
    shared = next((index for index, (one, two) in enumerate(zip(here, there, strict=False)) if one != two), None)
    shared = min(len(here), len(there)) if shared is None else shared
    return 2 * shared - len(here) - len(there)


def _version_key(asset: DeclaredAsset) -> tuple[tuple[int, str], ...]:
    """Order versions by their numbers: 10 after 9."""
    parts = re.split(r"[.\-_]", asset.version or "")
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)
