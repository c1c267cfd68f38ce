"""
Where each input of each step comes from, through nested pipelines, and whether it fits.

It works on the raw YAML, so that a wrong pipeline is told with file and line, and without importing azure-ai-ml.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlops_core.pipelines.data_sources import DataResolver
from mlops_core.pipelines.documents import Document
from mlops_core.pipelines.findings import Findings, did_you_mean
from mlops_core.pipelines.outputs import OutputMap
from mlops_core.pipelines.pipeline_inputs import PipelineInputs, Place, unknown_type
from mlops_core.pipelines.plan import (
    AssetType,
    LiteralSource,
    LiteralType,
    PipelineInput,
    PipelineInputSource,
    Scalar,
    Source,
    StepInput,
    StepOutputSource,
)
from mlops_core.pipelines.ports import ASSET_TYPES, InputPort, input_ports, input_values, type_of_literal
from mlops_core.pipelines.references import Binding, bound_value, parse_binding
from mlops_core.pipelines.source_tree import ComponentSource, ScopeSource, StepSource

_PARENT_INPUT = re.compile(r"\$\{\{\s*parent\.inputs\.([\w-]+)\s*\}\}")
# A single file cannot be read as a model folder or a table.
_FOLDERS_ONLY = {"mlflow_model", "mltable"}


@dataclass
class Wiring:
    """The inputs of a pipeline and of its steps."""

    data: DataResolver
    outputs: OutputMap
    findings: Findings
    pipeline_inputs: dict[str, PipelineInput] = field(default_factory=dict)
    step_inputs: dict[str, dict[str, StepInput]] = field(default_factory=dict)
    """By the step's name in the plan, only of steps that run a command."""
    scope_inputs: dict[str, dict[str, StepInput]] = field(default_factory=dict)
    """What `parent.inputs` means in each pipeline, by the scope's name."""

    def connect(
        self, job: Document, scope: ScopeSource, wrapped: ComponentSource | None, overrides: Mapping[str, Scalar]
    ) -> None:
        """Trace every input, and add what does not fit to the findings."""
        self.pipeline_inputs = PipelineInputs(self.data, self.findings).read(job, wrapped, overrides)
        around = {
            name: StepInput(
                type=given.type,
                source=PipelineInputSource(name=name) if given.source is not None else None,
                optional=given.source is None,
            )
            for name, given in self.pipeline_inputs.items()
        }
        self._connect_scope(scope, around)

    def literal(self, source: Source | None) -> Scalar | None:
        """Give the value of a source that is known before the run; None for data and for steps' outputs."""
        if isinstance(source, PipelineInputSource):
            source = self.pipeline_inputs[source.name].source
        return source.value if isinstance(source, LiteralSource) else None

    def expand(self, text: str, scope_name: str) -> str:
        """Put the values of `${{parent.inputs.X}}` into a text; what has no value yet stays as it is."""
        around = self.scope_inputs.get(scope_name, {})

        def value_of(match: re.Match[str]) -> str:
            given = around.get(match[1])
            value = self.literal(given.source) if given is not None else None
            return match[0] if value is None else str(value)

        return _PARENT_INPUT.sub(value_of, text)

    def _connect_scope(self, scope: ScopeSource, around: dict[str, StepInput]) -> None:
        self.scope_inputs[scope.name] = around
        for step in scope.steps.values():
            if step.component is None:
                continue
            self.outputs.check(scope, step)
            inputs = self._connect_step(step, scope, around)
            if step.nested is not None:
                self._connect_scope(step.nested, inputs)
            else:
                self.step_inputs[step.name] = inputs

    def _connect_step(self, step: StepSource, scope: ScopeSource, around: dict[str, StepInput]) -> dict[str, StepInput]:
        assert step.component is not None  # noqa: S101 - the caller has just seen it; tells the type checker so
        ports, given = input_ports(step.component), input_values(step.section("inputs"))
        swept = step.section("search_space").keys()
        inputs: dict[str, StepInput] = {}
        for name in [name for name in given if name not in ports]:
            advice = did_you_mean(name, ports, what="inputs")
            message = f"the component has no input '{name}'. {advice}"
            self.findings.problem(step.document, (*step.at, "inputs", name), message, step=step.name)
        for name, port in ports.items():
            if name in swept:
                # The search gives the value, also where the step has one.
                continue
            place = Place(step.document, (*step.at, "inputs", name), step.name)
            connected = self._connect_input(given.get(name), port, scope, around, place)
            if connected is not None:
                inputs[name] = connected
        return inputs

    def _connect_input(
        self, entry: object, port: InputPort, scope: ScopeSource, around: dict[str, StepInput], place: Place
    ) -> StepInput | None:
        if port.unknown_type is not None:
            self._problem(place, unknown_type(port.unknown_type))
            return None
        value = bound_value(entry)
        mode = str(entry["mode"]) if isinstance(entry, dict) and "mode" in entry else None
        if value is None:
            return self._left_open(port, place, mode)
        binding = parse_binding(value)
        if binding is not None:
            return self._bound(binding, port, scope, around, place, mode)
        if isinstance(entry, dict):
            return self._path(str(value), entry, port, place, mode)
        if isinstance(value, str) and "${{" in value:
            value = self._expanded(value, scope, place)
        if not isinstance(value, (bool, int, float, str)):
            self._problem(
                place, "the value must be a text, a number, true or false, or a mapping with 'type' and 'path'."
            )
            return None
        wrong = port.rejects(value) if port.type is not None else None
        if wrong is not None:
            self._problem(place, wrong)
            return None
        return StepInput(
            type=port.type or type_of_literal(value), source=LiteralSource(value=value), optional=port.optional
        )

    def _left_open(self, port: InputPort, place: Place, mode: str | None) -> StepInput | None:
        if port.default is not None:
            source = LiteralSource(value=port.default)
            return StepInput(type=port.type or "string", source=source, optional=port.optional)
        if port.optional:
            return StepInput(type=port.type or "string", optional=True, mode=mode)
        self._problem(place, "the input is required and has no value. Write a value or a binding.")
        return None

    def _path(
        self, text: str, entry: Mapping[str, object], port: InputPort, place: Place, mode: str | None
    ) -> StepInput | None:
        if port.type is not None and port.type not in ASSET_TYPES:
            self._problem(place, f"it is data, but the input is a {port.type}. Write a plain value.")
            return None
        declared = str(entry.get("type", port.type or "uri_folder")).lower()
        if declared not in ASSET_TYPES:
            self._problem(place, unknown_type(declared))
            return None
        kind = ASSET_TYPES[declared]
        source = self.data.resolve(text, kind, place.document, (*place.key, "path"), place.step)
        if source is None:
            return None
        return StepInput(
            type=ASSET_TYPES.get(port.type or kind, kind), source=source, optional=port.optional, mode=mode
        )

    def _bound(
        self,
        binding: Binding,
        port: InputPort,
        scope: ScopeSource,
        around: dict[str, StepInput],
        place: Place,
        mode: str | None,
    ) -> StepInput | None:
        found = self._source_behind(binding, scope, around, place)
        if found is None:
            return None
        source, type_ = found
        literal = self.literal(source)
        if source is None and not port.optional and port.default is None:
            self._problem(place, f"'{binding.text}' is optional and not given, but this input is required.")
            return None
        if literal is not None and port.type is not None:
            wrong = port.rejects(literal)
            if wrong is not None:
                self._problem(place, f"'{binding.text}' does not fit: {wrong}")
                return None
        elif source is not None and port.type is not None:
            self._check_kind(binding, type_, port.type, place)
        if source is None and port.default is not None:
            source = LiteralSource(value=port.default)
        return StepInput(type=port.type or type_, source=source, optional=port.optional, mode=mode)

    def _source_behind(
        self, binding: Binding, scope: ScopeSource, around: dict[str, StepInput], place: Place
    ) -> tuple[Source | None, LiteralType | AssetType] | None:
        if binding.kind == "input":
            if binding.name in around:
                return around[binding.name].source, around[binding.name].type
            if binding.name not in self._declared_inputs(scope):
                advice = did_you_mean(binding.name, self._declared_inputs(scope), what="inputs")
                self._problem(place, f"the pipeline has no input '{binding.name}'. {advice}")
            return None
        if binding.kind != "step_output":
            message = (
                f"'{binding.text}' is no binding that an input can have. Write '${{{{parent.inputs.NAME}}}}' or "
                "'${{parent.jobs.STEP.outputs.NAME}}'."
            )
            self._problem(place, message)
            return None
        return self._output_behind(binding, scope, place)

    def _output_behind(
        self, binding: Binding, scope: ScopeSource, place: Place
    ) -> tuple[Source, LiteralType | AssetType] | None:
        if binding.step not in scope.steps:
            advice = did_you_mean(binding.step, scope.steps, what="steps")
            self._problem(place, f"there is no step '{binding.step}'. {advice}")
            return None
        step = scope.steps[binding.step]
        behind = self.outputs.behind(scope, binding.step, binding.name)
        if behind is None:
            # Of a step that was refused nobody knows the outputs; the refusal is enough.
            if step.component is not None and not self._has_refused_step(step):
                advice = did_you_mean(binding.name, self.outputs.names(scope, binding.step), what="outputs")
                self._problem(place, f"the step '{binding.step}' has no output '{binding.name}'. {advice}")
            return None
        writer = next(found for found in scope.all_steps() if found.name == behind.step)
        kind = self.outputs.of_step(writer)[behind.output].type
        return StepOutputSource(step=behind.step, output=behind.output), kind

    def _expanded(self, text: str, scope: ScopeSource, place: Place) -> str:
        expanded = self.expand(text, scope.name)
        if "${{" in expanded:
            self._problem(place, f"'{text}' mixes text with a binding that has no plain value. Bind the value alone.")
        return expanded

    def _check_kind(
        self, binding: Binding, given: LiteralType | AssetType, wanted: LiteralType | AssetType, place: Place
    ) -> None:
        if (wanted in ASSET_TYPES) != (given in ASSET_TYPES) or (given == "uri_file" and wanted in _FOLDERS_ONLY):
            self._problem(place, f"'{binding.text}' is of type {given}, but this input is of type {wanted}.")

    @staticmethod
    def _declared_inputs(scope: ScopeSource) -> list[str]:
        return list(scope.section("inputs"))

    @staticmethod
    def _has_refused_step(step: StepSource) -> bool:
        return step.nested is not None and any(inner.component is None for inner in step.nested.all_steps())

    def _problem(self, place: Place, message: str) -> None:
        self.findings.problem(place.document, place.key, message, step=place.step)
