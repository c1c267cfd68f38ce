"""
The build job: fetch the commit, validate what it declares, set up its assets, run its tests.

The plan and the environments that it makes are cached by content, so that training starts at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from mlops_core.domain.project import ProjectSpec
from mlops_core.jobs.assets import set_up_assets
from mlops_core.jobs.environment_files import read_environment
from mlops_core.jobs.outcome import JobFailedError
from mlops_core.jobs.request import JobOrder
from mlops_core.jobs.source import fetch_commit
from mlops_core.jobs.training import pipeline_run
from mlops_core.manifest import ManifestError
from mlops_core.manifest_files import problems_of_files
from mlops_core.pipelines.environments import Environment, EnvironmentMaker
from mlops_core.pipelines.log_tail import what_matters
from mlops_core.pipelines.plan import EnvironmentSpec
from mlops_core.pipelines.results import Kind, counted, length
from mlops_core.pipelines.step_files import copy_code
from mlops_core.pipelines.step_process import StepProcesses, allowed

Tell = Callable[[Kind, str], None]


def build(order: JobOrder, folder: Path, *, inherited: Mapping[str, str], processes: StepProcesses, tell: Tell) -> str:
    """
    Build a commit.

    Returns: A sentence about what was done.
    Raises: HeadraceError: With the reason; `JobFailedError` has the lines of the log that matter.
    """
    started = time.monotonic()
    fetch_commit(order.repository, order.commit, order.source_folder)
    tell("stage", f"fetched {order.commit[:12]} in {length(time.monotonic() - started)}")
    check_declared_files(order.project_root, order.spec, order.manifest)
    started = time.monotonic()
    run = pipeline_run(order, folder, inherited=inherited, processes=processes)
    plan = run.plan()
    tell(
        "stage",
        f"pipeline '{plan.name}': {counted(len(plan.steps), 'step')}, checked in {length(time.monotonic() - started)}",
    )
    for spec in {step.environment.model_dump_json(): step.environment for step in plan.steps}.values():
        _make(run.maker, spec, (), tell)
    set_up_assets(order, run.maker, tell)
    if order.spec.build.test is None:
        return "built; no tests declared"
    environment = _make(run.maker, tests_environment(order, plan.steps[0].environment), _runner_of(order), tell)
    return _test(order, folder, environment, inherited=inherited, processes=processes, tell=tell)


def _make(maker: EnvironmentMaker, spec: EnvironmentSpec, extra: tuple[str, ...], tell: Tell) -> Environment:
    started = time.monotonic()
    made = maker.make(spec, extra=extra, tell=lambda text: tell("stage", text))
    took = "cached" if made.cached else f"made in {length(time.monotonic() - started)}"
    tell("stage", f"environment '{spec.name}': {took}")
    for note in made.notes:
        tell("log", note)
    return made


def check_declared_files(root: Path, spec: ProjectSpec, manifest: str) -> None:
    """
    See that every file that `mlops.yaml` names is there, and is what it is named for.

    Args:
        root: The folder of `mlops.yaml`.
    Raises: ManifestError: Names file, line and key of all that is wrong.
    """
    text = (root / Path(manifest).name).read_bytes()
    problems = problems_of_files(root, spec, text, manifest)
    if problems:
        raise ManifestError(manifest, problems)


def tests_environment(order: JobOrder, first: EnvironmentSpec) -> EnvironmentSpec:
    """Choose the environment of the tests: as declared, else the first asset that is one, else the first step's."""
    declared = order.spec.build.environment
    if declared == "current":
        return EnvironmentSpec(name="current", current=True)
    if declared is None:
        return first
    return read_environment(order.project_root / declared)


def _runner_of(order: JobOrder) -> tuple[str, ...]:
    # Tests are seldom among what a model needs, so their runner is added beside it.
    return ("pytest",) if (order.spec.build.test or "").split()[:1] == ["pytest"] else ()


def _test(
    order: JobOrder,
    folder: Path,
    environment: Environment,
    *,
    inherited: Mapping[str, str],
    processes: StepProcesses,
    tell: Tell,
) -> str:
    command = order.spec.build.test or ""
    started = time.monotonic()
    log = folder / "tests.txt"
    variables = allowed(inherited)
    variables["PATH"] = f"{environment.bin_folder}:{variables.get('PATH', '/usr/bin:/bin')}"
    variables["PYTHONDONTWRITEBYTECODE"] = "1"
    # A copy: what tests write must not reach training, which shares the commit's files.
    work = folder / "tests"
    # Whole: `.amlignore` often names the tests, which no step needs.
    copy_code(order.project_root, work, everything=True)
    ended = processes.run(command, folder=work, environment=variables, log=log, timeout_seconds=None)
    took = length(time.monotonic() - started)
    output = log.read_text(encoding="utf-8", errors="replace")
    tell("log", output.rstrip())
    if not ended.succeeded:
        raise JobFailedError(f"the tests failed: '{command}': {ended.sentence}", log_tail=what_matters(log))
    last = output.strip().splitlines()[-1] if output.strip() else "passed"
    tell("stage", f"tests: {last.strip('= ')}")
    return f"tests passed in {took}"
