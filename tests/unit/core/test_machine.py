"""The state machine: its table, and that neither order nor repetition of events changes where a run ends."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import pytest
from builders import APPROVED, SMOKED
from fakes import START
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_core.domain import events as ev
from mlops_core.domain.gates import Outcome, Verdict
from mlops_core.domain.ids import EffectKey, JobName, ModelName, ModelVersion, ProjectName, RunId
from mlops_core.domain.machine import INTERRUPTIONS, TABLE, advance, settle
from mlops_core.domain.run import ENDS, Run, State, Trigger
from mlops_core.manifest import read_manifest

V1 = ModelVersion("1")
SPEC = read_manifest(SMOKED)
APPROVAL_SPEC = read_manifest(APPROVED)


def at(seconds: int) -> ev.Timestamp:  # type: ignore[name-defined] - an alias of datetime
    return START + timedelta(seconds=seconds)


def verdict(outcome: Outcome) -> Verdict:
    return Verdict(gate="rmse at most 60", metric="rmse", outcome=outcome, measured=50.0, limit=60.0, reason="said so")


def fresh(kind: str = "push", **trigger: object) -> Run:
    cause = Trigger.model_validate({"kind": kind, "ordinal": START, "commit": "a" * 40, "branch": "main", **trigger})
    return settle(
        Run(id=RunId("diabetes-a"), project=ProjectName("diabetes"), trigger=cause, created_at=START, updated_at=START)
    )


def taken(run: Run, *events: ev.Event) -> Run:
    for event in events:
        run = advance(run, event)
    return run


DELIVER = ev.PolicyDecided(at=at(1), decision="deliver", reason="branch 'main' delivers", spec=SPEC)
BUILD_SUBMITTED = ev.JobSubmitted(at=at(2), stage="build", job_name=JobName("diabetes-a-build"))
BUILT = ev.JobEnded(at=at(3), stage="build", job_name=JobName("diabetes-a-build"), outcome="succeeded")
BUILD_FAILED = ev.JobEnded(at=at(3), stage="build", job_name=JobName("diabetes-a-build"), outcome="failed", reason="no")
TRAIN_SUBMITTED = ev.JobSubmitted(at=at(4), stage="train", job_name=JobName("diabetes-a-train"))
ANNOUNCED = ev.ModelAnnounced(at=at(5), model=ModelName("diabetes"), version=V1)
TRAINED = ev.JobEnded(at=at(6), stage="train", job_name=JobName("diabetes-a-train"), outcome="succeeded")
FOUND = ev.ModelFound(at=at(7), model=ModelName("diabetes"), version=V1)
PASSED = ev.GatesJudged(at=at(8), version=V1, champion=None, verdicts=(verdict(Outcome.PASSED),))
FAILED_GATES = ev.GatesJudged(at=at(8), version=V1, champion=None, verdicts=(verdict(Outcome.FAILED),))
LOCKED = ev.ReleaseLockTaken(at=at(9), champion=None)
REQUESTED = ev.DeploymentRequested(at=at(10), version=V1)
READY = ev.DeploymentReady(at=at(11), version=V1)
SMOKE_PASSED = ev.SmokeTested(at=at(12), stage="staging", passed=True, reason="1 answered")
SMOKE_FAILED = ev.SmokeTested(at=at(12), stage="staging", passed=False, reason="answered 500")
SHIFTED = ev.TrafficShifted(at=at(13), version=V1, previous=None)
RETIRED = ev.Retired(at=at(14), by_run=RunId("diabetes-b"), reason="version 2 took over")
CANCELLED = ev.RunCancelled(at=at(5), by="ada", reason="")
SUPERSEDED = ev.Superseded(at=at(5), by_run=RunId("diabetes-b"), reason="newer")

DELIVERY = [
    DELIVER, BUILD_SUBMITTED, BUILT, TRAIN_SUBMITTED, ANNOUNCED, TRAINED, FOUND, PASSED, LOCKED, REQUESTED, READY,
    SMOKE_PASSED, SHIFTED,
]  # fmt: skip
# What may happen to one run, in the order in which it does; each ends differently.
STORIES: dict[str, tuple[list[ev.Event], State]] = {
    "live": (DELIVERY, State.LIVE),
    "retired": ([*DELIVERY, RETIRED], State.RETIRED),
    "build failed": ([DELIVER, BUILD_SUBMITTED, BUILD_FAILED], State.FAILED),
    "cancelled while training": ([*DELIVERY[:4], CANCELLED], State.CANCELLED),
    "superseded while building": ([*DELIVERY[:2], SUPERSEDED], State.SUPERSEDED),
    "cancelled after it failed": ([DELIVER, BUILD_SUBMITTED, BUILD_FAILED, CANCELLED], State.FAILED),
    "cancelled and superseded": ([DELIVER, CANCELLED, SUPERSEDED], State.CANCELLED),
    "cancelled while the traffic shifts": ([*DELIVERY[:-1], CANCELLED, SHIFTED], State.LIVE),
    "gates failed": ([*DELIVERY[:7], FAILED_GATES], State.REJECTED),
    "gates waived": (
        [*DELIVERY[:7], FAILED_GATES, ev.GatesWaived(at=at(20), by="ada", reason="new scale"), *DELIVERY[8:]],
        State.LIVE,
    ),
    "smoke failed": ([*DELIVERY[:11], SMOKE_FAILED], State.FAILED),
    "nothing registered": ([*DELIVERY[:4], TRAINED, ev.NothingRegistered(at=at(7), reason="none")], State.FAILED),
    "announced after the registry had nothing": (
        [*DELIVERY[:4], TRAINED, ev.NothingRegistered(at=at(7), reason="none"), ANNOUNCED],
        State.TRAINING,
    ),
    "another model announced after the registry had nothing": (
        [
            *DELIVERY[:4],
            TRAINED,
            ev.NothingRegistered(at=at(7), reason="none"),
            ev.ModelAnnounced(at=at(9), model=ModelName("scaler"), version=V1),
        ],
        State.FAILED,
    ),
    "effect stuck": (
        [DELIVER, ev.EffectFailed(at=at(2), key=EffectKey("submit:build"), reason="no runner")],
        State.FAILED,
    ),
    "effect stuck, then replayed": (
        [
            DELIVER,
            ev.EffectFailed(at=at(2), key=EffectKey("submit:build"), reason="no runner"),
            ev.EffectReplayed(at=at(3), key=EffectKey("submit:build"), attempt=1, by="ada"),
        ],
        State.BUILDING,
    ),
}


@pytest.mark.parametrize("story", STORIES, ids=str)
def test_a_story_ends_in_its_state(story: str) -> None:
    events, end = STORIES[story]

    assert taken(fresh(), *events).state is end


@settings(max_examples=300, deadline=None)
@given(story=st.sampled_from(sorted(STORIES)), seed=st.integers(0, 2**32), copies=st.integers(1, 3))
def test_order_and_repetition_of_events_do_not_change_the_end(story: str, seed: int, copies: int) -> None:
    events, end = STORIES[story]
    shuffled = events * copies
    Random(seed).shuffle(shuffled)

    run = taken(fresh(), *shuffled)

    assert run.state is end
    assert run.facts == taken(fresh(), *events).facts


@settings(max_examples=200, deadline=None)
@given(story=st.sampled_from(sorted(STORIES)), seed=st.integers(0, 2**32))
def test_what_is_pending_in_the_end_does_not_depend_on_the_order(story: str, seed: int) -> None:
    events, _ = STORIES[story]
    shuffled = list(events)
    Random(seed).shuffle(shuffled)

    def essential(run: Run) -> set[str]:
        keys = {pending.effect.key for pending in run.pending}
        return {key for key in keys if not key.startswith("announce:")}

    assert essential(taken(fresh(), *shuffled)) == essential(taken(fresh(), *events))


@pytest.mark.parametrize("state", [state for state in State if state not in ENDS], ids=str)
def test_every_state_that_waits_leads_somewhere(state: State) -> None:
    assert any(row.source is state for row in TABLE)


@pytest.mark.parametrize("state", sorted(ENDS - {State.ROLLED_BACK}), ids=str)
def test_every_end_is_reached_from_somewhere(state: State) -> None:
    targets = {row.target for row in TABLE} | {target for target, _, _ in INTERRUPTIONS}

    assert state in targets


@pytest.mark.parametrize("end", sorted(ENDS), ids=str)
def test_no_row_leads_out_of_an_end(end: State) -> None:
    assert not any(row.source is end for row in TABLE)


def test_an_event_taken_twice_changes_nothing_the_second_time() -> None:
    once = taken(fresh(), DELIVER, BUILD_SUBMITTED)

    assert advance(once, BUILD_SUBMITTED) == once


def test_a_model_announced_before_its_pipeline_is_complete_does_not_end_the_training() -> None:
    assert taken(fresh(), *DELIVERY[:5]).state is State.TRAINING


def test_a_pipeline_that_is_complete_asks_the_registry() -> None:
    run = taken(fresh(), *DELIVERY[:4], TRAINED)

    assert EffectKey("find-model") in {pending.effect.key for pending in run.pending}


def test_a_release_waits_for_approval_where_it_is_asked_for() -> None:
    asked = ev.PolicyDecided(at=at(1), decision="deliver", reason="", spec=APPROVAL_SPEC)

    assert taken(fresh(), asked, *DELIVERY[1:8]).state is State.AWAITING_APPROVAL


def test_a_champion_that_came_in_between_must_be_judged_again() -> None:
    newer = ev.ReleaseLockTaken(at=at(9), champion=ModelVersion("7"))
    run = taken(fresh(), *DELIVERY[:8], newer)

    assert EffectKey("judge:7") in {pending.effect.key for pending in run.pending}


def test_a_version_worse_than_a_champion_that_came_in_between_is_rejected() -> None:
    newer = ev.ReleaseLockTaken(at=at(9), champion=ModelVersion("7"))
    worse = ev.GatesJudged(at=at(10), version=V1, champion=ModelVersion("7"), verdicts=(verdict(Outcome.FAILED),))

    assert taken(fresh(), *DELIVERY[:8], newer, worse).state is State.REJECTED


def test_a_rollback_goes_straight_to_deploying() -> None:
    assert taken(fresh("rollback", version="1"), DELIVER).state is State.DEPLOYING


def test_a_retrain_without_rebuild_goes_straight_to_training() -> None:
    assert taken(fresh("retrain", rebuild=False), DELIVER).state is State.TRAINING


def test_a_cancelled_run_stops_its_job_and_returns_its_lock() -> None:
    run = taken(fresh(), *DELIVERY[:3], TRAIN_SUBMITTED, CANCELLED)

    assert EffectKey("cancel:train") in {pending.effect.key for pending in run.pending}


def test_a_run_is_read_back_as_it_was_written() -> None:
    run = taken(fresh(), *DELIVERY)

    assert Run.model_validate_json(run.model_dump_json()) == run


@pytest.mark.parametrize("spec", [SPEC, APPROVAL_SPEC], ids=["released by itself", "approved by a person"])
def test_a_challenger_is_not_promoted_while_a_gate_is_pending(spec: object) -> None:
    asked = ev.PolicyDecided(at=at(1), decision="deliver", reason="", spec=spec)  # type: ignore[arg-type] - a manifest
    verdicts = (verdict(Outcome.PASSED), verdict(Outcome.PENDING))
    pending = ev.GatesJudged(at=at(8), version=V1, champion=None, verdicts=verdicts)

    assert taken(fresh(), asked, *DELIVERY[1:7], pending).state is State.EVALUATING


STOPPED = {
    State.CANCELLED: ev.RunCancelled(at=at(5), by="ada", reason="the wrong branch"),
    State.SUPERSEDED: ev.Superseded(at=at(5), by_run=RunId("diabetes-b"), reason="a newer push took over: diabetes-b"),
}


@pytest.mark.parametrize("state", STOPPED, ids=str)
@pytest.mark.parametrize("stage", ["build", "train"])
def test_the_end_of_the_job_that_was_stopped_with_a_run_does_not_become_its_reason(
    state: State, stage: ev.JobStage
) -> None:
    ended = ev.JobEnded(
        at=at(6), stage=stage, job_name=JobName(f"diabetes-a-{stage}"), outcome="cancelled", reason="job"
    )
    running = taken(fresh(), DELIVER, BUILD_SUBMITTED, *((BUILT, TRAIN_SUBMITTED) if stage == "train" else ()))
    for events in ((STOPPED[state], ended), (ended, STOPPED[state])):
        run = taken(running, *events)
        assert run.state is state
        assert run.reason == (
            "cancelled by ada: the wrong branch" if state is State.CANCELLED else STOPPED[state].reason
        )
