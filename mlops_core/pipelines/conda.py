"""
Read a conda file as requirement lines for pip: most conda packages have a twin on PyPI, often of the same name.

What is left out because it is no Python package (compilers, CUDA) is said in a note, so that nobody has to guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# Names that differ between conda and PyPI, as far as the public examples use them.
_TWINS = {
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "py-xgboost": "xgboost",
    "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack",
    "opencv": "opencv-python-headless",
    "pytables": "tables",
    "tensorflow-gpu": "tensorflow",
    "dask-core": "dask",
    "sqlite": "",
    "ruamel_yaml": "ruamel.yaml",
}
_NO_PYTHON = re.compile(
    r"^(cuda|cudatoolkit|cudnn|gcc|gxx|libgcc|libstdcxx|openmpi|mpich|nodejs|git|make|cmake|ninja)\b"
)
_SPEC = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?\s*(.*)$")


@dataclass(frozen=True)
class Requirements:
    """
    What a virtual environment must hold.

    Attributes:
        lines: As in a requirements file.
        notes: What was left out or changed, in sentences.
    """

    lines: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_conda(conda: Mapping[str, object]) -> Requirements:
    """Turn the dependencies of a conda file into requirement lines; `python` and `pip` themselves are left out."""
    lines: list[str] = []
    notes: list[str] = []
    dependencies = conda.get("dependencies")
    for entry in dependencies if isinstance(dependencies, list) else []:
        if isinstance(entry, dict):
            lines += [str(line).strip() for line in entry.get("pip") or []]
        elif isinstance(entry, str):
            _add_conda_package(entry.rpartition("::")[2].strip(), lines, notes)
    return Requirements(tuple(line for line in lines if line and not line.startswith("#")), tuple(notes))


def _add_conda_package(entry: str, lines: list[str], notes: list[str]) -> None:
    match = _SPEC.match(entry)
    name = match[1].lower() if match else ""
    if name in ("python", "pip", ""):
        return
    if _NO_PYTHON.match(name) or _TWINS.get(name) == "":
        notes.append(f"conda package '{entry}' is no Python package and was left out.")
        return
    rest = match[2] if match else ""
    twin = _TWINS.get(name, match[1] if match else entry)
    lines.append(twin + _pip_version(rest))


def _pip_version(rest: str) -> str:
    rest = rest.strip()
    if rest.startswith("=") and not rest.startswith("=="):
        # numpy=1.26=py311_0: the build is conda's own affair; numpy=1.26 means any 1.26.
        version = rest.lstrip("=").split("=")[0].strip().rstrip("*").rstrip(".")
        return f"=={version}.*" if version.count(".") < 2 else f"=={version}"  # noqa: PLR2004 - major.minor.patch
    if rest.startswith("=="):
        return "==" + rest[2:].split("=")[0].strip()
    return rest.replace(" ", "") if rest and rest[0] in "<>!~" else (f"=={rest.split()[0]}" if rest else "")
