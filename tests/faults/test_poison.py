"""Test 7: one effect that can never be performed stops nobody else, is kept after five tries, and can be replayed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from benches import many_projects, push_to, quick_bench
from builders import PROJECT, SMOKED, Bench
from fakes import FakeJobRunner

from mlops_core.controller import MAX_TRIES, Controller
from mlops_core.domain.errors import TemporaryError
from mlops_core.domain.ids import EffectKey, JobName, ModelName, RunId
from mlops_core.domain.requests import Decision
from mlops_core.ports import JobRequest
from mlops_core.services.intake import Retrain
from mlops_core.services.smoke import SmokeResult

POISONED = 3


class Poison:
    """Makes the submits of one project fail, as long as it is switched on, and counts the tries."""

    def __init__(self, jobs: FakeJobRunner) -> None:
        self.on, self.tries, self._submit = True, 0, jobs.submit
        jobs.submit = self.submit  # type: ignore[method-assign] - this bench only

    def submit(self, request: JobRequest) -> None:
        if self.on and request.project.name == f"p{POISONED}":
            self.tries += 1
            raise TemporaryError("the job runner hiccups over this project")
        self._submit(request)


def poisoned_queue(folder: Path, count: int) -> tuple[Bench, Poison, Sequence[RunId]]:
    """Push to many projects, one of them poisoned, and deliver all messages."""
    bench = many_projects(folder, count)
    poison = Poison(bench.jobs)
    runs = [push_to(bench, number) for number in range(count)]
    bench.drain()
    return bench, poison, runs


def one_of_many(folder: Path, count: int) -> None:
    bench, poison, runs = poisoned_queue(folder, count)

    assert Counter(bench.state(run_id) for run_id in runs) == {"building": count - 1, "failed": 1}
    assert poison.tries == MAX_TRIES
    (letter,) = bench.app.world.dead_letters.list().items
    assert (letter.run_id, letter.key) == (runs[POISONED], "submit:build")
    assert "the job runner hiccups" in bench.run(runs[POISONED]).reason

    poison.on = False
    bench.app.controller.replay_effect(runs[POISONED], EffectKey("submit:build"), by="ada")
    bench.drain()
    assert {bench.state(run_id) for run_id in runs} == {"building"}
    bench.database.close()


def test_one_poison_among_fifty_ends_in_the_dead_letters_and_is_replayed(tmp_path: Path) -> None:
    one_of_many(tmp_path, 50)


@pytest.mark.full
def test_one_poison_among_a_thousand_ends_in_the_dead_letters_and_is_replayed(tmp_path: Path) -> None:
    one_of_many(tmp_path, 1_000)


def test_reconciling_does_not_bring_given_up_poison_back(tmp_path: Path) -> None:
    bench, poison, _ = poisoned_queue(tmp_path, 5)
    bench.settle(rounds=5)

    assert poison.tries == MAX_TRIES


def test_a_controller_that_forgets_poison_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a message that was tried often enough is dropped and nobody is told."""
    monkeypatch.setattr(Controller, "give_up", lambda *_: None)

    with pytest.raises(AssertionError):
        one_of_many(tmp_path, 5)


def break_smoke(bench: Bench) -> Callable[[], None]:
    """Let smoke tests hiccup until the returned function mends them."""
    smoke = bench.smoke.run

    def hiccup(*_: object) -> SmokeResult:
        raise TemporaryError("no answer")

    bench.smoke.run = hiccup  # type: ignore[method-assign] - this bench only
    return lambda: setattr(bench.smoke, "run", smoke)


def break_shift(bench: Bench) -> Callable[[], None]:
    """Let the deployment's status hiccup when the traffic is to be shifted."""
    status = bench.deployer.status

    def hiccup(name: object) -> object:
        if any(json.loads(message)["key"].startswith("shift") for message in bench.queue.messages) or _shifting(bench):
            raise TemporaryError("no answer")
        return status(name)  # type: ignore[arg-type] - passed on

    bench.deployer.status = hiccup  # type: ignore[method-assign, assignment] - this bench only
    return lambda: setattr(bench.deployer, "status", status)


def _shifting(bench: Bench) -> bool:
    return any(run.state == "rolling_out" for run in bench.app.world.runs.of_project(None).items)


@pytest.mark.parametrize(
    ("breaks", "key"), [(break_smoke, "smoke:staging"), (break_shift, "shift:1")], ids=["smoke test", "shift"]
)
def test_a_release_that_was_given_up_goes_live_when_it_is_replayed(
    tmp_path: Path, breaks: Callable[[Bench], Callable[[], None]], key: str
) -> None:
    """Its lock was returned and its deployment ended by then, so it has to get both again."""
    bench = quick_bench(tmp_path, manifest=SMOKED)
    run_id = bench.push()
    mend = breaks(bench)
    bench.deliver(run_id)
    assert (bench.state(run_id), bench.deployer.list()) == ("failed", [])
    assert bench.app.world.models.load(ModelName("diabetes")).value.lock is None

    mend()
    bench.app.controller.replay_effect(run_id, EffectKey(key), by="ada")
    bench.drain()
    bench.settle()

    assert bench.state(run_id) == "live"
    assert [status.name for status in bench.deployer.list()] == ["diabetes-v1"]


def test_a_version_rejected_under_the_lock_goes_live_when_it_is_waived(tmp_path: Path) -> None:
    """It was judged anew against a champion that came in between, and has returned the lock since."""
    bench = quick_bench(tmp_path)
    commit = bench.run(bench.push(1, branch="feature")).trigger.commit
    wish = Retrain(project=PROJECT.name, request_id="r", by="ada", commit=commit, rebuild=False)
    better, worse = bench.app.intake.retrain(wish), bench.push(2)
    bench.drain()
    bench.end_job(worse, "build")
    for run_id, rmse in ((better, 40.0), (worse, 50.0)):
        bench.registry.register("diabetes", f"{run_id}-train", rmse=rmse)
        bench.jobs.end(JobName(f"{run_id}-train"), "succeeded")
        bench.app.intake.job_told(JobName(f"{run_id}-train"), "succeeded")
    for run_id, key in (
        (better, "find-model"),
        (better, "judge"),
        (better, "lock"),
        (worse, "find-model"),
        (worse, "judge"),
    ):
        bench.app.controller.perform(run_id, EffectKey(key))
    bench.drain()
    bench.settle()
    assert (bench.state(better), bench.state(worse)) == ("live", "rejected")

    bench.app.controller.decide(worse, Decision(wish="waive", by="ada", reason="new scale"))
    bench.drain()
    bench.settle()

    assert (bench.state(better), bench.state(worse)) == ("retired", "live")
