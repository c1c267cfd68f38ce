"""
Reuse of steps: an entry per key (code, command, inputs, environment), naming the outputs of the step that made them.

Outputs are not copied: an entry names the folder of the job that wrote them, with their digest. An entry whose outputs
were changed or removed since is worth nothing and is ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlops_core.pipelines.plan import Step
from mlops_core.pipelines.results import StepResult
from mlops_core.pipelines.step_files import digest_of_path

# Raise it when the same step would leave other outputs.
_VERSION = 1


def key_of(step: Step, *, environment: str, code: str, inputs: Mapping[str, str], tracked: bool) -> str:
    """
    Hash all that a step's outputs depend on.

    Args:
        environment: Digest of its environment.
        code: Digest of its code.
        inputs: Text of each literal, digest of the content of each file or folder.
        tracked: Whether there is a tracking server. Without one nobody knows whether a step registered a model, so what ran
            so is never taken over where there is one.
    """
    content = {
        "version": _VERSION,
        "command": step.command,
        "kind": step.kind,
        "sweep": step.sweep.model_dump(mode="json") if step.sweep else None,
        "variables": step.environment_variables,
        "outputs": {name: output.model_dump(mode="json") for name, output in step.outputs.items()},
        "environment": environment,
        "code": code,
        "inputs": dict(inputs),
        "tracked": tracked,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_intact(result: StepResult, digests: Mapping[str, str]) -> bool:
    """Tell whether the outputs of an earlier step are what they were."""
    return all(digest_of_path(Path(path)) == digests.get(name) for name, path in result.outputs.items())


class ReuseCache:
    """Entries in a folder, one file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, key: str) -> StepResult | None:
        """Give the earlier result of the same key, if its outputs are intact."""
        try:
            entry = json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8"))
            result = StepResult(**entry["result"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return result if is_intact(result, entry["digests"]) else None

    def keep(self, result: StepResult) -> None:
        """Remember a result."""
        self._folder.mkdir(parents=True, exist_ok=True)
        digests = {name: digest_of_path(Path(path)) for name, path in result.outputs.items()}
        descriptor, temporary = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump({"result": result.__dict__, "digests": digests}, stream)
        Path(temporary).replace(self._folder / f"{result.key}.json")
