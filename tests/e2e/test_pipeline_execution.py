"""Plans executed for real: side by side, failing, cancelled, reused, resumed. Steps are shell lines, so it is quick."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_core.pipelines.environments import EnvironmentMaker
from mlops_core.pipelines.executor import Execution, run_pipeline
from mlops_core.pipelines.plan import EnvironmentSpec, PipelinePlan, Step, StepInput, StepOutput, StepOutputSource
from mlops_core.pipelines.results import PipelineResult
from mlops_core.pipelines.step_process import StepProcesses

CURRENT = EnvironmentSpec(name="current", current=True)


def step(name: str, command: str, *, reads: str | None = None, **more: object) -> Step:
    inputs = {}
    if reads is not None:
        inputs["previous"] = StepInput(type="uri_folder", source=StepOutputSource(step=reads, output="out"))
    return Step(
        name=name,
        kind="command",
        command=command,
        environment=CURRENT,
        inputs=inputs,
        outputs={"out": StepOutput()},
        depends_on=(reads,) if reads else (),
        **more,  # type: ignore[arg-type] - named by the tests
    )


def plan(*steps: Step, **more: object) -> PipelinePlan:
    return PipelinePlan(name="p", experiment="p", steps=steps, source_file="p.yml", **more)  # type: ignore[arg-type]


@pytest.fixture
def execution(tmp_path: Path) -> Execution:
    return Execution(
        folder=tmp_path / "job-1",
        project_root=tmp_path,
        job_name="job-1",
        environments=EnvironmentMaker(folder=tmp_path / "environments", inherited={}),
        inherited={"PATH": "/usr/bin:/bin", "MARKED_SECRET": "s3cr3t"},
        cache=tmp_path / "cache",
    )


def again(execution: Execution, **changes: object) -> Execution:
    """The same in another job's folder."""
    folder = execution.folder.with_name(f"job-{time.monotonic_ns()}")
    return replace(execution, folder=folder, processes=StepProcesses(), **changes)  # type: ignore[arg-type]


def states(result: PipelineResult) -> dict[str, str]:
    return {name: step.state for name, step in result.steps.items()}


WRITE = step("write", "echo 41 > ${{outputs.out}}/n")
ADD = step("add", "expr $(cat ${{inputs.previous}}/n) + 1 > ${{outputs.out}}/n", reads="write")


def test_a_step_reads_what_the_one_before_wrote(execution: Execution) -> None:
    result = run_pipeline(plan(WRITE, ADD), execution)

    assert result.outcome == "succeeded"
    assert (Path(result.steps["add"].outputs["out"]) / "n").read_text() == "42\n"


def test_what_did_not_change_is_reused_and_what_did_is_not(execution: Execution) -> None:
    run_pipeline(plan(WRITE, ADD), execution)
    changed = step("add", "expr $(cat ${{inputs.previous}}/n) + 2 > ${{outputs.out}}/n", reads="write")
    result = run_pipeline(plan(WRITE, changed), again(execution))

    assert states(result) == {"write": "reused", "add": "succeeded"}
    assert (Path(result.steps["add"].outputs["out"]) / "n").read_text() == "43\n"


def test_a_pipeline_may_ask_for_no_reuse(execution: Execution) -> None:
    run_pipeline(plan(WRITE), execution)

    assert states(run_pipeline(plan(WRITE, force_rerun=True), again(execution))) == {"write": "succeeded"}


def test_a_step_that_is_not_deterministic_is_never_reused(execution: Execution) -> None:
    moody = step("write", "echo 41 > ${{outputs.out}}/n", deterministic=False)
    run_pipeline(plan(moody), execution)

    assert states(run_pipeline(plan(moody), again(execution))) == {"write": "succeeded"}


def test_a_failed_step_ends_the_pipeline_with_its_log(execution: Execution) -> None:
    result = run_pipeline(
        plan(step("boom", "echo out of luck; exit 3"), step("later", "true", reads="boom")), execution
    )

    assert result.outcome == "failed"
    assert result.reason == "step 'boom': it ended with exit code 3"
    assert result.log_tail == "out of luck"
    assert states(result) == {"boom": "failed", "later": "not_run"}


def test_other_branches_go_on_where_the_pipeline_says_so(execution: Execution) -> None:
    steps = (step("boom", "exit 1"), step("after", "true", reads="boom"), step("apart", "sleep 0.2"))
    result = run_pipeline(plan(*steps, continue_on_step_failure=True), execution)

    assert states(result) == {"boom": "failed", "after": "not_run", "apart": "succeeded"}


def test_a_step_past_its_timeout_fails(execution: Execution) -> None:
    result = run_pipeline(plan(step("slow", "sleep 60", timeout_seconds=0.3)), execution)

    assert result.reason == "step 'slow': it ran into its timeout and was stopped"


def test_steps_without_mutual_dependency_run_side_by_side(execution: Execution) -> None:
    meet = "touch {0}; for i in $(seq 100); do test -e {1} && exit 0; sleep 0.05; done; exit 1"
    here, there = execution.folder.parent / "here", execution.folder.parent / "there"
    steps = (step("a", meet.format(here, there)), step("b", meet.format(there, here)))

    assert run_pipeline(plan(*steps), execution).outcome == "succeeded"


def test_halting_ends_every_process(execution: Execution) -> None:
    mark = execution.folder.parent / "alive"
    slow = step("slow", f"(while true; do date +%s%N > {mark}; sleep 0.05; done) & sleep 60")
    results: list[PipelineResult] = []
    thread = threading.Thread(target=lambda: results.append(run_pipeline(plan(slow), execution)))
    thread.start()
    deadline = time.monotonic() + 20
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    execution.processes.halt()
    thread.join(20)
    seen = mark.read_text()
    time.sleep(0.3)

    assert results[0].outcome == "cancelled"
    assert mark.read_text() == seen


def test_a_resumed_pipeline_goes_on_from_the_failed_step(execution: Execution) -> None:
    gate = execution.folder.parent / "mended"
    fails_first = step("add", f"test -e {gate} && cp ${{{{inputs.previous}}}}/n ${{{{outputs.out}}}}/n", reads="write")
    first = run_pipeline(plan(WRITE, fails_first), replace(execution, cache=None))
    gate.touch()
    second = run_pipeline(plan(WRITE, fails_first), again(execution, cache=None, resume_from=execution.folder))

    assert states(first) == {"write": "succeeded", "add": "failed"}
    assert states(second) == {"write": "reused", "add": "succeeded"}


def test_a_resumed_pipeline_runs_a_finished_step_again_whose_outputs_are_gone(execution: Execution) -> None:
    first = run_pipeline(plan(WRITE), replace(execution, cache=None))
    shutil.rmtree(first.steps["write"].outputs["out"])
    second = run_pipeline(plan(WRITE, ADD), again(execution, cache=None, resume_from=execution.folder))

    assert states(second) == {"write": "succeeded", "add": "succeeded"}


def test_a_package_that_changed_in_the_interpreter_at_hand_means_no_reuse(
    execution: Execution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "site-packages"
    (packages / "some-1.0.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages)])
    found = []
    for version in ("1.0", "1.0", "2.0"):
        next(packages.iterdir()).rename(packages / f"some-{version}.dist-info")
        found.append(states(run_pipeline(plan(WRITE), again(execution)))["write"])

    assert found == ["succeeded", "reused", "succeeded"]


def test_a_step_sees_no_secret_of_the_controller(execution: Execution) -> None:
    result = run_pipeline(plan(step("look", "env > ${{outputs.out}}/env")), execution)

    seen = (Path(result.steps["look"].outputs["out"]) / "env").read_text()
    assert "s3cr3t" not in seen
    assert "AZUREML_ROOT_RUN_ID=job-1" in seen


def test_outputs_of_the_working_folder_are_there_and_kept(execution: Execution) -> None:
    result = run_pipeline(plan(step("keep", "echo kept > outputs/note.txt")), execution)

    assert result.outcome == "succeeded"
    assert (execution.folder / "steps" / "keep" / "code" / "outputs" / "note.txt").read_text() == "kept\n"
