"""Test 8: a controller that is stopped while another takes over writes nothing over it when it goes on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from controllers import controllers
from durable import add_projects, launches, open_world
from histories import all_runs, unexplained


def stop_again_and_again(folder: Path, *, stops: int, seed: int, design: str = "intent first") -> list[str]:
    """Stop a controller at a random call, let another finish, continue the first; each time over fresh runs."""
    random = Random(seed)
    wrong: list[str] = []
    stopped = 0
    with controllers() as started:
        for number in range(stops):
            place = folder / str(number)
            place.mkdir()
            (place / "tables.json").write_text(
                (folder / "tables.json").read_text().replace("PREFIX", f"p{number}x")
            ) if (folder / "tables.json").exists() else None
            world = open_world(place)
            add_projects(world, 2)
            point = {"call": random.randint(3, 60), "side": random.choice(["before", "after"])}
            codes = started.run(folder=str(place), projects=2, seed=seed, stop=True, design=design, **point)
            stopped += codes[2]
            wrong += [f"{point}: {each}" for each in violations(place, list(codes[:2]))]
    return wrong if stopped >= max(1, stops // 2) else [f"only {stopped} of {stops} controllers were stopped", *wrong]


def violations(folder: Path, codes: list[int]) -> list[str]:
    world = open_world(folder)
    wrong = [] if codes == [0, 0] else [f"the controllers ended with {codes}"]
    wrong += [
        f"job '{name}' was launched {count} times" for name, count in Counter(launches(folder)).items() if count > 1
    ]
    wrong += [f"run '{run.id}' is '{run.state}': {run.reason}" for run in all_runs(world) if run.state != "live"]
    # A history whose entries do not follow from each other has a stale write in it.
    return [*wrong, *unexplained(world)]


def test_ten_stopped_controllers_write_nothing_over_the_one_that_took_over(tmp_path: Path) -> None:
    assert stop_again_and_again(tmp_path, stops=10, seed=1) == []


@pytest.mark.full
def test_a_hundred_stopped_controllers_write_nothing_over_the_one_that_took_over(tmp_path: Path) -> None:
    assert stop_again_and_again(tmp_path, stops=100, seed=2) == []


def test_a_store_that_saves_without_a_version_is_caught(tmp_path: Path) -> None:
    """Negative control: what the stopped controller had read counts more than what was written since."""
    assert stop_again_and_again(tmp_path, stops=12, seed=1, design="save without a version") != []
