"""
The inputs of a pipeline itself: what the file says, what a wrapped component declares, what the user gives instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlops_core.pipelines.data_sources import DataResolver
from mlops_core.pipelines.documents import Document, KeyPath
from mlops_core.pipelines.findings import Findings, did_you_mean
from mlops_core.pipelines.plan import AssetType, LiteralSource, LiteralType, PipelineInput, Scalar
from mlops_core.pipelines.ports import ASSET_TYPES, InputPort, input_ports, input_values, type_of_literal
from mlops_core.pipelines.source_tree import ComponentSource


@dataclass(frozen=True)
class Place:
    """Where in the files something is."""

    document: Document
    key: KeyPath
    step: str | None


def unknown_type(name: str) -> str:
    """Say that a type of an input is none of Azure ML's."""
    known = ("string", "integer", "number", "boolean", *ASSET_TYPES)
    return f"'{name}' is no type of an input. {did_you_mean(name, known, what='types')}"


@dataclass
class PipelineInputs:
    """Reads them, and adds what does not fit to the findings."""

    data: DataResolver
    findings: Findings

    def read(
        self, job: Document, wrapped: ComponentSource | None, overrides: Mapping[str, Scalar]
    ) -> dict[str, PipelineInput]:
        """
        Give each input that has a value, or that may go without one.

        Args:
            wrapped: The pipeline component, where the job only names one.
            overrides: Values that count more than those of the file.
        """
        given = job.data.get("inputs")
        entries = input_values({str(name): entry for name, entry in given.items()} if isinstance(given, dict) else {})
        own = ComponentSource("pipeline", job, (), job.data, inline=True)
        ports = input_ports(wrapped) if wrapped is not None else input_ports(own)
        for name in [name for name in entries if name not in ports]:
            message = f"the component has no input '{name}'. {did_you_mean(name, ports, what='inputs')}"
            self.findings.problem(job, ("inputs", name), message)
        for name in [name for name in overrides if name not in ports]:
            advice = did_you_mean(name, ports, what="inputs")
            self.findings.problem(
                job, ("inputs",), f"a value is given for the input '{name}', which is not there. {advice}"
            )
        found: dict[str, PipelineInput] = {}
        for name, port in ports.items():
            place = Place(job, ("inputs", name), None)
            value = self._pipeline_value(entries.get(name), port, overrides.get(name), place)
            if value is not None:
                found[name] = value
        return found

    def _pipeline_value(
        self, entry: object, port: InputPort, override: Scalar | None, place: Place
    ) -> PipelineInput | None:
        declared = str(entry.get("type", "")).lower() if isinstance(entry, dict) else ""
        kind: LiteralType | AssetType = port.type or "string"
        if override is not None:
            return self._overridden(override, InputPort(kind, choices=port.choices), place)
        if port.unknown_type is not None:
            self._problem(place, unknown_type(port.unknown_type))
            return None
        if isinstance(entry, dict) and kind in ASSET_TYPES and entry.get("path") is not None:
            kind = ASSET_TYPES.get(declared, ASSET_TYPES[kind])
            path = self.data.resolve(str(entry["path"]), kind, place.document, (*place.key, "path"), place.step)
            return PipelineInput(type=kind, source=path) if path is not None else None
        value = entry.get("default") if isinstance(entry, dict) else entry
        value = port.default if value is None else value
        if isinstance(value, (bool, int, float, str)):
            wrong = port.rejects(value) if port.type is not None else None
            if wrong is not None:
                self._problem(place, wrong)
                return None
            return PipelineInput(type=kind, source=LiteralSource(value=value))
        if not port.optional and not (isinstance(entry, dict) and entry.get("optional") is True):
            self._problem(place, "the input has no value. Write one, or give it with '--input NAME=VALUE'.")
            return None
        return PipelineInput(type=kind)

    def _overridden(self, value: Scalar, port: InputPort, place: Place) -> PipelineInput | None:
        if port.type in ASSET_TYPES:
            kind = ASSET_TYPES[port.type]
            root = Document(self.data.reader.root / "mlops.yaml", place.document.label, {}, place.document.lines)
            path = self.data.resolve(str(value), kind, root, place.key, None)
            return PipelineInput(type=kind, source=path) if path is not None else None
        # A number in the file does not mean that the next value is whole too: 1 may become 0.5.
        loosened = InputPort("number", choices=port.choices) if port.type == "integer" else port
        wrong = loosened.rejects(value)
        if wrong is not None:
            self._problem(place, f"the value given for it does not fit: {wrong}")
            return None
        return PipelineInput(type=port.type or type_of_literal(value), source=LiteralSource(value=value))

    def _problem(self, place: Place, message: str) -> None:
        self.findings.problem(place.document, place.key, message, step=place.step)
