"""Whatever facts come, in whatever order and however often, a run ends the same. Here they contradict each other freely."""

from __future__ import annotations

from datetime import timedelta
from random import Random

from builders import APPROVED, SMOKED
from fakes import START
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_core.domain import events as ev
from mlops_core.domain.gates import Outcome, Verdict
from mlops_core.domain.ids import EffectKey, JobName, ModelName, ModelVersion, ProjectName, RunId
from mlops_core.domain.machine import advance, settle
from mlops_core.domain.run import ENDS, Run, State, Trigger, is_progress
from mlops_core.manifest import read_manifest

MODEL = ModelName("diabetes")
SPECS = [read_manifest(SMOKED), read_manifest(APPROVED)]
KEYS = [EffectKey(key) for key in ("submit:build", "find-model", "lock", "shift:1", "unlock", "undeploy:1", "policy")]
ats = st.integers(0, 20).map(lambda second: START + timedelta(seconds=second))
versions = st.sampled_from([ModelVersion("1"), ModelVersion("2")])
champions = st.sampled_from([None, ModelVersion("1"), ModelVersion("7")])
stages = st.sampled_from(["build", "train"])
revivals = st.integers(0, 2)
people = st.sampled_from(["ada", "bob"])
texts = st.sampled_from(["so", "because"])


def verdict(outcome: Outcome) -> Verdict:
    return Verdict(gate="rmse max 60", metric="rmse", outcome=outcome, measured=50.0, limit=60.0, reason="said so")


def job_ended(stage: ev.JobStage, outcome: ev.JobOutcome, at: object) -> ev.JobEnded:
    return ev.JobEnded(at=at, stage=stage, job_name=JobName(f"diabetes-a-{stage}"), outcome=outcome)  # type: ignore[arg-type]


judged = st.lists(st.sampled_from(list(Outcome)).map(verdict), max_size=2).map(tuple)
EVENTS = st.one_of(
    st.builds(ev.PolicyDecided, at=ats, decision=st.just("deliver"), reason=texts, spec=st.sampled_from(SPECS)),
    st.builds(ev.PolicyDecided, at=ats, decision=st.sampled_from(["skip", "refuse", "build_only"]), reason=texts),
    st.builds(
        lambda at, stage: ev.JobSubmitted(at=at, stage=stage, job_name=JobName(f"diabetes-a-{stage}")), ats, stages
    ),
    st.builds(job_ended, stages, st.sampled_from(["succeeded", "succeeded", "failed", "cancelled"]), ats),
    st.builds(ev.ModelAnnounced, at=ats, model=st.just(MODEL), version=versions),
    st.builds(ev.ModelFound, at=ats, model=st.just(MODEL), version=versions),
    st.builds(ev.NothingRegistered, at=ats, reason=texts),
    st.builds(ev.GatesJudged, at=ats, version=versions, champion=champions, verdicts=judged),
    st.builds(ev.GatesWaived, at=ats, by=people, reason=texts),
    st.builds(ev.ReleaseApproved, at=ats, by=people, reason=texts),
    st.builds(ev.ReleaseRejected, at=ats, by=people, reason=texts),
    st.builds(ev.ApprovalExpired, at=ats),
    st.builds(ev.ReleaseLockTaken, at=ats, champion=champions, revival=revivals),
    st.builds(ev.DeploymentRequested, at=ats, version=versions, revival=revivals),
    st.builds(ev.DeploymentReady, at=ats, version=versions, revival=revivals),
    st.builds(ev.DeploymentFailed, at=ats, version=versions, reason=texts, revival=revivals),
    st.builds(ev.SmokeTested, at=ats, stage=st.just("staging"), passed=st.booleans(), reason=texts),
    st.builds(ev.TrafficShifted, at=ats, version=versions, previous=champions),
    st.builds(ev.Retired, at=ats, by_run=st.just(RunId("diabetes-b")), reason=texts),
    st.builds(ev.Superseded, at=ats, by_run=st.just(RunId("diabetes-b")), reason=texts),
    st.builds(ev.RunCancelled, at=ats, by=people, reason=texts),
    st.builds(ev.EffectDone, at=ats, key=st.sampled_from(KEYS), revival=revivals),
    st.builds(ev.EffectFailed, at=ats, key=st.sampled_from(KEYS), reason=texts, attempt=revivals),
    st.builds(ev.EffectReplayed, at=ats, key=st.sampled_from(KEYS), attempt=st.integers(1, 2), by=people),
)
KINDS = st.sampled_from(["push", "retrain", "rollback", "registered"])


def fresh(kind: str) -> Run:
    version = ModelVersion("1") if kind in ("rollback", "registered") else None
    trigger = Trigger(kind=kind, ordinal=START, branch="main", version=version)  # type: ignore[arg-type] - a literal above
    run_id = RunId("diabetes-a")
    return settle(Run(id=run_id, project=ProjectName("diabetes"), trigger=trigger, created_at=START, updated_at=START))


def taken(run: Run, events: list[ev.Event]) -> Run:
    for event in events:
        run = advance(run, event)
    return run


def essential(run: Run) -> tuple[object, ...]:
    """What must be the same. What is told and tidied up also depends on the states that were passed through."""
    keys = {pending.effect.key for pending in run.pending if is_progress(pending.effect.key)}
    return run.facts, run.state, run.reason, keys


@settings(max_examples=400, deadline=None)
@given(kind=KINDS, events=st.lists(EVENTS, max_size=25), seed=st.integers(0, 2**32), copies=st.integers(1, 2))
def test_any_facts_in_any_order_end_alike(kind: str, events: list[ev.Event], seed: int, copies: int) -> None:
    shuffled = events * copies
    Random(seed).shuffle(shuffled)

    assert essential(taken(fresh(kind), shuffled)) == essential(taken(fresh(kind), events))


@settings(max_examples=300, deadline=None)
@given(kind=KINDS, events=st.lists(EVENTS, max_size=25))
def test_a_run_at_an_end_wants_only_to_tidy_up_and_to_tell(kind: str, events: list[ev.Event]) -> None:
    run = taken(fresh(kind), events)
    wanted = {pending.effect.kind for pending in run.pending}
    tidying = {"announce", "cancel_job", "return_release_lock", "delete_deployment"}

    assert run.reason != "" or run.state is State.RECEIVED
    if run.state in ENDS:
        assert wanted <= tidying
    if run.state is State.LIVE:
        assert wanted <= {"announce", "return_release_lock"}


@settings(max_examples=200, deadline=None)
@given(kind=KINDS, events=st.lists(EVENTS, max_size=25))
def test_a_run_of_any_facts_is_read_back_as_it_was_written(kind: str, events: list[ev.Event]) -> None:
    run = taken(fresh(kind), events)

    assert Run.model_validate_json(run.model_dump_json()) == run
