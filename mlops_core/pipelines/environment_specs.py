"""
What a step's Python must hold, read from what its YAML says about the environment.

In this order: what the user named as a replacement, what the repository declares, what Azure ML publishes
(`curated.py`). Everything else is refused: an image or a build context may hold anything, and a run with guessed
packages would look like the real one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlops_core.pipelines.assets import AssetIndex, AssetNotDeclaredError
from mlops_core.pipelines.curated import curated_environment, environment_of_image
from mlops_core.pipelines.documents import Document, DocumentError, KeyPath, Reader
from mlops_core.pipelines.errors import Problem
from mlops_core.pipelines.findings import Findings
from mlops_core.pipelines.plan import EnvironmentSpec
from mlops_core.pipelines.references import AssetReference, LocalReference, RegistryReference, parse_reference

CURRENT = "current"
ANY = "*"
_PYTHON = re.compile(r"python\s*(?P<operator>[=<>!~]+)\s*(?P<rest>.+)|python\s+(?P<bare>\d.*)")
_FIX = (
    "Name a conda or requirements file, or 'current' for the interpreter at hand, as its replacement: "
    "'local: {{environments: {{\"{key}\": FILE}}}}' in mlops.yaml, or '--environment \"{key}=FILE\"'."
)


@dataclass(frozen=True)
class _Place:
    """Where an environment is asked for."""

    document: Document
    key: KeyPath
    step: str


@dataclass
class EnvironmentResolver:
    """Turns what the YAML says into an `EnvironmentSpec`, or into findings."""

    reader: Reader
    assets: AssetIndex
    findings: Findings
    replacements: Mapping[str, str]
    """By reference, image or build path; `*` for all that could not be met otherwise."""

    def resolve(self, value: object, document: Document, key: KeyPath, step: str) -> EnvironmentSpec | None:
        """Give the environment, or None after a finding was added."""
        place = _Place(document, key, step)
        if isinstance(value, dict):
            return self._inline({str(name): item for name, item in value.items()}, place)
        if not isinstance(value, str) or not value.strip():
            self._problem(place, "the step has no environment. Name one: a conda file with an image, or a reference.")
            return None
        return self._named(value.strip(), place)

    def _named(self, text: str, place: _Place) -> EnvironmentSpec | None:
        if text in self.replacements:
            return self._replacement(text, text, place)
        reference = parse_reference(text)
        if isinstance(reference, LocalReference):
            return self._file(place.document.folder / reference.text, text, place)
        if isinstance(reference, AssetReference):
            return self._asset(reference, place)
        if isinstance(reference, RegistryReference) and reference.registry == "azureml":
            curated = curated_environment(reference.name, text)
            if curated is not None:
                return curated
        return self._refuse(text, f"its environment '{text}' is not in the repository", place)

    def _asset(self, reference: AssetReference, place: _Place) -> EnvironmentSpec | None:
        try:
            asset = self.assets.find("environment", reference, beside=place.document.folder)
        except AssetNotDeclaredError as error:
            curated = curated_environment(reference.name, reference.text)
            if curated is not None:
                return curated
            hint = f" (is it '{error.nearest}'?)" if error.nearest else ""
            message = f"no YAML file of the repository declares its environment '{reference.text}'{hint}"
            return self._refuse(reference.text, message, place)
        spec = self._described(asset.document.data, _Place(asset.document, (), place.step), reference.text)
        return spec and spec.model_copy(update={"name": reference.text})

    def _file(self, path: Path, text: str, place: _Place) -> EnvironmentSpec | None:
        try:
            document = self.reader.read(path)
        except DocumentError as error:
            self._broken_file(error.problem, place)
            return None
        if "dependencies" in document.data:
            return environment_of_conda(document.data, text, image=None)
        return self._described(document.data, _Place(document, (), place.step), text)

    def _inline(self, data: dict[str, object], place: _Place) -> EnvironmentSpec | None:
        if "conda_file" in data:
            conda = data["conda_file"]
            inline = not isinstance(conda, str)
            shown = "inline conda file" if inline else self.reader.shown(place.document.folder / str(conda))
            return self._described(data, place, str(data.get("name") or shown))
        return self._described(data, place, str(data.get("name") or data.get("image") or "inline environment"))

    def _described(self, data: Mapping[str, object], place: _Place, name: str) -> EnvironmentSpec | None:
        """Read a mapping of the environment schema, inline or in a file of its own."""
        image = str(data["image"]) if data.get("image") else None
        if "conda_file" in data:
            return self._conda(data["conda_file"], place, name, image)
        if "build" in data:
            return self._build(data["build"], place, name)
        if image is None:
            self._problem(place, "the environment has neither 'conda_file' nor 'image' nor 'build'. Give it one.")
            return None
        if image in self.replacements:
            return self._replacement(image, name, place)
        bare = environment_of_image(image)
        if bare is not None:
            return bare
        return self._refuse(image, f"its environment is only the image '{image}', whose packages are unknown", place)

    def _conda(self, value: object, place: _Place, name: str, image: str | None) -> EnvironmentSpec | None:
        if isinstance(value, dict):
            return environment_of_conda({str(key): item for key, item in value.items()}, name, image)
        try:
            document = self.reader.read(place.document.folder / str(value))
        except DocumentError as error:
            self._broken_file(error.problem, _Place(place.document, (*place.key, "conda_file"), place.step))
            return None
        return environment_of_conda(document.data, name, image)

    def _build(self, value: object, place: _Place, name: str) -> EnvironmentSpec | None:
        path = str(value.get("path", ".")) if isinstance(value, dict) else str(value)
        if path in self.replacements:
            return self._replacement(path, name, place)
        message = f"its environment is built from the container context '{path}', and there is no container engine here"
        return self._refuse(path, message, place)

    def _refuse(self, key: str, message: str, place: _Place) -> EnvironmentSpec | None:
        if ANY in self.replacements:
            return self._replacement(ANY, key, place)
        self.findings.refuse(place.document, place.key, f"{message}. {_FIX.format(key=key)}", step=place.step)
        return None

    def _replacement(self, key: str, name: str, place: _Place) -> EnvironmentSpec | None:
        """Read what the user named: `current`, a conda file, an environment's YAML, or a requirements file."""
        target = self.replacements[key]
        note = f"The environment '{name}' was replaced by '{target}', as asked for."
        if target == CURRENT:
            return EnvironmentSpec(name=name, current=True, note=note)
        path = self.reader.root / target
        if path.suffix in {".yml", ".yaml"}:
            spec = self._file(path, name, place)
            return spec and spec.model_copy(update={"note": note})
        try:
            lines = self.reader.read_bytes(path).decode("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            self._problem(place, f"the replacement '{target}' of '{key}' cannot be read: {error}. Correct its path.")
            return None
        requirements = tuple(line for line in map(_without_comment, lines) if line)
        return EnvironmentSpec(name=name, pip_requirements=requirements, note=note)

    def _broken_file(self, problem: Problem, place: _Place) -> None:
        if problem.line is None:
            self._problem(place, f"{problem.file}: {problem.message}")
        else:
            self.findings.add(problem)

    def _problem(self, place: _Place, message: str) -> None:
        self.findings.problem(place.document, place.key, message, step=place.step)


def environment_of_conda(data: dict[str, object], name: str, image: str | None) -> EnvironmentSpec:
    """Say what a parsed conda file asks for."""
    note = f"The image '{image}' is not used here, only the conda file's packages." if image else None
    return EnvironmentSpec(name=name, python_version=_python_version(data), conda=data, image=image, note=note)


def _python_version(conda: Mapping[str, object]) -> str | None:
    """Find the Python that a conda file asks for: `3.10` for `python=3.10`, a range as it is."""
    dependencies = conda.get("dependencies")
    for dependency in dependencies if isinstance(dependencies, list) else ():
        match = _PYTHON.fullmatch(dependency.strip()) if isinstance(dependency, str) else None
        if match is not None and match["bare"]:
            return match["bare"]
        if match is not None:
            exact = match["operator"] in {"=", "=="}
            # `python=3.10=build` names a build besides; `3.10.*` means what 3.10 means.
            return match["rest"].split("=")[0].removesuffix(".*") if exact else match["operator"] + match["rest"]
    return None


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*$", "", line).strip()
