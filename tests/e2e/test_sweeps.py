"""Sweeps executed for real: the best by the objective, limits, early termination, lost trials. Trials are shell lines."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mlops_core.domain.errors import TemporaryError
from mlops_core.pipelines.environments import EnvironmentMaker
from mlops_core.pipelines.executor import Execution, run_pipeline
from mlops_core.pipelines.plan import EnvironmentSpec, PipelinePlan, Step, StepInput, StepOutput, StepOutputSource
from mlops_core.pipelines.results import PipelineResult
from mlops_core.pipelines.search_space import Sweep

CURRENT = EnvironmentSpec(name="current", current=True)
# A trial logs a value of the metric by adding a line to its run's file.
LOG = 'echo {0} >> "$MLFLOW_TRACKING_URI/$MLFLOW_RUN_ID"'
X = "${{search_space.x}}"


@dataclass
class FolderTracking:
    """A tracking server that is a folder: a file of metric values per run."""

    folder: Path
    metric: str = "rmse"
    tags: dict[str, Mapping[str, str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    params: dict[str, dict[str, str]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    registering: bool = False
    failing: set[str] = field(default_factory=set)

    @property
    def uri(self) -> str:
        return str(self.folder)

    def start_run(self, name: str, tags: Mapping[str, str]) -> str:
        if name in self.failing:
            raise TemporaryError("The tracking server does not answer.")
        run_id = f"run-{len(self.names)}"
        self.tags[run_id], self.names[run_id] = tags, name
        return run_id

    def end_run(self, run_id: str, status: str) -> None:
        self.ended[self.names[run_id]] = status

    def add_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        (self.folder / run_id).write_text("".join(f"{value}\n" for value in metrics.values()))

    def add_params(self, run_id: str, params: Mapping[str, str]) -> None:
        self.params[self.names[run_id]] = dict(params)

    def metrics(self, run_id: str) -> dict[str, float]:
        values = self.metric_history(run_id, self.metric)
        return {self.metric: values[-1]} if values else {}

    def metric_history(self, run_id: str, metric: str) -> list[float]:
        assert metric == self.metric
        file = self.folder / run_id
        return [float(line) for line in file.read_text().splitlines()] if file.exists() else []

    def has_registered(self, since: float) -> bool:
        assert since > 0
        return self.registering

    def register(self, run_id: str, model: str, folder: Path, tags: Mapping[str, str]) -> str:
        raise AssertionError("nothing here has a registered name")


@pytest.fixture
def tracking(tmp_path: Path) -> FolderTracking:
    folder = tmp_path / "tracking"
    folder.mkdir()
    return FolderTracking(folder)


@pytest.fixture
def execution(tmp_path: Path, tracking: FolderTracking) -> Execution:
    return Execution(
        folder=tmp_path / "job-1",
        project_root=tmp_path,
        job_name="job-1",
        environments=EnvironmentMaker(folder=tmp_path / "environments", inherited={}),
        inherited={"PATH": os.defpath},
        tracking=tracking,
        cache=tmp_path / "cache",
    )


def swept(*commands: str, values: tuple[object, ...] = (3, 1, 2), goal: str = "minimize", **more: object) -> Step:
    settings = {
        "algorithm": "grid",
        "objective": {"goal": goal, "primary_metric": "rmse"},
        "search_space": {"x": {"type": "choice", "values": values}},
        "limits": {},
    }
    return Step(
        name="tune",
        kind="sweep",
        command=" && ".join(commands),
        environment=CURRENT,
        outputs={"out": StepOutput()},
        sweep=Sweep.model_validate({**settings, **more}),
    )


def plan(*steps: Step) -> PipelinePlan:
    return PipelinePlan(name="p", experiment="p", steps=steps, source_file="p.yml")


def told(execution: Execution) -> str:
    return (execution.folder / "progress.jsonl").read_text()


WRITE = f"echo {X} > ${{{{outputs.out}}}}/x"


def chosen(result: PipelineResult) -> str:
    return (Path(result.steps["tune"].outputs["out"]) / "x").read_text().strip()


@pytest.mark.parametrize(("goal", "best"), [("minimize", "1"), ("maximize", "3")])
def test_the_best_trial_by_the_objective_gives_outputs_metrics_and_parameters(
    execution: Execution, tracking: FolderTracking, goal: str, best: str
) -> None:
    result = run_pipeline(plan(swept(WRITE, LOG.format(X), goal=goal)), execution)

    assert result.outcome == "succeeded"
    assert chosen(result) == best
    assert result.steps["tune"].metrics == {"rmse": float(best)}
    assert tracking.params["tune"] == {"x": best}
    assert tracking.tags["run-2"]["mlflow.parentRunId"] == "run-1"
    assert tracking.tags["run-1"]["mlflow.parentRunId"] == "run-0"
    assert tracking.ended == dict.fromkeys(
        ["job-1", "tune", "tune/trial-1", "tune/trial-2", "tune/trial-3"], "FINISHED"
    )


def test_what_comes_after_a_sweep_reads_the_best_trial(execution: Execution) -> None:
    source = StepInput(type="uri_folder", source=StepOutputSource(step="tune", output="out"))
    after = Step(
        name="after", kind="command", command="cp ${{inputs.best}}/x ${{outputs.out}}/x", environment=CURRENT,
        inputs={"best": source}, outputs={"out": StepOutput()}, depends_on=("tune",),
    )  # fmt: skip
    result = run_pipeline(plan(swept(WRITE, LOG.format(X)), after), execution)

    assert (Path(result.steps["after"].outputs["out"]) / "x").read_text() == "1\n"


def test_bayesian_trials_are_drawn_one_after_the_other_until_nothing_new_is_left(
    execution: Execution, tracking: FolderTracking
) -> None:
    result = run_pipeline(
        plan(swept(WRITE, LOG.format(X), algorithm="bayesian", limits={"max_total_trials": 9})), execution
    )

    assert chosen(result) == "1"
    assert sorted(params["x"] for name, params in tracking.params.items() if "trial" in name) == ["1", "2", "3"]


def test_a_trial_whose_metric_is_no_number_is_never_the_best(execution: Execution) -> None:
    result = run_pipeline(plan(swept(WRITE, LOG.format(X), values=("nan", 7, 5))), execution)

    assert chosen(result) == "5"


def test_trials_run_side_by_side_up_to_the_cores(execution: Execution, tmp_path: Path) -> None:
    both = f"test -e {tmp_path}/m1 && test -e {tmp_path}/m2"
    meet = f"touch {tmp_path}/{X}; for i in $(seq 200); do {both} && break; sleep 0.05; done"
    result = run_pipeline(plan(swept(meet, both, LOG.format(1), values=("m1", "m2"))), execution)

    assert result.outcome == "succeeded"


@pytest.mark.parametrize("one", ["limits", "cores"])
def test_one_at_a_time_is_one_at_a_time(execution: Execution, tmp_path: Path, one: str) -> None:
    alone = f"mkdir {tmp_path}/alone && sleep 0.1 && rmdir {tmp_path}/alone"
    step = swept(alone, LOG.format(X), **({"limits": {"max_concurrent_trials": 1}} if one == "limits" else {}))
    result = run_pipeline(plan(step), replace(execution, cores=1 if one == "cores" else 4))

    assert "best of 3 trials" in told(execution)
    assert result.outcome == "succeeded"


def test_no_more_trials_than_the_limit(execution: Execution, tracking: FolderTracking) -> None:
    run_pipeline(plan(swept(LOG.format(X), limits={"max_total_trials": 2})), execution)

    assert [name for name in tracking.names.values() if "trial" in name] == ["tune/trial-1", "tune/trial-2"]


def test_a_trial_past_its_timeout_is_lost_and_the_others_count(execution: Execution) -> None:
    slow = f"if [ {X} = 1 ]; then sleep 60; fi"
    result = run_pipeline(plan(swept(slow, WRITE, LOG.format(X), limits={"trial_timeout_seconds": 0.5})), execution)

    assert chosen(result) == "2"
    assert "it ran into its timeout" in told(execution)


def test_a_sweep_past_its_timeout_gives_the_best_so_far_and_is_not_reused(execution: Execution) -> None:
    step = swept(f"if [ {X} != 3 ]; then sleep 60; fi", WRITE, LOG.format(X), limits={"timeout_seconds": 1.5})
    result = run_pipeline(plan(step), execution)

    assert chosen(result) == "3"
    assert not result.steps["tune"].reusable
    assert "when its timeout of 1.5 s ended it" in told(execution)
    assert "stopped at the sweep's timeout" in told(execution)


def test_a_sweep_of_which_no_trial_ended_in_time_fails(execution: Execution) -> None:
    result = run_pipeline(plan(swept("sleep 60", limits={"timeout_seconds": 0.5})), execution)

    assert result.reason == "step 'tune': no trial ended within the sweep's timeout of 0.5 s"


def test_a_trial_that_falls_behind_is_stopped_early(execution: Execution, tracking: FolderTracking) -> None:
    # The worse trial goes on reporting until somebody stops it.
    trial = f"for i in $(seq 300); do {LOG.format(X)}; test {X} = 1 && test $i = 20 && exit 0; sleep 0.05; done"
    policy = {"type": "bandit", "slack_amount": 0.5, "evaluation_interval": 5, "delay_evaluation": 5}
    result = run_pipeline(plan(swept(trial, values=(1, 9), early_termination=policy)), execution)

    assert result.outcome == "succeeded"
    assert tracking.ended["tune/trial-2"] == "KILLED"
    assert "(x 9): rmse 9, stopped early" in told(execution)


def test_a_trial_that_cannot_be_recorded_is_one_trial_lost(execution: Execution, tracking: FolderTracking) -> None:
    tracking.failing.add("tune/trial-2")
    result = run_pipeline(plan(swept(WRITE, LOG.format(X))), execution)

    assert chosen(result) == "2"
    assert "The tracking server does not answer" in told(execution)


def test_a_sweep_whose_trials_log_something_else_says_which_metric_it_looked_for(execution: Execution) -> None:
    result = run_pipeline(plan(swept("true")), execution)

    assert "none of 3 trials logged the metric 'rmse' that 'objective' names" in result.reason


def test_a_sweep_of_failing_trials_says_why_the_first_failed(execution: Execution) -> None:
    result = run_pipeline(plan(swept("echo no data; exit 5")), execution)

    assert result.reason == "step 'tune': all 3 trials failed; the first: it ended with exit code 5"
    assert result.log_tail == "no data"


def test_an_unchanged_sweep_is_reused_unless_a_trial_registered_a_model(
    execution: Execution, tracking: FolderTracking
) -> None:
    step, states = swept(WRITE, LOG.format(X)), []
    for number, registering in ((1, True), (2, False), (3, False)):
        tracking.registering = registering
        result = run_pipeline(plan(step), replace(execution, folder=execution.folder.with_name(f"job-{number}")))
        states.append(result.steps["tune"].state)

    assert states == ["succeeded", "succeeded", "reused"]


def test_a_sweep_without_a_tracking_server_is_refused_before_it_starts(execution: Execution) -> None:
    result = run_pipeline(plan(swept(WRITE)), replace(execution, tracking=None))

    assert "The best trial of the sweep 'tune' is chosen by a metric" in result.reason
    assert not (execution.folder / "steps").exists()
