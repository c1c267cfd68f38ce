"""
Look at a repository and find what `mlops.yaml` has to point at: pipelines, environments, data, scoring script, tests.

Nothing of the repository is run or imported: YAML is parsed, Python is read as text. What is found is a proposal that
`headrace init` writes down with comments, so a guess is marked as one.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mlops_core.adapters.local.repositories import main_branch_of

_SKIPPED = {".git", ".venv", "venv", "node_modules", "__pycache__", ".headrace", "mlruns", ".tox"}
_MOST_FILES = 20_000
_LARGEST_BYTES = 1_000_000
_REFERENCE = re.compile(r"azureml:(?!//)[\w.-]+(?:@[\w.-]+|:[\w.-]+)")
_MODEL_IN_CODE = re.compile(
    r"(?:registered_model_name\s*=\s*|register_model\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*?,\s*(?:name\s*=\s*)?)[\"']([A-Za-z0-9][\w.-]*)[\"']"
)
_METRIC_IN_CODE = re.compile(r"\blog_metric\(\s*[\"']([^\"'{}\n]{1,80})[\"']")
_MODEL_INPUTS = ("registered_model_name", "model_name", "model_base_name")
_REQUEST_KEYS = {"input_data", "dataframe_split", "dataframe_records", "instances", "inputs", "data"}
_PIPELINE_SCHEMA = "pipelinejob.schema.json"
_ENTRY_SCRIPT = re.compile(r"^\s*entry_script:\s*[\"']?([\w./-]+)", re.MULTILINE)
_VCS = re.compile(r"^(git|hg|svn|bzr)\+", re.IGNORECASE)


@dataclass
class Findings:
    """What was found, each as a path relative to the repository."""

    pipelines: list[str] = field(default_factory=list)
    environments: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    bindings: dict[str, str] = field(default_factory=dict)
    unbound: list[str] = field(default_factory=list)
    scoring_script: str | None = None
    requests: list[str] = field(default_factory=list)
    test_command: str | None = None
    models: list[str] = field(default_factory=list)
    unnamed_models: list[str] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    branch: str = "main"
    unreachable: list[str] = field(default_factory=list)


def inspect(root: Path) -> Findings:
    """Look at every file of a repository that matters, at most 20,000 of them."""
    findings = Findings()
    documents = dict(_documents(root))
    for path, document in documents.items():
        _note_asset(findings, root, path, document)
    components = _components(documents)
    for path, document in documents.items():
        if _is_pipeline(document) and path not in components:
            findings.pipelines.append(path)
    # The one with the most steps is the one that trains; examples and fragments are smaller.
    findings.pipelines.sort(key=lambda path: (-len(documents[path].get("jobs", {})), path))
    if findings.pipelines:
        _keep_used_environments(findings, root)
        _note_references(findings, root, root / findings.pipelines[0])
        findings.unnamed_models = _unnamed_models(documents[findings.pipelines[0]])
    findings.branch = main_branch_of(root)
    findings.models = _models(root, documents, findings.pipelines[:1])
    findings.metrics = _metrics(root)
    findings.scoring_script = _scoring_script(root, documents)
    findings.requests = _requests(root)
    findings.test_command = "pytest -q" if _has_tests(root) else None
    return findings


def _files(root: Path, *endings: str) -> Iterator[Path]:
    seen = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        for name in sorted(names):
            seen += 1
            if seen > _MOST_FILES:
                return
            path = Path(folder, name)
            # A link that leads nowhere is no file.
            if name.endswith(endings) and path.is_file() and path.stat().st_size <= _LARGEST_BYTES:
                yield path


def _documents(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in _files(root, ".yml", ".yaml"):
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, ValueError):
            continue
        if isinstance(document, dict):
            yield path.relative_to(root).as_posix(), document


def _is_pipeline(document: dict[str, Any]) -> bool:
    schema = str(document.get("$schema", "")).lower()
    is_job = document.get("type") == "pipeline" or schema.endswith(_PIPELINE_SCHEMA)
    is_component = "component" in schema.rpartition("/")[2] or "version" in document
    return is_job and isinstance(document.get("jobs"), dict) and not is_component


def _components(documents: dict[str, dict[str, Any]]) -> set[str]:
    """Find the files that another one names as its component: a pipeline among them is a part, not the whole."""
    found = set()
    for path, document in documents.items():
        jobs = document.get("jobs")
        for job in jobs.values() if isinstance(jobs, dict) else ():
            named = job.get("component") if isinstance(job, dict) else None
            if isinstance(named, str) and not named.startswith("azureml:"):
                found.add(posixpath.normpath(posixpath.join(posixpath.dirname(path), named.removeprefix("file:"))))
    return found


def _unnamed_models(document: dict[str, Any]) -> list[str]:
    """Find the outputs that are models and have no name: with one, Azure ML registers them."""
    found = []
    for name, job in [("", document), *document["jobs"].items()]:
        outputs = job.get("outputs") if isinstance(job, dict) else None
        for output, value in outputs.items() if isinstance(outputs, dict) else ():
            if isinstance(value, dict) and str(value.get("type", "")).endswith("_model") and not value.get("name"):
                found.append(f"jobs.{name}.outputs.{output}" if name else f"outputs.{output}")
    return found


def _note_asset(findings: Findings, root: Path, path: str, document: dict[str, Any]) -> None:
    schema, name = str(document.get("$schema", "")).lower(), document.get("name")
    if not isinstance(name, str):
        return
    if schema.endswith("environment.schema.json"):
        findings.environments[name] = path
        findings.unreachable += _unreachable(root / path, document)
    elif schema.endswith("data.schema.json"):
        findings.data[name] = path


def _keep_used_environments(findings: Findings, root: Path) -> None:
    """Set up only the environments that a pipeline or component names, unless none is named at all."""
    texts = [_text(path) for path in _files(root, ".yml", ".yaml")]
    named = {reference for text in texts for reference in _REFERENCE.findall(text) if "environment" in text}
    names = {re.split(r"[@:]", reference.removeprefix("azureml:"))[0] for reference in named}
    used = {name: path for name, path in findings.environments.items() if name in names}
    findings.environments = used or findings.environments


def _unreachable(asset: Path, document: dict[str, Any]) -> list[str]:
    conda = document.get("conda_file")
    if isinstance(conda, str) and (asset.parent / conda).is_file():
        try:
            conda = yaml.safe_load((asset.parent / conda).read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, ValueError):
            return []
    if not isinstance(conda, dict):
        return []
    entries = [entry for entry in conda.get("dependencies") or [] if isinstance(entry, dict)]
    lines = [line for entry in entries for line in entry.get("pip") or []]
    return [str(line) for line in lines if _VCS.match(str(line))]


def _note_references(findings: Findings, root: Path, pipeline: Path) -> None:
    document = yaml.safe_load(pipeline.read_text(encoding="utf-8"))
    steps = [step for step in document["jobs"].values() if isinstance(step, dict)]
    given = [value for holder in (document, *steps) for value in _values(holder.get("inputs"))]
    paths = [value.get("path") for value in given if isinstance(value, dict)]
    for path in dict.fromkeys(path for path in paths if isinstance(path, str)):
        if not _REFERENCE.fullmatch(path):
            continue
        name = re.split(r"[@:]", path.removeprefix("azureml:"))[0]
        found = _declared_path(root, findings.data.get(name)) or _data_file_like(root, name)
        if found:
            findings.bindings[path] = found
        else:
            findings.unbound.append(path)


def _values(inputs: object) -> list[object]:
    return list(inputs.values()) if isinstance(inputs, dict) else []


def _declared_path(root: Path, asset: str | None) -> str | None:
    if asset is None:
        return None
    path = yaml.safe_load((root / asset).read_text(encoding="utf-8")).get("path")
    if not isinstance(path, str) or ":" in path:
        return None
    target = (root / asset).parent / path
    if not target.exists() or not target.resolve().is_relative_to(root.resolve()):
        return None
    return target.resolve().relative_to(root.resolve()).as_posix()


def _data_file_like(root: Path, name: str) -> str | None:
    for path in _files(root, ".csv", ".parquet", ".json", ".jsonl"):
        if path.stem.lower().replace("_", "-") == name.lower().replace("_", "-"):
            return path.relative_to(root).as_posix()
    return None


def _models(root: Path, documents: dict[str, dict[str, Any]], pipelines: list[str]) -> list[str]:
    found: list[str] = []
    for path in pipelines:
        found += _models_of_pipeline(documents[path])
    for document in documents.values():
        model = document.get("model")
        if isinstance(model, str) and _REFERENCE.fullmatch(model):
            found.append(re.split(r"[@:]", model.removeprefix("azureml:"))[0])
    for path_in_code in _files(root, ".py"):
        found += _MODEL_IN_CODE.findall(path_in_code.read_text(encoding="utf-8", errors="replace"))
    return list(dict.fromkeys(found))


def _metrics(root: Path) -> list[str]:
    """Find the names of metrics that the code logs, as far as it writes them out."""
    found = [name for path in _files(root, ".py") for name in _METRIC_IN_CODE.findall(_text(path))]
    return list(dict.fromkeys(found))


def _models_of_pipeline(document: dict[str, Any]) -> list[str]:
    found: list[str] = []
    jobs = [job for job in document.get("jobs", {}).values() if isinstance(job, dict)]
    for holder in [document, *jobs]:
        for output in (holder.get("outputs") or {}).values():
            if isinstance(output, dict) and str(output.get("type", "")).endswith("_model") and output.get("name"):
                found.append(str(output["name"]))  # noqa: PERF401 - two kinds of source go into one list
        for key in _MODEL_INPUTS:
            value = (holder.get("inputs") or {}).get(key)
            if isinstance(value, str) and "$" not in value:
                found.append(value)
    return found


def _scoring_script(root: Path, documents: dict[str, dict[str, Any]]) -> str | None:
    for path, document in documents.items():
        script = document.get("code_configuration")
        if isinstance(script, dict) and isinstance(script.get("scoring_script"), str) and _is_online(document):
            target: Path = (root / path).parent / str(script.get("code", ".")) / str(script["scoring_script"])
            if target.is_file() and target.resolve().is_relative_to(root.resolve()):
                return target.resolve().relative_to(root.resolve()).as_posix()
    batch = _batch_scripts(root)
    if any(re.search(r"mlflow\.\w+\.(log|save)_model\(", _text(path)) for path in _files(root, ".py")):
        return None
    for path_in_code in _files(root, ".py"):
        if path_in_code.name in batch:
            continue
        text = _text(path_in_code)
        if re.search(r"^def init\(\)", text, re.MULTILINE) and re.search(
            r"^def run\((?!mini_batch)", text, re.MULTILINE
        ):
            return path_in_code.relative_to(root).as_posix()
    return None


def _batch_scripts(root: Path) -> set[str]:
    """Find the scripts of parallel steps: they have init() and run() too, and answer no requests."""
    texts = [_text(path) for path in _files(root, ".yml", ".yaml")]
    return {Path(found).name for text in texts for found in _ENTRY_SCRIPT.findall(text)}


def _is_online(document: dict[str, Any]) -> bool:
    return "endpoint_name" in document and "batch" not in str(document.get("$schema", "")).lower()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _requests(root: Path) -> list[str]:
    found = []
    for path in _files(root, ".json"):
        try:
            body = json.loads(_text(path))
        except (ValueError, RecursionError):
            continue
        if isinstance(body, dict) and _REQUEST_KEYS & set(body):
            found.append(path.relative_to(root).as_posix())
    return found


def _has_tests(root: Path) -> bool:
    return any(path.name.startswith("test_") or path.name.endswith("_test.py") for path in _files(root, ".py"))
