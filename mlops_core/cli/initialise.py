"""Write a commented `mlops.yaml` from what was found in a repository."""

from __future__ import annotations

import re
from pathlib import Path

from mlops_core.cli.checking import PLACEHOLDER
from mlops_core.cli.inspection import Findings
from mlops_core.domain.errors import RefusedError

_HEAD = """\
# What Headrace does with a push to this repository. Reference: docs/mlops-yaml.md of Headrace;
# check it with `headrace validate`. Editors complete it with the schema that `headrace schema` prints.
"""


def write_manifest(root: Path, findings: Findings, *, overwrite: bool = False) -> tuple[Path, str]:
    """
    Write `mlops.yaml` at the top of a repository.

    Raises: RefusedError: There is one already, or there is no pipeline to point at.
    """
    target = root / "mlops.yaml"
    if target.exists() and not overwrite:
        raise RefusedError(f"'{target}' exists. Edit it and check it with 'headrace validate', or give --force.")
    if not findings.pipelines:
        raise RefusedError(
            f"There is no Azure ML v2 pipeline in '{root}': no YAML file with 'type: pipeline' and jobs. Write one "
            "(examples/diabetes/azureml/pipeline.yml shows how), then repeat."
        )
    text = render(root.resolve().name, findings)
    target.write_text(text, encoding="utf-8")
    return target, text


def render(folder_name: str, findings: Findings) -> str:
    """Write the text of `mlops.yaml`."""
    sections = [
        _HEAD,
        f"project: {_project_name(folder_name)}\n",
        _triggers(findings),
        _build(findings),
        _train(findings),
        _release(findings),
        _local(findings),
    ]
    return "\n".join(section for section in sections if section)


def _project_name(folder_name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", folder_name.lower()).strip("-")[:60] or "project"


def _triggers(findings: Findings) -> str:
    branch = findings.branch if re.fullmatch(r"[A-Za-z][A-Za-z0-9._/-]*", findings.branch) else f'"{findings.branch}"'
    return f"triggers:\n  branches: [{branch}]        # these deliver; every other branch is built and tested only\n"


def _build(findings: Findings) -> str:
    assets = [*findings.environments.values(), *findings.data.values()]
    if not assets and not findings.test_command:
        # A section without keys would be a fault.
        return "# build:\n#   test: pytest -q       # no tests were found; a command here must pass before training\n"
    lines = ["build:"]
    if assets:
        lines.append("  assets:                 # set up before the tests")
        lines += [f"    - {asset}" for asset in assets]
    if findings.test_command:
        lines.append(f"  test: {findings.test_command}          # runs in the project's environment")
    else:
        lines.append("  # test: pytest -q       # no tests were found; a command here must pass before training")
    return "\n".join(lines) + "\n"


def _train(findings: Findings) -> str:
    others = findings.pipelines[1:6]
    lines = ["train:", f"  pipeline: {findings.pipelines[0]}"]
    lines += [f"  # also found: {path}" for path in others]
    model, *more = findings.models or [PLACEHOLDER]
    note = "the registered name that the pipeline produces"
    if not findings.models:
        note = "no registration was found: put the registered name here"
    lines.append(f"  model: {model}            # {note}")
    if not findings.models:
        lines += [
            f"  # {output} is a model: with 'name: NAME' there it is registered" for output in findings.unnamed_models
        ]
    lines += [f"  # also found: {name}" for name in more[:5]]
    lines.append("  timeout: 2h")
    return "\n".join(lines) + "\n"


def _release(findings: Findings) -> str:
    lines = [
        "release:",
        "  # gates:                # judged from the metrics of the registered version's MLflow run",
        "  #   - {metric: rmse, max: 60}",
        "  #   - {metric: rmse, no_worse_than: champion, tolerance: 1%}",
    ]
    if findings.metrics:
        lines.append(f"  #   metrics in the code: {', '.join(findings.metrics[:8])}")
    lines.append("  approval: none          # 'manual' waits for: headrace approve RUN")
    if findings.scoring_script:
        lines.append(f"  serve: {{code: {findings.scoring_script}}}")
    if findings.requests:
        lines += [
            "  stages:",
            f"    - {{name: staging, smoke: {{request: {findings.requests[0]}}}}}",
            "    - {name: production}",
        ]
    return "\n".join(lines) + "\n"


def _local(findings: Findings) -> str:
    if not (findings.bindings or findings.unbound or findings.unreachable):
        return ""
    head = "local:                    # what only a laptop needs; Azure ML has its own"
    lines = [head if findings.bindings or findings.unreachable else f"# {head}"]
    if findings.bindings:
        lines.append("  data:")
        lines += [f'    "{reference}": {path}' for reference, path in findings.bindings.items()]
    if findings.unbound:
        lines.append("  # data:                 # these are not in the repository: give each a file or folder")
        lines += [f'  #   "{reference}": data/...' for reference in findings.unbound]
    if findings.unreachable:
        lines.append("  without:                # left out of local environments: only reachable by version control")
        lines += [f'    - "{line}"' for line in dict.fromkeys(findings.unreachable)]
    return "\n".join(lines) + "\n"
