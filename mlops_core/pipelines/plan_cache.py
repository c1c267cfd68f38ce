"""
Plans kept by the content of everything that they were made from, since importing azure-ai-ml costs seconds.

An entry is used when the request is the same and every file that the loading read has the same content, whatever the
checkout's folder: the paths in it start at the project's root. Reading an entry imports nothing of azure-ai-ml.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mlops_core.domain.values import Value
from mlops_core.pipelines.assets import yaml_files
from mlops_core.pipelines.documents import Reader
from mlops_core.pipelines.loader import LOADER_VERSION, LoadRequest, load_plan
from mlops_core.pipelines.plan import PipelinePlan

_LOG = logging.getLogger(__name__)
# Enough for a few branches of one pipeline.
_ENTRIES_PER_REQUEST = 16
_FILE, _FOLDER = "a file", "a folder"


class _Entry(Value):
    """What is stored: the plan, and what it depends on."""

    files: dict[str, str]
    """By path: SHA-256 of the content, or `a file` or `a folder` where only the existence mattered."""
    declarations: str | None
    """Digest of all YAML files of the project, where it was searched for declared assets."""
    plan: PipelinePlan


@dataclass(frozen=True)
class PlanCache:
    """A folder of plans."""

    folder: Path

    def load(self, request: LoadRequest) -> PipelinePlan:
        """
        Give the plan of a pipeline, from the cache where nothing changed.

        Raises: As `load_plan`; what is refused is never kept.
        """
        kept = self.find(request)
        if kept is not None:
            return kept
        reader = Reader(request.project_root)
        plan = load_plan(request, reader)
        self._keep(request, reader, plan)
        return plan

    def find(self, request: LoadRequest) -> PipelinePlan | None:
        """Give the kept plan; None where there is none, or where some file changed since."""
        reader = Reader(request.project_root)
        for path in self._paths(request):
            try:
                entry = _Entry.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):
                # Half gone or of another version: the plan is made again, which mends the entry.
                _LOG.warning("a kept plan cannot be read", extra={"path": str(path)})
                continue
            if _is_fresh(entry, request, reader):
                return entry.plan
        return None

    def _paths(self, request: LoadRequest) -> list[Path]:
        """Entries of a request, newest first."""
        folder = self.folder / _key(request)
        if not folder.is_dir():
            return []
        return sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)

    def _keep(self, request: LoadRequest, reader: Reader, plan: PipelinePlan) -> None:
        entry = _Entry(
            files={reader.portable(path): digest or _shape(path) for path, digest in sorted(reader.seen.items())},
            declarations=_declarations(request) if reader.scanned else None,
            plan=plan,
        )
        folder = self.folder / _key(request)
        folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(json.dumps([entry.files, entry.declarations]).encode()).hexdigest()
        _write(folder / f"{name[:32]}.json", entry.model_dump_json().encode())
        for old in self._paths(request)[_ENTRIES_PER_REQUEST:]:
            old.unlink(missing_ok=True)


def _key(request: LoadRequest) -> str:
    reader = Reader(request.project_root)
    parts = {
        "loader": LOADER_VERSION,
        "azure-ai-ml": importlib.metadata.version("azure-ai-ml"),
        "pipeline": reader.portable(request.yaml_path),
        "inputs": {name: [type(value).__name__, value] for name, value in request.inputs.items()},
        "bindings": dict(request.bindings),
        "environments": dict(request.environments),
        "declared": [reader.portable(path) for path in request.declared],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _is_fresh(entry: _Entry, request: LoadRequest, reader: Reader) -> bool:
    if any(_state(reader.root / name, known) != known for name, known in entry.files.items()):
        return False
    return entry.declarations is None or entry.declarations == _declarations(request)


def _state(path: Path, known: str) -> str:
    if known in {_FILE, _FOLDER}:
        return _shape(path)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _shape(path: Path) -> str:
    if path.is_dir():
        return _FOLDER
    return _FILE if path.exists() else ""


def _declarations(request: LoadRequest) -> str:
    """A new asset file may change what `@latest` means, so all of them count, not only those that were read."""
    root, digest = request.project_root.resolve(), hashlib.sha256()
    for path in yaml_files(root):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Write so that a crash leaves the old file or the new one, never half of it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    Path(temporary).replace(path)
