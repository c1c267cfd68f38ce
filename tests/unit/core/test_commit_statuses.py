"""What stands beside a commit: one status of the run, one of each stage that it came to, and none that stays for ever."""

from __future__ import annotations

import pytest
from builders import Bench, commit_id

from mlops_core.domain.ids import RunId


def stages(bench: Bench, number: int = 1) -> dict[str, str]:
    return {stage: state for stage, (state, _) in bench.source.stages[commit_id(number)].items()}


def test_each_stage_is_pending_and_then_passed_while_the_run_goes_on(bench: Bench) -> None:
    run_id = bench.push()
    bench.drain()
    assert stages(bench) == {"build": "pending"}
    assert bench.source.stages[commit_id(1)]["build"][1].startswith("building: ")

    bench.end_job(run_id, "build")
    assert stages(bench) == {"build": "success", "train": "pending"}

    bench.deliver(run_id)
    assert stages(bench) == {"build": "success", "train": "success", "release": "success"}
    assert bench.source.stages[commit_id(1)]["release"] == ("success", "live")


@pytest.mark.parametrize("stage", ["build", "train"])
def test_the_stage_in_which_a_run_failed_says_why_and_those_before_stay_passed(bench: Bench, stage: str) -> None:
    run_id = bench.push()
    bench.drain()
    if stage == "train":
        bench.end_job(run_id, "build")
    bench.end_job(run_id, stage, "failed", "it broke")

    shown = bench.source.stages[commit_id(1)]
    assert shown[stage][0] == "failure"
    assert "it broke" in shown[stage][1]
    assert [state for name, (state, _) in shown.items() if name != stage] == ["success"] * (stage == "train")
    assert bench.source.statuses[commit_id(1)][-1][0] == "failure"


def test_a_rejected_challenger_fails_its_release_and_nothing_else(bench: Bench) -> None:
    bench.deliver(bench.push(1))
    bench.deliver(bench.push(2), rmse=5_000.0)

    assert stages(bench, 2) == {"build": "success", "train": "success", "release": "failure"}
    assert stages(bench, 1)["release"] == "success"


def test_a_version_that_was_replaced_leaves_its_commit_with_a_success(bench: Bench) -> None:
    first = bench.push(1)
    bench.deliver(first)
    bench.deliver(bench.push(2), rmse=49.0)

    assert bench.state(RunId(first)) == "retired"
    assert bench.source.statuses[commit_id(1)][-1][0] == "success"
    assert set(stages(bench, 1).values()) == {"success"}
