"""
Set up the assets that `mlops.yaml` lists, before the tests: what each kind means on a laptop.

Environments are made now, so that no later step waits for one; data and components are checked; a compute target has no
meaning here and is said to have none.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml

from mlops_core.domain.errors import BadInputError
from mlops_core.jobs.environment_files import read_environment
from mlops_core.jobs.request import JobOrder
from mlops_core.pipelines.assets import kind_of
from mlops_core.pipelines.environments import EnvironmentMaker
from mlops_core.pipelines.results import Kind

Tell = Callable[[Kind, str], None]


def set_up_assets(order: JobOrder, maker: EnvironmentMaker, tell: Tell) -> None:
    """
    Set up each listed asset.

    Raises: BadInputError: A file is no asset, or names something that is not there; EnvironmentFailedError.
    """
    for asset in order.spec.build.assets:
        path = order.project_root / asset
        document = _read(path, asset)
        kind = "compute" if "compute" in str(document.get("$schema", "")).lower() else kind_of(document)
        if kind == "environment":
            _make(path, asset, document, maker, tell)
        elif kind in ("data", "component", "model"):
            _check_paths(path, asset, document, tell)
        elif kind == "compute":
            tell("log", f"asset {asset}: compute targets are not used on a laptop")
        else:
            raise BadInputError(
                f"{order.manifest}, build.assets: '{asset}' is no environment, data, component or compute asset. "
                "Remove it, or give it the '$schema' of its kind."
            )


def _read(path: Path, asset: str) -> dict[str, object]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInputError(f"Asset '{asset}' cannot be read: {str(error)[:300]}.") from None
    if not isinstance(document, dict):
        raise BadInputError(f"Asset '{asset}' is no mapping. Write it as for the 'az ml' command.")
    return document


def _make(path: Path, asset: str, document: dict[str, object], maker: EnvironmentMaker, tell: Tell) -> None:
    if "conda_file" not in document and "dependencies" not in document:
        tell("log", f"asset {asset}: an image without a conda file has nothing to install here")
        return
    made = maker.make(read_environment(path), tell=lambda text: tell("stage", text))
    tell("log", f"asset {asset}: environment {'cached' if made.cached else 'made'}")


def _check_paths(path: Path, asset: str, document: dict[str, object], tell: Tell) -> None:
    for key in ("path", "code"):
        value = document.get(key)
        if not isinstance(value, str):
            continue
        if ":" in value:
            tell("log", f"asset {asset}: '{value}' is not on this machine; bind it with local.data where it is used")
        elif not (path.parent / value).exists():
            raise BadInputError(f"Asset '{asset}', {key}: there is no '{value}' beside it. Correct the path.")
        else:
            tell("log", f"asset {asset}: {value} is there")
