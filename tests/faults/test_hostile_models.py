"""
RELIABILITY 23: models that run code when they are loaded run none in the controller, and none that was changed is loaded.

The laptop's way here, through the files of a registry; Azure's is in `tests/azure/test_served_models.py`, and what a
container fetches in `tests/unit/serving/test_fetch.py`.
"""

from __future__ import annotations

import contextlib
import pickle
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import PROJECT
from hostile_models import hostile_models

from mlops_core.adapters.local.model_files import ModelFiles
from mlops_core.adapters.local.scoring_launch import ScoringLaunch
from mlops_core.adapters.mlflow_api import MlflowApi
from mlops_core.domain.errors import HeadraceError
from mlops_core.domain.ids import DeploymentName, ModelName, ModelVersion
from mlops_core.domain.project import Serve
from mlops_core.pipelines.plan import EnvironmentSpec
from mlops_core.ports import DeploymentRequest
from mlops_core.serving.digest import tree_digest
from mlops_core.serving.errors import ModelLoadError
from mlops_core.serving.options import Options
from mlops_core.serving.server import load_scorer

ROOT = Path(__file__).parents[2]
NAMES = sorted(hostile_models(Path("canary")))


class Registry(MlflowApi):
    """A registry whose one model version has these files."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(lambda: "http://127.0.0.1:9")
        self._files = files

    def get(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {"artifact_uri": "mlflow-artifacts:/m"}

    def list_artifacts(self, folder: str) -> list[dict[str, Any]]:
        inside = [path[len(folder) - 1 :] for path in self._files if f"m/{path}".startswith(f"{folder}/")]
        names = {path.partition("/")[0]: "/" in path for path in inside}
        return [{"path": f"{folder}/{name}", "is_dir": is_folder} for name, is_folder in names.items()]

    def download(self, path: str, target: Path) -> None:
        target.write_bytes(self._files[path.removeprefix("m/")])


def current(*_: Any) -> EnvironmentSpec:
    return EnvironmentSpec(name="current", current=True)


def never_made(_: DeploymentRequest, spec: EnvironmentSpec, __: Path) -> Path:
    """Make no environment; what is asked for is small enough to be written down, as whoever makes one does."""
    assert len(repr(spec)) < 2_000_000
    return Path(sys.executable)


def prepared(folder: Path, files: dict[str, bytes]) -> Path:
    """Do all that the controller does with a model of a laptop. Returns the folder of its files."""
    launch = ScoringLaunch(folder, ModelFiles(folder / "models", Registry(files)), {}, never_made, current, current)  # type: ignore[arg-type] - nothing is checked out
    request = DeploymentRequest(
        DeploymentName("m-v1"), ModelName("m"), ModelVersion("1"), PROJECT, None, Serve(), spec=None
    )
    (folder / "deployment").mkdir()
    launch.prepare(request, folder / "deployment")
    return launch.files.artifact_path(request.model, request.version)


def test_there_are_twenty_and_they_do_run_code_where_they_are_loaded(tmp_path: Path) -> None:
    """Negative control: who loads one runs its code."""
    canary = tmp_path / "canary"
    models = hostile_models(canary)

    pickle.loads(models["a pickle"]["model.pkl"])  # noqa: S301 - that is the point

    assert len(models) == 20
    assert canary.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_model_runs_no_code_in_the_controller(name: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(HeadraceError):
        tree_digest(prepared(tmp_path, hostile_models(canary)[name]))

    assert not canary.exists()
    assert time.monotonic() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512_000


def flipped(files: Path, seed: int) -> None:
    """Change one bit of one byte of one file."""
    chance = random.Random(seed)
    path = chance.choice(sorted(path for path in files.rglob("*") if path.is_file() and path.stat().st_size))
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def test_a_hundred_models_with_one_byte_changed_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    files = prepared(tmp_path, hostile_models(canary)["a pickle"])
    digest, refused = tree_digest(files), 0
    for seed in range(100):
        changed = tmp_path / f"changed-{seed}"
        shutil.copytree(files, changed)
        flipped(changed, seed)
        with pytest.raises(ModelLoadError, match="it was not loaded"):
            load_scorer(Options(model=str(changed), digest=digest))
        refused += 1

    assert refused == 100
    assert not canary.exists()


def test_a_model_that_was_changed_after_its_download_is_refused_by_whoever_deploys_it(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    files = prepared(tmp_path, hostile_models(canary)["a loader module beside it"])
    flipped(files, 1)

    launch: Callable[..., Any] = ModelFiles(tmp_path / "models", Registry({})).artifact_path
    with pytest.raises(HeadraceError, match="not those that were downloaded"):
        launch(ModelName("m"), ModelVersion("1"))


def test_the_controller_imports_nothing_that_could_load_a_model() -> None:
    """Not even by mistake: what reads pickles of models is in no module that the function app imports."""
    asked = "import sys, function_app; from mlops_core import bootstrap; import mlops_core.composition.azure"
    shown = "print(sorted({'joblib', 'cloudpickle', 'sklearn', 'torch', 'mlflow', 'numpy'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{asked}; {shown}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
