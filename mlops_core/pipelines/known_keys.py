"""
The keys that Azure ML v2 knows in a pipeline's files, and the check that there are no others.

azure-ai-ml takes unknown keys without a word (`default_datestore` passes), so a misspelt key would silently do nothing.
The tables are written out rather than asked of azure-ai-ml, whose import costs seconds; a test compares the two.
"""

from __future__ import annotations

from mlops_core.pipelines.documents import Document, KeyPath
from mlops_core.pipelines.findings import Findings, did_you_mean
from mlops_core.pipelines.source_tree import ComponentSource, ScopeSource, StepSource

_RESOURCE = {"$schema", "name", "description", "tags", "properties", "display_name", "id"}
PIPELINE_JOB = _RESOURCE | {
    "type", "experiment_name", "component", "compute", "identity", "inputs", "outputs", "jobs", "services", "settings",
    "parent_job_name",
}  # fmt: skip
PIPELINE_COMPONENT = _RESOURCE | {
    "type", "version", "inputs", "outputs", "jobs", "is_deterministic", "auto_delete_setting",
}  # fmt: skip
SETTINGS = {"continue_on_step_failure", "default_compute", "default_datastore", "force_rerun"}
_NODE = _RESOURCE | {"type", "comment", "compute", "inputs", "outputs", "experiment_name", "identity"}
COMMAND_STEP = _NODE | {
    "component", "command", "code", "environment", "environment_variables", "distribution", "resources", "limits",
    "services", "queue_settings", "parent_job_name", "is_deterministic",
}  # fmt: skip
SWEEP_STEP = _NODE | {
    "trial", "sampling_algorithm", "search_space", "objective", "early_termination", "limits", "queue_settings",
    "resources",
}  # fmt: skip
PIPELINE_STEP = _NODE | {"component", "settings", "jobs"}
COMMAND_COMPONENT = _RESOURCE | {
    "type", "version", "inputs", "outputs", "command", "code", "environment", "environment_variables", "distribution",
    "resources", "is_deterministic", "additional_includes", "queue_settings", "auto_delete_setting",
}  # fmt: skip
INPUT_VALUE = {"type", "path", "value", "mode", "datastore", "path_on_compute", "description", "optional", "default"}
INPUT_PORT = {"type", "description", "optional", "default", "mode", "min", "max", "enum"}
OUTPUT = {"type", "path", "mode", "name", "version", "description", "path_on_compute", "early_available"}
ENVIRONMENT = {
    "$schema", "id", "name", "version", "description", "tags", "properties", "image", "build", "conda_file", "os_type",
    "inference_config", "datastore", "auto_delete_setting",
}  # fmt: skip
BUILD_CONTEXT = {"path", "dockerfile_path"}
RESOURCES = {
    "instance_count", "instance_type", "max_instance_count", "locations", "shm_size", "docker_args", "properties",
}  # fmt: skip
COMMAND_LIMITS = {"timeout"}
SWEEP_LIMITS = {"max_concurrent_trials", "max_total_trials", "timeout", "trial_timeout"}
OBJECTIVE = {"goal", "primary_metric"}
SAMPLING = {"type", "seed", "rule", "logbase"}
EARLY_TERMINATION = {
    "bandit": {"type", "evaluation_interval", "delay_evaluation", "slack_factor", "slack_amount"},
    "median_stopping": {"type", "evaluation_interval", "delay_evaluation"},
    "truncation_selection": {"type", "evaluation_interval", "delay_evaluation", "truncation_percentage"},
}
DISTRIBUTION = {
    "mpi": {"type", "process_count_per_instance"},
    "pytorch": {"type", "process_count_per_instance"},
    "tensorflow": {"type", "parameter_server_count", "worker_count"},
    "ray": {
        "type", "port", "address", "include_dashboard", "dashboard_port", "head_node_additional_args",
        "worker_node_additional_args",
    },
}  # fmt: skip
_RANGE, _BELL = {"type", "min_value", "max_value"}, {"type", "mu", "sigma"}
SEARCH_SPACE = {
    "choice": {"type", "values"},
    "randint": {"type", "upper"},
    "uniform": _RANGE,
    "loguniform": _RANGE,
    "quniform": _RANGE | {"q"},
    "qloguniform": _RANGE | {"q"},
    "normal": _BELL,
    "lognormal": _BELL,
    "qnormal": _BELL | {"q"},
    "qlognormal": _BELL | {"q"},
}


def check_keys(job: Document, scope: ScopeSource, findings: Findings) -> None:
    """Find every unknown key of a pipeline job and of all files that its steps come from."""
    check = _Check(findings)
    check.keys(job, (), job.data, PIPELINE_JOB)
    if scope.document is not job or scope.at != ():
        check.scope_of_component(scope)
    check.interface(job, (), job.data, INPUT_VALUE)
    check.section(job, (), job.data, "settings", SETTINGS)
    for step in scope.all_steps():
        check.step(step)


class _Check:
    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._done: set[tuple[str, KeyPath]] = set()

    def keys(self, document: Document, at: KeyPath, mapping: dict[str, object], known: set[str]) -> None:
        for key in mapping:
            if key not in known:
                advice = did_you_mean(str(key), known, what="keys")
                self._findings.problem(document, (*at, str(key)), f"unknown key '{key}'. {advice}")

    def section(self, document: Document, at: KeyPath, data: dict[str, object], key: str, known: set[str]) -> None:
        value = data.get(key)
        if isinstance(value, dict):
            self.keys(document, (*at, key), value, known)

    def typed(
        self, document: Document, at: KeyPath, data: dict[str, object], key: str, known: dict[str, set[str]]
    ) -> None:
        """Check a mapping whose `type` says which keys it may have; the type itself is checked too."""
        value = data.get(key)
        if not isinstance(value, dict):
            return
        kind = str(value.get("type", "")).lower()
        if kind not in known:
            message = f"'{kind}' is no type of it. {did_you_mean(kind, known, what='types')}"
            self._findings.problem(document, (*at, key, "type"), message)
            return
        self.keys(document, (*at, key), value, known[kind])

    def interface(self, document: Document, at: KeyPath, data: dict[str, object], input_keys: set[str]) -> None:
        for section, known in (("inputs", input_keys), ("outputs", OUTPUT)):
            entries = data.get(section)
            if isinstance(entries, dict):
                for name in entries:
                    self.section(document, (*at, section), entries, name, known)

    def environment(self, document: Document, at: KeyPath, data: dict[str, object]) -> None:
        self.section(document, at, data, "environment", ENVIRONMENT)
        environment = data.get("environment")
        if isinstance(environment, dict):
            self.section(document, (*at, "environment"), environment, "build", BUILD_CONTEXT)

    def step(self, step: StepSource) -> None:
        document, at, data = step.document, step.at, step.data
        known = {"command": COMMAND_STEP, "sweep": SWEEP_STEP, "pipeline": PIPELINE_STEP}.get(step.kind)
        if known is None or (document.label, at) in self._done:
            return
        self._done.add((document.label, at))
        self.keys(document, at, data, known)
        self.interface(document, at, data, INPUT_VALUE)
        self.environment(document, at, data)
        self.section(document, at, data, "resources", RESOURCES)
        self.typed(document, at, data, "distribution", DISTRIBUTION)
        self.section(document, at, data, "limits", SWEEP_LIMITS if step.kind == "sweep" else COMMAND_LIMITS)
        if step.kind == "sweep":
            self.sweep(step)
        if step.nested is not None:
            self.scope_of_component(step.nested)
        elif step.component is not None and not step.component.inline:
            self.component(step.component)

    def sweep(self, step: StepSource) -> None:
        self.section(step.document, step.at, step.data, "objective", OBJECTIVE)
        self.section(step.document, step.at, step.data, "sampling_algorithm", SAMPLING)
        self.typed(step.document, step.at, step.data, "early_termination", EARLY_TERMINATION)
        space = step.section("search_space")
        for name in space:
            self.typed(step.document, (*step.at, "search_space"), space, name, SEARCH_SPACE)

    def component(self, component: ComponentSource) -> None:
        document, at, data = component.document, component.at, component.data
        if (document.label, at) in self._done:
            return
        self._done.add((document.label, at))
        self.keys(document, at, data, COMMAND_COMPONENT)
        self.interface(document, at, data, INPUT_PORT)
        self.environment(document, at, data)
        self.section(document, at, data, "resources", RESOURCES)
        self.typed(document, at, data, "distribution", DISTRIBUTION)

    def scope_of_component(self, scope: ScopeSource) -> None:
        if (scope.document.label, scope.at) in self._done:
            return
        self._done.add((scope.document.label, scope.at))
        self.keys(scope.document, scope.at, scope.data, PIPELINE_COMPONENT | {"settings"})
        self.interface(scope.document, scope.at, scope.data, INPUT_PORT)
