"""Test 2: a crash before and after every storage and outside call ends as the undisturbed delivery does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from benches import quick_bench
from builders import SMOKED, Bench, push
from failpoints import Crash, Gate, Point, gated
from histories import ledger_conflicts, unexplained, unsettled

from mlops_core.application import assemble
from mlops_core.domain.ids import JobName, ModelName, RunId
from mlops_core.services.reconcile import Reconciler

MODEL = ModelName("diabetes")
FIRST, SECOND = RunId("diabetes-000000010000"), RunId("diabetes-000000020000")


@dataclass
class Delivery:
    """A bench whose process may crash, and starts again without the messages that it had in memory."""

    bench: Bench
    gate: Gate
    crashes: int = 0

    def step(self, action: Callable[[], object]) -> None:
        """Do something as a host does: when the process dies of it, start anew and do it once more."""
        try:
            action()
        except Crash:
            self.crashes += 1
            self.bench.queue.messages.clear()
            self.bench.app = assemble(self.bench.app.world, verifiers={}, smoke=self.bench.smoke)
            action()

    def settle(self) -> None:
        for _ in range(4):
            self.step(lambda: self.bench.settle(rounds=1))


def undisturbed_steps(delivery: Delivery) -> None:
    """A first release, a better second one and a rollback, with everything that the world does in between."""
    bench, app = delivery.bench, lambda: delivery.bench.app
    for number, run_id, rmse in ((1, FIRST, 50.0), (2, SECOND, 45.0)):
        delivery.step(lambda number=number: app().intake.push(push(number)))
        delivery.settle()
        for stage in ("build", "train"):
            if stage == "train":
                bench.registry.register("diabetes", f"{run_id}-train", rmse=rmse)
            name = JobName(f"{run_id}-{stage}")
            bench.jobs.end(name, "succeeded")
            delivery.step(lambda name=name: app().intake.job_told(name, "succeeded"))
            delivery.settle()
    delivery.step(lambda: app().intake.rollback(MODEL, request_id="r", by="ada"))
    delivery.settle()


def delivered(folder: Path, at: Point | None = None) -> Delivery:
    gate = Gate(at)
    bench = quick_bench(folder, manifest=SMOKED)
    # The gate goes up when the bench stands, so that making it is no part of what is counted.
    bench.app = assemble(gated(bench.app.world, gate), verifiers={}, smoke=bench.smoke)
    delivery = Delivery(bench, gate)
    undisturbed_steps(delivery)
    bench.database.close()
    return delivery


def end_of(delivery: Delivery) -> dict[str, object]:
    """What must be the same whatever crashed: states, traffic, launches, deployments, nothing left over."""
    bench, world = delivery.bench, delivery.bench.app.world
    record = world.models.load(MODEL).value
    runs = world.runs.of_project(None).items
    return {
        "states": {run.id: str(run.state) for run in runs},
        "champion": record.champion.version if record.champion else None,
        "previous": record.previous.version if record.previous else None,
        "launches": dict(bench.jobs.launches),
        "published": set(bench.bus.published),
        "statuses": {commit: told[-1] for commit, told in bench.source.statuses.items()},
        "wrong": [*unexplained(world), *unsettled(bench), *ledger_conflicts(world)],
    }


def crash_everywhere(tmp_path: Path, *, every: int) -> None:
    undisturbed = delivered(tmp_path / "undisturbed")
    calls = len(undisturbed.gate.calls)
    expected = end_of(undisturbed)
    assert expected["wrong"] == []
    wrong = []
    for call in range(1, calls + 1, every):
        for side in ("before", "after"):
            crashed = delivered(tmp_path / f"{call}-{side}", Point(call, side))
            assert crashed.crashes == 1
            found = end_of(crashed)
            if found != expected:
                different = {key: (expected[key], found[key]) for key in expected if expected[key] != found[key]}
                wrong.append((call, side, undisturbed.gate.calls[call - 1], different))
    assert wrong == []


def test_a_crash_at_some_calls_ends_as_the_undisturbed_delivery(tmp_path: Path) -> None:
    crash_everywhere(tmp_path, every=37)


@pytest.mark.full
def test_a_crash_at_any_call_ends_as_the_undisturbed_delivery(tmp_path: Path) -> None:
    crash_everywhere(tmp_path, every=1)


def test_a_controller_that_does_not_send_lost_hints_again_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: a run whose hints died with the process waits for ever."""
    monkeypatch.setattr(Reconciler, "_resend", lambda *_: None)

    with pytest.raises(KeyError, match="-build"):  # the world waits for a job that nobody submits
        delivered(tmp_path / "crashed", Point(20, "after"))
