"""Test 5: the store commits and the reply is cut. Whoever repeats the call does no harm and is not told of a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from benches import quick_bench
from builders import APPROVED, Bench, push
from failpoints import Gated
from fakes import FakeJobRunner
from histories import ledger_conflicts, unexplained, unsettled

from mlops_core.domain.errors import HeadraceError, TemporaryError
from mlops_core.domain.ids import JobName, ModelName, RunId
from mlops_core.domain.requests import Decision
from mlops_core.ports import JobRequest, JobStatus
from mlops_core.world import World

WRITES = ("runs.create", "runs.commit", "models.commit", "projects.put", "queue.put", "bus.publish", "jobs.submit")


@dataclass
class Cutter:
    """Cuts the reply of every so-manieth writing call, after it was done."""

    every: int
    passed: int = 0
    cut: int = 0
    failures: list[str] = field(default_factory=list)

    def pass_through(self, name: str, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        answer = call(*args, **options)
        if name in WRITES:
            self.passed += 1
            if self.passed % self.every == 0:
                self.cut += 1
                raise TemporaryError(f"the reply to {name} was cut")
        return answer

    def repeated(self, action: Callable[[], Any]) -> Any:
        """Call as a host or a person does: again after an error that says so."""
        for _ in range(5):
            try:
                return action()
            except TemporaryError:
                continue
            except HeadraceError as error:
                self.failures.append(str(error))
                return None
        self.failures.append("five calls, no answer")
        return None


def cutting(world: World, cutter: Cutter) -> World:
    ports = {
        name: Gated(getattr(world, name), name, cutter)
        for name in ("runs", "models", "projects", "queue", "bus", "jobs")
    }  # type: ignore[arg-type] - has what a gate has
    return replace(world, **ports)  # type: ignore[arg-type] - structural stand-ins


def deliveries(folder: Path, *, cuts: int, every: int) -> tuple[Cutter, Bench, list[str]]:
    """Deliver one push after the other, each approved by a person, until so many replies were cut."""
    cutter = Cutter(every)
    bench = quick_bench(folder, manifest=APPROVED, wrap=lambda world: cutting(world, cutter))
    number, wrong = 0, []
    while cutter.cut < cuts:
        number += 1
        run_id = cutter.repeated(partial(bench.app.intake.push, push(number)))[0]
        deliver(bench, cutter, run_id, number)
        if bench.state(run_id) != "live":
            wrong.append(f"push {number} is '{bench.state(run_id)}': {bench.run(run_id).reason}")
    world = bench.app.world
    wrong += [*unexplained(world), *unsettled(bench), *ledger_conflicts(world), *_doubled(bench)]
    return cutter, bench, wrong + cutter.failures


def deliver(bench: Bench, cutter: Cutter, run_id: RunId, number: int) -> None:
    settle = partial(bench.settle, rounds=2)
    for stage in ("build", "train"):
        cutter.repeated(settle)
        cutter.repeated(settle)
        name = JobName(f"{run_id}-{stage}")
        if stage == "train":
            bench.registry.register("diabetes", name, rmse=50.0 - number / 1_000)
        bench.jobs.end(name, "succeeded")
        cutter.repeated(partial(bench.app.intake.job_told, name, "succeeded"))
    cutter.repeated(settle)
    cutter.repeated(partial(bench.app.controller.decide, run_id, Decision(wish="approve", by="ada", reason="good")))
    for _ in range(3):
        cutter.repeated(settle)


def _doubled(bench: Bench) -> Iterator[str]:
    for name, count in bench.jobs.launches.items():
        if count != 1:
            yield f"job '{name}' was launched {count} times"
    shifts = [
        entry.run_id
        for entry in bench.app.world.models.ledger(ModelName("diabetes"), limit=500).items
        if entry.traffic_weight
    ]
    if len(shifts) != len(set(shifts)):
        yield "a run took the traffic twice"


@pytest.mark.parametrize("every", [2, 3, 7])
def test_forty_cut_replies_double_nothing_and_fail_nothing(tmp_path: Path, every: int) -> None:
    _, bench, wrong = deliveries(tmp_path, cuts=40, every=every)

    assert wrong == []
    bench.database.close()


@pytest.mark.full
@pytest.mark.parametrize("every", [2, 3, 5, 7, 11])
def test_five_hundred_cut_replies_double_nothing_and_fail_nothing(tmp_path: Path, every: int) -> None:
    _, bench, wrong = deliveries(tmp_path, cuts=500, every=every)

    assert wrong == []
    bench.database.close()


def test_a_person_who_approves_again_after_a_cut_reply_is_not_refused(tmp_path: Path) -> None:
    bench = quick_bench(tmp_path, manifest=APPROVED)
    run_id = bench.push()
    bench.deliver(run_id)
    approval = Decision(wish="approve", by="ada", reason="good")
    bench.app.controller.decide(run_id, approval)

    assert bench.app.controller.decide(run_id, approval).state == "deploying"


def test_a_runner_that_is_told_no_name_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: where a job's name is not chosen beforehand, the repeated submit starts another."""

    def submit(jobs: FakeJobRunner, request: JobRequest) -> None:
        jobs.launches[request.name] = jobs.launches.get(request.name, 0) + 1
        jobs.statuses.setdefault(request.name, JobStatus(request.name, None))

    monkeypatch.setattr(FakeJobRunner, "submit", submit)
    _, _, wrong = deliveries(tmp_path, cuts=40, every=7)

    assert any("was launched 2 times" in problem for problem in wrong)
