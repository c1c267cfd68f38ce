"""
What a scoring image is built from: a Dockerfile, the environment's packages, and the scoring app's sources.

Two environments with the same packages give the same bytes, whatever they are called and whenever they are made: the digest
over them is what says that an image need not be built again.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlops_core import serving
from mlops_core.domain.errors import BadInputError
from mlops_core.pipelines.plan import EnvironmentSpec
from mlops_core.serving.requirements import SERVING_REQUIREMENTS

DEFAULT_BASE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"
_AZURE_ML_BASES = "mcr.microsoft.com/azureml/"
_DEFAULT_PYTHON = "3.11"
_DIGEST_LETTERS = 24
_EXACT = re.compile(r"\d+(\.\d+)*")
# What pip would read from a folder that is not here: `-r file`, `-e .`, `./wheel.whl`, `/path`, `file:...`.
_LOCAL_FILE = re.compile(r"^(-(r|c|e|-requirement|-constraint|-editable)\b|\.{0,2}/|file:)")

_DOCKERFILE = """\
FROM {base}
USER root
COPY environment.yml serving.txt /tmp/headrace/
RUN conda env create --quiet --prefix /opt/environment --file /tmp/headrace/environment.yml \\
 && /opt/environment/bin/python -m pip install --no-cache-dir --requirement /tmp/headrace/serving.txt \\
 && conda clean --all --yes && rm -rf /tmp/headrace
COPY mlops_core /opt/headrace/mlops_core
RUN useradd --uid 10001 --create-home scoring && mkdir -p /var/headrace && chown scoring /var/headrace
ENV PATH=/opt/environment/bin:$PATH PYTHONPATH=/opt/headrace PYTHONUNBUFFERED=1
USER scoring
WORKDIR /home/scoring
CMD ["python", "-m", "mlops_core.serving"]
"""


@dataclass(frozen=True)
class Context:
    """A build's sources as a `tar.gz`, and the digest of what is in it."""

    digest: str
    archive: bytes


def make_context(environment: EnvironmentSpec, base: str = DEFAULT_BASE) -> Context:
    """
    Make the sources of an environment's image.

    Raises: BadInputError: The environment is the interpreter at hand, or needs files that an image build does not have.
    """
    image = environment.image
    files = {
        "Dockerfile": _DOCKERFILE.format(base=image if image and image.startswith(_AZURE_ML_BASES) else base).encode(),
        "environment.yml": yaml.safe_dump(conda_of(environment), sort_keys=True).encode(),
        "serving.txt": "".join(f"{line}\n" for line in SERVING_REQUIREMENTS).encode(),
        "mlops_core/__init__.py": b"",
        **_sources(),
    }
    lines = "".join(f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n" for path in sorted(files))
    return Context(hashlib.sha256(lines.encode()).hexdigest()[:_DIGEST_LETTERS], _packed(files))


def conda_of(environment: EnvironmentSpec) -> dict[str, Any]:
    """Write what an environment asks for as a conda file, without the names that people give it. Raises: BadInputError."""
    if environment.current:
        raise BadInputError(
            "The environment 'current' is the interpreter that runs Headrace, which no container has. Name a conda or "
            "requirements file in 'release: serve: environment' of mlops.yaml, or let the model declare its packages."
        )
    if environment.conda is None:
        conda: dict[str, Any] = {"channels": ["conda-forge"], "dependencies": []}
    else:
        conda = {key: value for key, value in environment.conda.items() if key not in ("name", "prefix")}
    listed = conda.get("dependencies")
    dependencies = list(listed) if isinstance(listed, list) else []
    pip = [*environment.pip_requirements]
    for entry in [each for each in dependencies if isinstance(each, Mapping)]:
        dependencies.remove(entry)
        pip += [str(line).strip() for line in entry.get("pip") or []]
    _refuse_local_files(pip, environment.name)
    names = {re.split(r"[\s=<>!~\[]", str(each).rpartition("::")[2].strip(), maxsplit=1)[0] for each in dependencies}
    if "python" not in names:
        dependencies.insert(0, _python(environment.python_version))
    if "pip" not in names:
        dependencies.append("pip")
    return {**conda, "dependencies": [*dependencies, *([{"pip": pip}] if pip else [])]}


def _python(version: str | None) -> str:
    version = version or _DEFAULT_PYTHON
    return f"python={version}" if _EXACT.fullmatch(version) else f"python{version}"


def _refuse_local_files(lines: list[str], name: str) -> None:
    local = [line for line in lines if _LOCAL_FILE.match(line)]
    if local:
        raise BadInputError(
            f"Environment '{name}' installs '{local[0]}', a file of the repository, which an image build does not have. "
            "Name the packages themselves, or publish the file to a package index."
        )


def _sources() -> dict[str, bytes]:
    root = Path(serving.__file__).parent
    found = sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"mlops_core/serving/{path.relative_to(root).as_posix()}": path.read_bytes() for path in found}


def _packed(files: Mapping[str, bytes]) -> bytes:
    """Pack files so that the same content gives the same bytes: no times, no owners."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(files):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(files[path]), 0o644
            archive.addfile(entry, io.BytesIO(files[path]))
    return gzip.compress(plain.getvalue(), mtime=0)
