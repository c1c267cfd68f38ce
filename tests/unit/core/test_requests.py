"""Which wish of a person is taken in which state of a run, and what they are told where it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from builders import APPROVED, Bench, make_bench

from mlops_core.domain.errors import RefusedError
from mlops_core.domain.ids import DeploymentName, RunId
from mlops_core.domain.requests import Decision


def received(bench: Bench) -> RunId:
    return bench.push()


def building(bench: Bench) -> RunId:
    run_id = received(bench)
    bench.drain()
    return run_id


def training(bench: Bench) -> RunId:
    run_id = building(bench)
    bench.end_job(run_id, "build")
    return run_id


def failed(bench: Bench) -> RunId:
    run_id = building(bench)
    bench.end_job(run_id, "build", "failed")
    return run_id


def built(bench: Bench) -> RunId:
    run_id = bench.push(branch="feature")
    bench.drain()
    bench.end_job(run_id, "build")
    return run_id


def awaiting_approval(bench: Bench) -> RunId:
    run_id = received(bench)
    bench.deliver(run_id)
    return run_id


def deploying(bench: Bench) -> RunId:
    bench.deployer.ready_at_once = False
    run_id = awaiting_approval(bench)
    wish(bench, run_id, "approve")
    return run_id


def live(bench: Bench) -> RunId:
    run_id = deploying(bench)
    bench.deployer.make_ready(DeploymentName("diabetes-v1"))
    bench.settle()
    return run_id


def retired(bench: Bench) -> RunId:
    first = live(bench)
    bench.deployer.ready_at_once = True
    second = bench.push(2)
    bench.deliver(second, rmse=45)
    wish(bench, second, "approve")
    bench.settle()
    return first


def rejected_by_its_gates(bench: Bench) -> RunId:
    run_id = received(bench)
    bench.deliver(run_id, rmse=90)
    return run_id


def rejected_by_a_person(bench: Bench) -> RunId:
    run_id = awaiting_approval(bench)
    wish(bench, run_id, "reject")
    return run_id


def cancelled(bench: Bench) -> RunId:
    run_id = training(bench)
    wish(bench, run_id, "cancel")
    return run_id


def expired(bench: Bench) -> RunId:
    run_id = awaiting_approval(bench)
    bench.clock.advance(8 * 86_400)
    bench.settle()
    return run_id


def wish(bench: Bench, run_id: RunId, what: str, *, by: str = "ada", reason: str = "so") -> str:
    decision = Decision(wish=what, by=by, reason=reason)  # type: ignore[arg-type] - a literal of this module
    run = bench.app.controller.decide(run_id, decision)
    bench.drain()
    return str(run.state)


REFUSED = "refused"
# state: how it is come to, then the state after cancel, approve, reject and waive.
TABLE: dict[Callable[[Bench], RunId], tuple[str, str, str, str]] = {
    received: ("cancelled", REFUSED, REFUSED, REFUSED),
    building: ("cancelled", REFUSED, REFUSED, REFUSED),
    training: ("cancelled", REFUSED, REFUSED, REFUSED),
    awaiting_approval: ("cancelled", "deploying", "rejected", REFUSED),
    deploying: ("cancelled", REFUSED, REFUSED, REFUSED),
    live: (REFUSED, REFUSED, REFUSED, REFUSED),
    retired: (REFUSED, REFUSED, REFUSED, REFUSED),
    built: (REFUSED, REFUSED, REFUSED, REFUSED),
    failed: (REFUSED, REFUSED, REFUSED, REFUSED),
    rejected_by_its_gates: (REFUSED, REFUSED, REFUSED, "deploying"),
    rejected_by_a_person: (REFUSED, REFUSED, REFUSED, REFUSED),
    cancelled: (REFUSED, REFUSED, REFUSED, REFUSED),
    expired: (REFUSED, REFUSED, REFUSED, REFUSED),
}
CASES = [
    (come, what, after)
    for come, afters in TABLE.items()
    for what, after in zip(("cancel", "approve", "reject", "waive"), afters, strict=True)
]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path, manifest=APPROVED)


@pytest.mark.parametrize(("come", "what", "after"), CASES, ids=[f"{come.__name__}-{what}" for come, what, _ in CASES])
def test_a_wish_is_taken_or_refused_by_the_state_of_its_run(
    bench: Bench, come: Callable[[Bench], RunId], what: str, after: str
) -> None:
    run_id = come(bench)
    state = bench.state(run_id)
    if after != REFUSED:
        assert wish(bench, run_id, what, by="bob", reason="because") == after
        return
    with pytest.raises(RefusedError) as refusal:
        wish(bench, run_id, what, by="bob", reason="because")
    # What happened, to which thing, and what to do.
    assert run_id in str(refusal.value)
    assert str(refusal.value).endswith(".") or "headrace" in str(refusal.value)
    assert state in str(refusal.value)
    assert bench.state(run_id) == state


@pytest.mark.parametrize(
    ("come", "advice"),
    [
        (live, "headrace rollback diabetes"),
        (deploying, "headrace cancel"),
        (failed, "headrace retrain diabetes"),
        (rejected_by_its_gates, '--waive --reason "..."'),
        (training, "headrace logs"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_whoever_approves_in_vain_is_told_what_to_do(bench: Bench, come: Callable[[Bench], RunId], advice: str) -> None:
    with pytest.raises(RefusedError, match=advice):
        wish(bench, come(bench), "approve", by="bob")


def test_a_waiver_needs_a_reason(bench: Bench) -> None:
    run_id = rejected_by_its_gates(bench)

    with pytest.raises(RefusedError, match="needs a reason"):
        wish(bench, run_id, "waive", reason="")
    assert bench.state(run_id) == "rejected"


def test_of_two_people_who_answer_at_once_the_second_is_refused(bench: Bench) -> None:
    run_id = awaiting_approval(bench)
    wish(bench, run_id, "reject", by="ada")

    with pytest.raises(RefusedError, match="it is 'rejected'"):
        wish(bench, run_id, "approve", by="bob")


@pytest.mark.parametrize("what", ["cancel", "reject"])
def test_the_same_wish_of_the_same_person_again_is_no_conflict(bench: Bench, what: str) -> None:
    run_id = awaiting_approval(bench)
    first = wish(bench, run_id, what)

    assert wish(bench, run_id, what) == first
