"""Read an environment from whatever file declares it: an Azure ML asset, a conda file, a requirements file."""

from __future__ import annotations

from pathlib import Path

import yaml

from mlops_core.domain.errors import BadInputError
from mlops_core.pipelines.environment_specs import environment_of_conda
from mlops_core.pipelines.plan import EnvironmentSpec


def read_environment(path: Path) -> EnvironmentSpec:
    """Read an environment from an Azure ML asset, a conda file or a requirements file. Raises BadInputError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"Environment file '{path.name}' cannot be read: {error.strerror}.") from None
    if path.suffix not in (".yml", ".yaml"):
        lines = tuple(line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#"))
        return EnvironmentSpec(name=path.name, pip_requirements=lines)
    document = yaml.safe_load(text)
    conda = document.get("conda_file", document) if isinstance(document, dict) else None
    if isinstance(conda, str):
        conda = yaml.safe_load((path.parent / conda).read_text(encoding="utf-8"))
    if not isinstance(conda, dict):
        raise BadInputError(f"'{path.name}' is neither an environment asset nor a conda file.")
    return environment_of_conda(conda, str(conda.get("name", path.name)), None)
