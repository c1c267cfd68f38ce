"""Commands that ask: what is not there is said, and ends with a code that scripts see."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from builders import Bench
from commands import Headrace

from mlops_core.domain.ids import CommitId

ROOT = Path(__file__).parents[3]


def test_the_version_is_told(headrace: Headrace) -> None:
    done = headrace("--version")

    assert done.exit_code == 0
    assert re.match(r"headrace \d+\.\d+\.\d+ \(Python 3\.\d+", done.stdout)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("runs nosuch", "There is no project 'nosuch'. List the projects: headrace projects."),
        ("models nosuch", "There is no registered model 'nosuch'. List those in service: headrace models."),
        ("show nosuch", "There is no run 'nosuch'. List the runs: headrace runs."),
        ("logs nosuch", "There is no run 'nosuch'."),
        ("retrain nosuch", "There is no project 'nosuch'."),
        ("rollback nosuch", "Model 'nosuch' has no version in service, so there is nothing to roll back."),
        ("dead-letters show nosuch", "There is no dead letter 'nosuch'."),
        ("predict nosuch nofile.json", "'nofile.json' cannot be read"),
    ],
)
def test_what_is_not_there_is_an_error_that_names_it(headrace: Headrace, command: str, sentence: str) -> None:
    done = headrace(*command.split())

    assert done.exit_code == 1
    assert sentence in done.stderr


def test_a_project_without_runs_is_no_error(headrace: Headrace) -> None:
    done = headrace("runs", "diabetes")

    assert (done.exit_code, done.stdout) == (0, "No run yet. Push: git push headrace main\n")


def test_down_with_nothing_up_does_not_claim_to_have_stopped_anything(headrace: Headrace) -> None:
    done = headrace("down")

    assert done.exit_code == 0
    assert done.stdout.startswith("Nothing is up: there is no data folder")


def test_logs_of_a_run_that_was_refused_say_that_there_is_none_and_why(bench: Bench, headrace: Headrace) -> None:
    bench.source.files[CommitId("00000001" * 5), "mlops.yaml"] = b"project: diabetes\ntrane: {}\n"
    run_id = bench.push()
    bench.drain()

    done = headrace("logs", run_id)

    assert done.exit_code == 1
    assert f"There is no build log of run '{run_id}'. It ended before that: failed" in done.stderr
    assert "Did you mean 'train'?" in done.stderr


def test_logs_of_a_rollback_say_that_it_has_none(bench: Bench, headrace: Headrace) -> None:
    for number in (1, 2):
        bench.deliver(bench.push(number))
    run_id = headrace("rollback", "diabetes", "--no-follow").stdout.split()[1].rstrip(":")

    assert "A rollback builds and trains nothing." in headrace("logs", run_id).stderr


def test_a_live_run_shows_the_whole_address(bench: Bench, headrace: Headrace, address: str) -> None:
    run_id = bench.push()
    bench.deliver(run_id)

    done = headrace("show", run_id)

    assert f"answers at {address}/api/models/diabetes/score" in done.stdout


def test_json_is_what_the_controller_answered(bench: Bench, headrace: Headrace) -> None:
    run_id = bench.push()

    assert json.loads(headrace("runs", "--json").stdout)["runs"][0]["run_id"] == run_id
    assert json.loads(headrace("show", run_id[:12], "--json").stdout)["run_id"] == run_id


def test_the_beginning_of_several_ids_asks_for_more_letters(bench: Bench, headrace: Headrace) -> None:
    bench.push(1)
    bench.push(2)

    assert "'diabetes-0' begins 2 runs" in headrace("show", "diabetes-0").stderr


def test_a_project_stands_for_its_newest_run_where_something_is_read(bench: Bench, headrace: Headrace) -> None:
    bench.push(1)
    newest = bench.push(2)

    assert headrace("show", "diabetes").stdout.startswith(f"{newest}  ")
    assert "'diabetes' begins 2 runs" in headrace("cancel", "diabetes").stderr


def test_a_run_whose_training_succeeded_cannot_be_resumed(bench: Bench, headrace: Headrace) -> None:
    """Its every step would be taken over, and the same model registered again."""
    run_id = bench.push()
    bench.deliver(run_id, rmse=999.0)

    done = headrace("retrain", "--resume", run_id)

    assert done.exit_code == 1
    assert f"Run '{run_id}' cannot be resumed: it is 'rejected', and no step of its training failed." in done.stderr
    assert "headrace retrain diabetes" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "projects", "runs", "runs diabetes", "show diabetes", "logs diabetes", "models", "models diabetes",
        "dead-letters list", "doctor", "validate {root}", "schema",
    ],
)  # fmt: skip
def test_all_that_reads_is_json_for_programs(bench: Bench, headrace: Headrace, command: str) -> None:
    bench.deliver(bench.push())
    words = command.format(root=ROOT / "examples" / "diabetes").split()
    options = [] if command == "schema" else ["--json"]

    assert json.loads(headrace(*words, *options).stdout)
