"""
The outputs of steps, and which step's output is behind a name: through nested pipelines down to the step that writes.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlops_core.pipelines.documents import Document, KeyPath
from mlops_core.pipelines.findings import Findings, did_you_mean
from mlops_core.pipelines.plan import AssetType, PipelineOutput, StepOutput
from mlops_core.pipelines.ports import asset_type
from mlops_core.pipelines.references import bound_value, parse_binding
from mlops_core.pipelines.source_tree import ComponentSource, ScopeSource, StepSource

# Azure ML fills this output by itself with what the step leaves in ./outputs and ./logs.
_ARTIFACTS = "artifacts"


@dataclass(frozen=True)
class _Declared:
    """What one place says about an output; the places around add what it leaves open."""

    type: AssetType | None = None
    name: str | None = None
    version: str | None = None
    path: str | None = None
    mode: str | None = None

    def else_(self, outer: _Declared) -> _Declared:
        return _Declared(
            self.type or outer.type,
            self.name or outer.name,
            self.version or outer.version,
            self.path or outer.path,
            self.mode or outer.mode,
        )


class OutputMap:
    """Answers for outputs by the names that the YAML uses."""

    def __init__(self, job: Document, scope: ScopeSource, wrapped: ComponentSource | None, findings: Findings) -> None:
        self._scope = scope
        self._findings = findings
        self._of_job = _declarations(job.data.get("outputs"))
        if wrapped is not None:
            for name, declared in _declarations(wrapped.data.get("outputs")).items():
                self._of_job[name] = self._of_job.get(name, _Declared()).else_(declared)
        self._job = job
        self._outer: dict[str, dict[str, _Declared]] = {"": self._of_job}
        self._collect(scope)

    def behind(self, scope: ScopeSource, step_name: str, output: str) -> PipelineOutput | None:
        """Find the step that writes what `step_name` of the scope gives as `output`; None: there is no such output."""
        step = scope.steps.get(step_name)
        if step is None:
            return None
        if step.nested is None:
            return PipelineOutput(step=step.name, output=output) if output in self._names(step) else None
        return self._bound_to(step.nested, output)

    def names(self, scope: ScopeSource, step_name: str) -> list[str]:
        """Give the names of a step's outputs, for advice."""
        step = scope.steps[step_name]
        return sorted(step.nested.section("outputs") if step.nested is not None else self._names(step))

    def of_step(self, step: StepSource) -> dict[str, StepOutput]:
        """Give the outputs of a step that runs a command."""
        scope_name = step.name.rpartition("/")[0]
        given, ports = _declarations(step.section("outputs")), self._ports(step)
        return {
            name: self._output(step, name, given.get(name, _Declared()), ports.get(name, _Declared()), scope_name)
            for name in self._names(step)
        }

    def of_pipeline(self) -> dict[str, PipelineOutput]:
        """Give the outputs of the pipeline that a step writes."""
        found = {name: self._bound_to(self._scope, name) for name in self._of_job}
        return {name: output for name, output in found.items() if output is not None}

    def unbound(self) -> list[str]:
        """Give the names of the pipeline's outputs that no step writes."""
        return sorted(self._of_job.keys() - self.of_pipeline().keys())

    def check(self, scope: ScopeSource, step: StepSource) -> None:
        """Find outputs that the component does not have, and bindings to outputs that the pipeline does not have."""
        declared = self._outer[scope.name]
        known = self._names(step) if step.nested is None else list(step.nested.section("outputs"))
        for name, entry in step.section("outputs").items():
            key: KeyPath = (*step.at, "outputs", name)
            if name not in known:
                message = f"the component has no output '{name}'. {did_you_mean(name, known, what='outputs')}"
                self._findings.problem(step.document, key, message, step=step.name)
            binding = parse_binding(bound_value(entry))
            if binding is None:
                continue
            if binding.kind != "output":
                message = f"'{binding.text}' is no place for an output. Write '${{{{parent.outputs.NAME}}}}'."
                self._findings.problem(step.document, key, message, step=step.name)
            elif binding.name not in declared:
                advice = did_you_mean(binding.name, declared, what="outputs")
                message = f"the pipeline has no output '{binding.name}'. {advice}"
                self._findings.problem(step.document, key, message, step=step.name)

    def _collect(self, scope: ScopeSource) -> None:
        for step in scope.steps.values():
            if step.nested is not None:
                self._outer[step.name] = _declarations(step.nested.section("outputs"))
                self._collect(step.nested)

    def _names(self, step: StepSource) -> list[str]:
        """A component's outputs are those of its file; an inline step declares them by using them."""
        return list(self._ports(step)) if step.component is not None else list(step.section("outputs"))

    @staticmethod
    def _ports(step: StepSource) -> dict[str, _Declared]:
        return _declarations(step.component.section("outputs")) if step.component is not None else {}

    def _bound_to(self, scope: ScopeSource, output: str) -> PipelineOutput | None:
        for name, step in scope.steps.items():
            for inner, entry in step.section("outputs").items():
                binding = parse_binding(bound_value(entry))
                if binding is not None and binding.kind == "output" and binding.name == output:
                    return self.behind(scope, name, inner)
        return None

    def _output(self, step: StepSource, name: str, given: _Declared, port: _Declared, scope_name: str) -> StepOutput:
        """Join what the component, the step and each pipeline around say; what names an asset is said from outside."""
        outer = self._said_outside(step, name, scope_name)
        kind = port.type or given.type or outer.type or "uri_folder"
        command = str(step.component.data.get("command", "")) if step.component is not None else ""
        path = given.path or outer.path
        return StepOutput(
            type=kind,
            registered_name=outer.name or given.name,
            registered_version=outer.version or given.version,
            file_name=_file_name(path) if kind == "uri_file" else None,
            holds_artifacts=name == _ARTIFACTS and f"outputs.{_ARTIFACTS}" not in command,
            mode=given.mode or outer.mode,
        )

    def _said_outside(self, step: StepSource, name: str, scope_name: str) -> _Declared:
        """Follow `${{parent.outputs.X}}` outwards, through as many pipelines as it goes."""
        entries, said = step.section("outputs"), _Declared()
        current, scopes = name, [scope_name]
        while scopes:
            here = scopes.pop()
            binding = parse_binding(bound_value(entries.get(current)))
            if binding is None or binding.kind != "output":
                break
            said = self._outer.get(here, {}).get(binding.name, _Declared()).else_(said)
            if here == "":
                break
            outer_step = next(found for found in self._scope.all_steps() if found.name == here)
            said = _declarations(outer_step.section("outputs")).get(binding.name, _Declared()).else_(said)
            entries, current = outer_step.section("outputs"), binding.name
            scopes.append(here.rpartition("/")[0])
        return said


def _declarations(entries: object) -> dict[str, _Declared]:
    if not isinstance(entries, dict):
        return {}
    return {str(name): _declaration(entry) for name, entry in entries.items()}


def _declaration(entry: object) -> _Declared:
    if not isinstance(entry, dict):
        return _Declared()
    path = entry.get("path")
    return _Declared(
        type=asset_type(entry),
        name=_text(entry.get("name")),
        version=_text(entry.get("version")),
        path=path if isinstance(path, str) and parse_binding(path) is None else None,
        mode=_text(entry.get("mode")),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _file_name(path: str | None) -> str | None:
    """Give the last part of a path in a datastore, where it is a plain file name."""
    last = (path or "").rpartition("/")[2]
    return last if last and "${{" not in last and last not in {".", ".."} else None
