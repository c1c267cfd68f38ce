"""What is shown to a person: lengths, tables, a run's story."""

from __future__ import annotations

import json

import pytest
from builders import Bench
from commands import Headrace

from mlops_core.cli.words import length
from mlops_core.domain.ids import DeploymentName, ModelVersion


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"), (59.9, "59.9 s"), (60, "1 min 0 s"), (119.6, "2 min 0 s"), (3_599, "59 min 59 s"),
        (3_600, "1 h 0 min"), (86_399, "23 h 59 min"), (90_000, "1 d 1 h"),
    ],
)  # fmt: skip
def test_a_length_has_at_most_two_units(seconds: float, words: str) -> None:
    assert length(seconds) == words


def test_a_story_has_states_gates_with_numbers_and_events(bench: Bench, headrace: Headrace) -> None:
    bench.deliver(bench.push(1), rmse=50.0)
    worse = bench.push(2)
    bench.deliver(worse, rmse=58.25)

    told = headrace("show", worse).stdout

    assert told.startswith(f"{worse}  rejected\npush · started 2026-01-05 12:")
    assert "gates of v2, against champion v1" in told
    assert "✓ rmse at most 60" in " ".join(told.split())
    assert "'rmse' is 58.25; the champion, version 1, has 50, so it must be at most 50.5." in told
    assert "evaluating → rejected" in told


def test_a_failed_run_shows_the_end_of_its_log_as_it_is(bench: Bench, headrace: Headrace) -> None:
    run_id = bench.push()
    bench.drain()
    bench.jobs.end(f"{run_id}-build", "failed", "the tests failed", "E   [/red] not markup\n")  # type: ignore[arg-type] - an id
    bench.app.intake.job_told(f"{run_id}-build", "failed")  # type: ignore[arg-type] - the same

    told = headrace("show", run_id).stdout

    assert "the end of the log" in told
    assert "E   [/red] not markup" in told


def test_lists_show_what_is_there(bench: Bench, headrace: Headrace, address: str) -> None:
    run_id = bench.push(1)
    bench.deliver(run_id)
    bench.deliver(bench.push(2), rmse=49.0)

    assert run_id in headrace("runs").stdout
    assert "push main" in headrace("runs", "diabetes", "--limit", "5").stdout
    assert f"{address}/api/models/diabetes/score" in headrace("models").stdout
    assert "rmse 49" in headrace("models", "diabetes").stdout
    assert "main" in headrace("projects").stdout
    champion = bench.app.queries.model(bench.app.world.models.names()[0])
    assert (champion["champion"]["version"], champion["previous"]["version"]) == (ModelVersion("2"), ModelVersion("1"))


def test_a_deployment_that_no_model_needs_is_told(bench: Bench, headrace: Headrace) -> None:
    bench.deliver(bench.push(1))
    bench.deployer.make_ready(DeploymentName("diabetes-v9"))

    told = headrace("deployments").stdout.splitlines()
    view = json.loads(headrace("deployments", "--json").stdout)["deployments"]

    assert [each["needed"] for each in view] == [True, False]
    assert ["no model needs it" in line for line in told[1:]] == [False, True]


def test_empty_lists_say_how_to_begin(bench: Bench, headrace: Headrace) -> None:
    assert headrace("runs").stdout == "No run yet. Push: git push headrace main\n"
    assert headrace("models").stdout.startswith("No model is in service yet.")
    assert headrace("deployments").stdout.startswith("No version is deployed yet.")
