"""
Where the data of an input is on this machine: a path of the repository, a declared asset, or what the user bound.

What is only in the cloud is refused. A path is also looked at: an `mlflow_model` without an `MLmodel` file would fail
in the middle of the run, and the reason would be hard to see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlops_core.pipelines.assets import AssetIndex, AssetKind, AssetNotDeclaredError
from mlops_core.pipelines.documents import Document, KeyPath, Reader
from mlops_core.pipelines.findings import Findings
from mlops_core.pipelines.plan import PathSource
from mlops_core.pipelines.references import AssetReference, LocalReference, parse_reference

_FIX = (
    "Name a file or folder that stands for it: 'local: {{data: {{\"{key}\": PATH}}}}' in mlops.yaml, "
    "or '--bind \"{key}=PATH\"'."
)
_MARKERS = {"mltable": "MLTable", "mlflow_model": "MLmodel"}
MODEL_TYPES = {"mlflow_model", "custom_model", "triton_model"}


@dataclass
class DataResolver:
    """Turns the text of an input's `path` into a `PathSource`, or into findings."""

    reader: Reader
    assets: AssetIndex
    findings: Findings
    bindings: Mapping[str, str]
    """Local path by reference or address; paths start at the project's root."""

    def resolve(self, text: str, type_: str, document: Document, key: KeyPath, step: str | None) -> PathSource | None:
        """Give where the data is, or None after a finding was added."""
        text = text.strip()
        if text in self.bindings:
            path = self.reader.root / self.bindings[text]
            what = f"'{text}' is bound to '{self.bindings[text]}'"
            return self._checked(path, type_, document, key, step, what=what, asset=text)
        reference = parse_reference(text)
        if isinstance(reference, LocalReference):
            path = document.folder / reference.text
            return self._checked(path, type_, document, key, step, what=f"the path '{text}'")
        if isinstance(reference, AssetReference):
            return self._declared(reference, type_, document, key, step)
        message = f"its data '{text}' is not on this machine. {_FIX.format(key=text)}"
        self.findings.refuse(document, key, message, step=step)
        return None

    def _declared(
        self, reference: AssetReference, type_: str, document: Document, key: KeyPath, step: str | None
    ) -> PathSource | None:
        kind: AssetKind = "model" if type_ in MODEL_TYPES else "data"
        try:
            asset = self.assets.find(kind, reference, beside=document.folder)
        except AssetNotDeclaredError as error:
            hint = f" Is it '{error.nearest}'?" if error.nearest else ""
            message = (
                f"no YAML file of the repository declares the {kind} asset '{reference.text}'.{hint} "
                f"{_FIX.format(key=reference.text)}"
            )
            self.findings.refuse(document, key, message, step=step)
            return None
        where = parse_reference(str(asset.document.data.get("path", "")))
        if not isinstance(where, LocalReference):
            message = (
                f"the {kind} asset '{reference.text}' ({asset.document.label}) is at '{where.text}', not on this "
                f"machine. {_FIX.format(key=reference.text)}"
            )
            self.findings.refuse(document, key, message, step=step)
            return None
        path = asset.document.folder / where.text
        what = f"the path '{where.text}' of the asset '{reference.text}'"
        return self._checked(
            path, type_, asset.document, ("path",), step, what=what, asset=reference.text, version=asset.version
        )

    def _checked(
        self,
        path: Path,
        type_: str,
        document: Document,
        key: KeyPath,
        step: str | None,
        *,
        what: str,
        asset: str | None = None,
        version: str | None = None,
    ) -> PathSource | None:
        wrong = self._wrong_shape(path, type_)
        if wrong is not None:
            self.findings.problem(document, key, f"{what} {wrong}", step=step)
            return None
        return PathSource(path=self.reader.portable(path), asset=asset, asset_version=version)

    def _wrong_shape(self, path: Path, type_: str) -> str | None:
        if not self.reader.exists(path):
            return f"does not exist ({self.reader.shown(path)}). Correct it, or add the file."
        if type_ == "uri_file" and path.is_dir():
            return "is a folder, but the type is uri_file. Name a file, or make the type uri_folder."
        if type_ == "uri_folder" and path.is_file():
            return "is a file, but the type is uri_folder. Name its folder, or make the type uri_file."
        marker = _MARKERS.get(type_)
        if marker is not None and not self.reader.exists(path / marker):
            return f"holds no file '{marker}', which a folder of type {type_} must have. Name the folder that has it."
        return None
