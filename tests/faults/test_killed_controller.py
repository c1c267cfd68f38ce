"""Test 1: a controller that is killed at random points loses no job and starts none twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from controllers import Controllers, controllers
from durable import add_projects, launches, open_world
from histories import all_runs, unexplained

KILLED = -9


def kill_again_and_again(folder: Path, *, kills: int, projects: int, seed: int, design: str) -> list[str]:
    """
    Kill a controller at random calls, start it anew each time, then let it finish.

    Returns: What was wrong in the end: jobs lost, jobs doubled, runs that are not live.
    """
    folder.mkdir(exist_ok=True)
    world = open_world(folder)
    add_projects(world, projects)
    random, killed = Random(seed), 0
    command = {"folder": str(folder), "projects": projects, "seed": seed, "design": design}
    with controllers() as started:
        # A start passes some calls before it comes to new work, about four for each push that it takes again.
        reach = 4 * projects + 40
        while killed < kills:
            point = {"call": random.randint(1, reach), "side": random.choice(["before", "after"])}
            codes = started.run(**command, **point)
            killed += codes == [KILLED]
            if codes == [0]:
                break  # everything is done before so many calls
        _finish(started, command)
    wrong = _launched_wrong(folder, projects)
    wrong += [f"run '{run.id}' is '{run.state}': {run.reason}" for run in all_runs(world) if run.state != "live"]
    return [f"seed {seed}, {killed} kills: {each}" for each in [*wrong, *unexplained(world)]]


def _finish(started: Controllers, command: dict[str, object]) -> None:
    assert started.run(**command) == [0]


def _launched_wrong(folder: Path, projects: int) -> list[str]:
    counts = Counter(launches(folder))
    names = [f"p{number}-000000010000-{stage}" for number in range(projects) for stage in ("build", "train")]
    return [f"job '{name}' was launched {counts[name]} times" for name in names if counts[name] != 1]


def test_no_job_is_lost_or_doubled_by_twenty_kills(tmp_path: Path) -> None:
    assert kill_again_and_again(tmp_path, kills=20, projects=4, seed=1, design="intent first") == []


@pytest.mark.full
@pytest.mark.parametrize("seed", range(3))
def test_no_job_is_lost_or_doubled_by_two_hundred_kills(tmp_path: Path, seed: int) -> None:
    assert kill_again_and_again(tmp_path, kills=200, projects=50, seed=seed, design="intent first") == []


@pytest.mark.parametrize("design", ["launch, then record", "record, then launch"])
def test_the_broken_designs_are_caught(tmp_path: Path, design: str) -> None:
    """Negative controls: launching first doubles jobs, recording first loses them."""
    wrong = [
        problem
        for seed in range(4)
        for problem in kill_again_and_again(tmp_path / str(seed), kills=25, projects=3, seed=seed, design=design)
    ]
    count = "2 times" if design == "launch, then record" else "0 times"

    assert any(count in problem for problem in wrong), wrong
