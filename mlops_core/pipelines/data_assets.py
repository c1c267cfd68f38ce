"""
Data that steps registered under a name: the versions of it on this machine, as data assets are in a workspace.

Each version is a folder with the content and the YAML file that a repository would declare it by, so that
`azureml:NAME@latest` and `azureml:NAME:3` of any pipeline find it as they find what the repository declares. The same
content again is the same version: a retrain that changed nothing makes none.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import yaml

from mlops_core.domain.errors import BadInputError
from mlops_core.pipelines.step_files import digest_of_path

_SCHEMA = "https://azuremlschemas.azureedge.net/latest/data.schema.json"
_FILE = "data.yml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


@dataclass(frozen=True)
class DataAssets:
    """
    Versions in a folder: `NAME/VERSION/data.yml`, and the content beside it.

    Attributes:
        folder: Made with the first version.
    """

    folder: Path

    def declared(self) -> tuple[Path, ...]:
        """List the YAML files of all versions."""
        return tuple(sorted(self.folder.glob(f"*/*/{_FILE}")))

    def register(self, name: str, type_: str, content: Path, *, version: str | None = None) -> str:
        """
        Keep a file or folder as a new version.

        Args:
            version: As declared; None: the number after the last one.
        Returns: The version, an earlier one where the content is the same as its.
        Raises: BadInputError: There is no content, the name is none, or the version is there with other content.
        """
        if not _NAME.fullmatch(name) or (version is not None and not _NAME.fullmatch(version)):
            raise BadInputError(f"'{name}:{version or ''}' is no name of a data asset. Use letters, digits, . _ and -.")
        if not content.exists():
            raise BadInputError(f"The output that is to be registered as '{name}' was not written: {content}.")
        digest = digest_of_path(content)
        beside = self._written(name, type_, content, digest)
        try:
            return self._numbered(beside, name, digest, version)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _numbered(self, beside: Path, name: str, digest: str, version: str | None) -> str:
        while True:
            last = max((int(path.name) for path in (self.folder / name).iterdir() if path.name.isdigit()), default=0)
            same = version or str(last)
            if self._digest(name, same) == digest:
                return same
            chosen = version or str(last + 1)
            _declare(beside, name, chosen)
            try:
                beside.rename(self.folder / name / chosen)
            except OSError:
                if version is not None:
                    raise BadInputError(
                        f"Data asset '{name}' has a version {version} with other content. Leave the output's version out."
                    ) from None
                # Another job took the number a moment earlier.
                continue
            return chosen

    def _written(self, name: str, type_: str, content: Path, digest: str) -> Path:
        beside = self.folder / name / f".{uuid.uuid4().hex}"
        beside.mkdir(parents=True)
        kept = f"content/{content.name}" if content.is_file() else "content"
        if content.is_file():
            (beside / "content").mkdir()
            _link(str(content), str(beside / kept))
        else:
            shutil.copytree(content, beside / kept, copy_function=_link)
        declared = {"$schema": _SCHEMA, "name": name, "type": type_, "path": f"./{kept}", "tags": {"sha256": digest}}
        (beside / _FILE).write_text(yaml.safe_dump(declared, sort_keys=False), encoding="utf-8")
        return beside

    def _digest(self, name: str, version: str) -> str | None:
        try:
            declared = yaml.safe_load((self.folder / name / version / _FILE).read_text(encoding="utf-8"))
        except OSError:
            return None
        return str(declared["tags"]["sha256"])


def _declare(folder: Path, name: str, version: str) -> None:
    file = folder / _FILE
    declared = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump({**declared, "name": name, "version": version}, sort_keys=False), encoding="utf-8")


def _link(source: str, target: str) -> None:
    """Give a file a second name instead of a second copy, where both are on one disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
