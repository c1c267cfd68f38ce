"""
A pipeline's raw YAML as a tree: scopes (pipelines), their steps, and the component behind each step.

It holds what was written, with files and lines; nothing is interpreted beyond finding each step's component. The checks
walk this tree, and the builder walks it side by side with the job that azure-ai-ml loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mlops_core.pipelines.assets import AssetIndex, AssetNotDeclaredError
from mlops_core.pipelines.documents import Document, DocumentError, KeyPath, Reader
from mlops_core.pipelines.findings import Findings, did_you_mean
from mlops_core.pipelines.references import AssetReference, LocalReference, RegistryReference, parse_reference

# What runs nowhere but on Azure ML, with what to say about it.
NOT_LOCAL = {
    "spark": "it is a spark step, and there is no Spark here",
    "parallel": "it is a parallel step, which Azure ML spreads over nodes by mini-batches",
    "automl": "it is an automl step, and the search for a model is a service of Azure ML",
    "import": "it is an import step, which reads through a connection of the workspace",
    "data_transfer": "it is a data transfer step, which copies between datastores of the workspace",
    "promptflow_parallel": "it is a prompt flow step, which needs the parallel runtime of Azure ML",
    "if_else": "it is a condition step, which only Azure ML evaluates",
    "do_while": "it is a loop step, which only Azure ML evaluates",
    "parallel_for": "it is a loop step, which only Azure ML evaluates",
}
_INSTEAD = "Run this pipeline on Azure ML, or replace the step by a command step."
LOCAL_KINDS = ("command", "sweep", "pipeline")
# Deeper nesting than anybody writes; a component that contains itself is found before.
_MAX_NESTING = 20


@dataclass(frozen=True)
class ComponentSource:
    """What a step runs: a component's file, or the step itself where it is written inline."""

    kind: str
    document: Document
    at: KeyPath
    """Where in the document its mapping is."""
    data: dict[str, object]
    inline: bool
    """True: the step itself, whose `inputs` are values, not a component's, whose `inputs` are declarations."""

    def section(self, key: str) -> dict[str, object]:
        """Give a mapping under the component, empty where there is none."""
        return _mapping(self.data.get(key))


@dataclass
class StepSource:
    """One entry under `jobs`."""

    name: str
    """In the whole plan: `parent/child`."""
    kind: str
    """`command`, `sweep`, `pipeline`, or a kind that was refused."""
    document: Document
    at: KeyPath
    data: dict[str, object]
    component: ComponentSource | None = None
    """None where it could not be found; a finding says why."""
    component_file: Path | None = None
    """Set where the component was named as an asset, so that azure-ai-ml has not loaded it with the pipeline."""
    nested: ScopeSource | None = None

    def section(self, key: str) -> dict[str, object]:
        """Give a mapping under the step, empty where there is none."""
        return _mapping(self.data.get(key))


@dataclass
class ScopeSource:
    """A pipeline: the job itself or a pipeline component."""

    name: str
    """Of the step that it is behind; empty for the job."""
    document: Document
    at: KeyPath
    data: dict[str, object]
    steps: dict[str, StepSource] = field(default_factory=dict)

    def section(self, key: str) -> dict[str, object]:
        """Give a mapping under the pipeline, empty where there is none."""
        return _mapping(self.data.get(key))

    def all_steps(self) -> list[StepSource]:
        """Give every step, those of nested pipelines after the step that they are behind."""
        found: list[StepSource] = []
        for step in self.steps.values():
            found.append(step)
            if step.nested is not None:
                found.extend(step.nested.all_steps())
        return found


@dataclass
class TreeReader:
    """Builds the tree, and adds to the findings what it cannot follow."""

    reader: Reader
    assets: AssetIndex
    findings: Findings

    def read(self, document: Document) -> tuple[ScopeSource, ComponentSource | None]:
        """Build the tree of a pipeline job; the second value is the pipeline component that the job only wraps."""
        if "component" not in document.data:
            return self._scope("", document, (), document.data, (document.path,)), None
        wrapper = StepSource("", "pipeline", document, (), document.data)
        self._find_component(wrapper, "component")
        component = wrapper.component
        if component is None:
            return ScopeSource("", document, (), document.data), None
        return self._scope("", component.document, component.at, component.data, (document.path,)), component

    def _scope(
        self, name: str, document: Document, at: KeyPath, data: dict[str, object], around: tuple[Path, ...]
    ) -> ScopeSource:
        scope = ScopeSource(name, document, at, data)
        jobs = data.get("jobs")
        if not isinstance(jobs, dict) or not jobs:
            self.findings.problem(document, (*at, "jobs"), "there are no jobs. Write at least one step under 'jobs'.")
            return scope
        for key, value in jobs.items():
            place: KeyPath = (*at, "jobs", str(key))
            if not isinstance(value, dict):
                self.findings.problem(document, place, "a step must be a mapping.")
                continue
            full_name = f"{name}/{key}" if name else str(key)
            scope.steps[str(key)] = self._step(full_name, document, place, value, around)
        return scope

    def _step(
        self, name: str, document: Document, at: KeyPath, data: dict[str, object], around: tuple[Path, ...]
    ) -> StepSource:
        kind = self._declared_kind(data)
        step = StepSource(name, kind, document, at, data)
        if kind in NOT_LOCAL:
            self._refuse_kind(step, kind)
            return step
        if kind not in LOCAL_KINDS:
            known = did_you_mean(kind, (*LOCAL_KINDS, *NOT_LOCAL), what="types of steps")
            self.findings.problem(document, (*at, "type"), f"'{kind}' is no type of step. {known}", step=name)
            return step
        key = "trial" if kind == "sweep" else "component"
        if key in data:
            self._find_component(step, key)
        elif kind == "command":
            step.component = ComponentSource("command", document, at, data, inline=True)
        else:
            self.findings.problem(document, at, f"a {kind} step needs the key '{key}'.", step=name)
        self._follow(step, around)
        return step

    @staticmethod
    def _declared_kind(data: dict[str, object]) -> str:
        if "type" in data:
            return str(data["type"]).lower()
        return "sweep" if "trial" in data else "command"

    def _refuse_kind(self, step: StepSource, kind: str) -> None:
        key: KeyPath = (*step.at, "type") if "type" in step.data else step.at
        self.findings.refuse(step.document, key, f"{NOT_LOCAL[kind]}. {_INSTEAD}", step=step.name)

    def _find_component(self, step: StepSource, key: str) -> None:
        value, at = step.data[key], (*step.at, key)
        if isinstance(value, dict):
            kind = str(value.get("type", "pipeline" if "jobs" in value else "command"))
            step.component = ComponentSource(kind, step.document, at, value, inline=False)
            return
        document = self._component_document(step, at, str(value))
        if document is not None:
            kind = _component_kind(document)
            step.component = ComponentSource(kind, document, (), document.data, inline=False)

    def _component_document(self, step: StepSource, at: KeyPath, text: str) -> Document | None:
        reference = parse_reference(text)
        if isinstance(reference, LocalReference):
            try:
                return self.reader.read(step.document.folder / reference.text)
            except DocumentError as error:
                problem = error.problem
                if problem.line is None:
                    # The file itself cannot be opened: the line that names it is what to correct.
                    self.findings.problem(step.document, at, f"{problem.file}: {problem.message}", step=step.name)
                else:
                    self.findings.add(problem)
                return None
        if isinstance(reference, AssetReference):
            return self._declared_component(step, at, reference)
        where = f"the registry '{reference.registry}'" if isinstance(reference, RegistryReference) else "the network"
        message = (
            f"its component '{text}' is in {where}. Put the component's YAML into the repository and name its path."
        )
        self.findings.refuse(step.document, at, message, step=step.name)
        return None

    def _declared_component(self, step: StepSource, at: KeyPath, reference: AssetReference) -> Document | None:
        try:
            asset = self.assets.find("component", reference, beside=step.document.folder)
        except AssetNotDeclaredError as error:
            hint = _hint(error)
            message = (
                f"its component '{reference.text}' is registered in the workspace only: no YAML file of the repository "
                f"declares it{hint}. Put the component's YAML into the repository."
            )
            self.findings.refuse(step.document, at, message, step=step.name)
            return None
        step.component_file = asset.document.path
        return asset.document

    def _follow(self, step: StepSource, around: tuple[Path, ...]) -> None:
        component = step.component
        if component is None:
            return
        if component.kind in NOT_LOCAL:
            self._refuse_kind(step, component.kind)
            step.kind, step.component = component.kind, None
        elif component.kind == "pipeline" and step.kind != "sweep":
            step.kind = "pipeline"
            within = (*around, component.document.path) if component.at == () else around
            if component.at == () and (component.document.path in around or len(around) > _MAX_NESTING):
                message = "the component contains itself. Remove it from its own jobs."
                self.findings.problem(step.document, (*step.at, "component"), message, step=step.name)
                return
            step.nested = self._scope(step.name, component.document, component.at, component.data, within)
        elif component.kind != "command" or step.kind == "pipeline":
            key = "trial" if step.kind == "sweep" else "component"
            message = f"a {step.kind} step cannot run a component of type '{component.kind}'."
            self.findings.problem(step.document, (*step.at, key), message, step=step.name)
            step.component = None


def _component_kind(document: Document) -> str:
    declared = document.data.get("type")
    if isinstance(declared, str):
        return declared.lower()
    schema = str(document.data.get("$schema", "")).lower()
    if "flow.schema.json" in schema:
        return "promptflow_parallel"
    return "pipeline" if "jobs" in document.data else "command"


def _hint(error: AssetNotDeclaredError) -> str:
    if error.other_versions:
        return f" with that version (declared: {', '.join(error.other_versions)})"
    return f" (it declares '{error.nearest}')" if error.nearest else ""


def _mapping(value: object) -> dict[str, object]:
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}
