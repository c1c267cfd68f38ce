"""Test 4: several controllers race over the same runs: one launch each, and nobody writes over another."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from controllers import controllers
from durable import add_projects, launches, open_world
from histories import all_runs, unexplained


def race(folder: Path, *, processes: int, runs: int, seed: int, design: str = "intent first") -> list[str]:
    """Let processes take the same pushes and deliver them, all at once. Returns what was wrong in the end."""
    world = open_world(folder)
    add_projects(world, runs)
    with controllers() as started:
        codes = started.run(folder=str(folder), projects=runs, seed=seed, processes=processes, design=design)
    wrong = [] if set(codes) == {0} else [f"the controllers ended with {codes}"]
    counts = Counter(launches(folder))
    wrong += [f"job '{name}' was launched {count} times" for name, count in counts.items() if count != 1]
    if len(counts) != 2 * runs:
        wrong.append(f"{len(counts)} jobs were launched, not {2 * runs}")
    wrong += [f"run '{run.id}' is '{run.state}': {run.reason}" for run in all_runs(world) if run.state != "live"]
    return [f"seed {seed}: {each}" for each in [*wrong, *unexplained(world)]]


def test_four_controllers_over_ten_runs_do_everything_once(tmp_path: Path) -> None:
    assert race(tmp_path, processes=4, runs=10, seed=1) == []


@pytest.mark.full
@pytest.mark.parametrize("seed", range(5))
def test_eight_controllers_over_a_hundred_runs_do_everything_once(tmp_path: Path, seed: int) -> None:
    assert race(tmp_path, processes=8, runs=100, seed=seed) == []


def test_a_store_that_saves_without_a_version_is_caught(tmp_path: Path) -> None:
    """Negative control: what one process wrote is lost under what another had read before."""
    assert race(tmp_path, processes=4, runs=10, seed=1, design="save without a version") != []
