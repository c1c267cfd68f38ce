"""
The guards of the state machine: each looks at a run's facts and gives the reason why its row applies, or None.

A reason is a sentence for people: it is what they read beside the state.
"""

from __future__ import annotations

from mlops_core.domain import events as ev
from mlops_core.domain.gates import Outcome, Verdict
from mlops_core.domain.project import Stage
from mlops_core.domain.run import Run


def _policy(run: Run, decision: str) -> str | None:
    policy = run.facts.get(ev.PolicyDecided)
    return (policy.reason or decision) if policy and policy.decision == decision else None


def skipped(run: Run) -> str | None:
    """The policy found nothing in the push that counts."""
    return _policy(run, "skip")


def refused(run: Run) -> str | None:
    """The declaration at the commit is missing or wrong."""
    return _policy(run, "refuse")


def rolls_back(run: Run) -> str | None:
    """A person asked for the version before."""
    admitted = run.trigger.kind == "rollback" and _policy(run, "deliver") is not None
    return f"back to version {run.version}" if admitted else None


def registered_outside(run: Run) -> str | None:
    """The version is there already, from elsewhere."""
    admitted = run.trigger.kind == "registered" and _policy(run, "deliver") is not None
    return f"version {run.version} was registered outside of any run" if admitted else None


def needs_no_build(run: Run) -> str | None:
    """The retrain takes the build of before."""
    admitted = not run.trigger.rebuild and _policy(run, "deliver") is not None
    return "retrain without a new build" if admitted else None


def admitted(run: Run) -> str | None:
    """The policy lets the run be built."""
    return _policy(run, "deliver") or _policy(run, "build_only")


def job_reason(run: Run, stage: ev.JobStage, outcome: ev.JobOutcome) -> str | None:
    """The job of a stage ended this way."""
    ended = run.facts.get(ev.JobEnded, stage)
    if ended is None or ended.outcome != outcome:
        return None
    return ended.reason or f"job '{ended.job_name}' {outcome}"


def build_failed(run: Run) -> str | None:
    """The build job failed."""
    return job_reason(run, "build", "failed")


def build_cancelled(run: Run) -> str | None:
    """The build job was cancelled, by somebody else than us."""
    return None if _is_stopped(run) else job_reason(run, "build", "cancelled")


def built_only(run: Run) -> str | None:
    """The branch is built, and does not deliver."""
    done = job_reason(run, "build", "succeeded") is not None
    return _policy(run, "build_only") if done else None


def built(run: Run) -> str | None:
    """The build job succeeded."""
    return job_reason(run, "build", "succeeded")


def training_failed(run: Run) -> str | None:
    """The pipeline failed."""
    return job_reason(run, "train", "failed")


def training_cancelled(run: Run) -> str | None:
    """The pipeline was cancelled, by somebody else than us."""
    return None if _is_stopped(run) else job_reason(run, "train", "cancelled")


def nothing_registered(run: Run) -> str | None:
    """The pipeline is complete and left no version; one that is told of later, or registered by hand, still counts."""
    nothing = run.facts.get(ev.NothingRegistered)
    if nothing is None or run.facts.get(ev.ModelFound) is not None:
        return None
    announced = run.facts.get(ev.ModelAnnounced)
    return None if announced is not None and announced.model == run.model else nothing.reason


def trained_and_registered(run: Run) -> str | None:
    """The pipeline is complete and its version is known; either may be heard of first."""
    found = run.facts.get(ev.ModelFound)
    complete = job_reason(run, "train", "succeeded") is not None
    return f"{found.model} version {found.version} is registered" if complete and found else None


def _first_judgement(run: Run) -> ev.GatesJudged | None:
    judged = run.facts.all(ev.GatesJudged)
    return judged[0] if judged else None


def lock_of(run: Run) -> ev.ReleaseLockTaken | None:
    """Read that the run may release; what it held before its end does not count after a revival."""
    lock = run.facts.get(ev.ReleaseLockTaken)
    return lock if lock and lock.revival == run.revivals else None


def requested(run: Run) -> ev.DeploymentRequested | None:
    """Read that the deployment was asked for, since the last revival."""
    asked = run.facts.get(ev.DeploymentRequested)
    return asked if asked and asked.revival == run.revivals else None


def deployed(run: Run) -> ev.DeploymentReady | None:
    """Read that the deployment answers, since the last revival."""
    ready = run.facts.get(ev.DeploymentReady)
    return ready if ready and ready.revival == run.revivals else None


def judgement_under_lock(run: Run) -> ev.GatesJudged | None:
    """Read the verdicts against the champion that the release lock names."""
    lock = lock_of(run)
    return run.facts.get(ev.GatesJudged, lock.champion or "-") if lock else None


def _failed_gates(run: Run, judged: ev.GatesJudged | None) -> str | None:
    if judged is None or run.facts.get(ev.GatesWaived) is not None:
        return None
    failed = [verdict for verdict in judged.verdicts if verdict.outcome is Outcome.FAILED]
    return "; ".join(_say(verdict) for verdict in failed) or None


def _is_pending(judged: ev.GatesJudged) -> bool:
    return any(verdict.outcome is Outcome.PENDING for verdict in judged.verdicts)


def _say(verdict: Verdict) -> str:
    segment = f" ({verdict.segment})" if verdict.segment else ""
    return f"gate '{verdict.gate}'{segment} failed: {verdict.reason}"


def gates_fail(run: Run) -> str | None:
    """The first judgement failed."""
    return _failed_gates(run, _first_judgement(run))


def gates_pass_for_a_person(run: Run) -> str | None:
    """The gates passed, and a person has to say yes."""
    spec = run.spec
    wanted = spec is not None and spec.release.approval == "manual" and run.facts.get(ev.GatesWaived) is None
    judged = _first_judgement(run)
    decided = judged is not None and not _is_pending(judged)
    return "the gates passed; a person must approve" if wanted and decided else None


def gates_pass(run: Run) -> str | None:
    """The gates passed or were waived."""
    waived = run.facts.get(ev.GatesWaived)
    judged = _first_judgement(run)
    if judged is None:
        return None
    if waived is not None:
        return f"gates waived by {waived.by}: {waived.reason}"
    if _is_pending(judged):
        return None
    return f"{len(judged.verdicts)} of {len(judged.verdicts)} gates passed" if judged.verdicts else "no gates declared"


def rejected_by_person(run: Run) -> str | None:
    """A person said no."""
    rejected = run.facts.get(ev.ReleaseRejected)
    return f"rejected by {rejected.by}: {rejected.reason or 'no reason given'}" if rejected else None


def approved(run: Run) -> str | None:
    """A person said yes."""
    approved = run.facts.get(ev.ReleaseApproved)
    return f"approved by {approved.by}: {approved.reason or 'no reason given'}" if approved else None


def approval_expired(run: Run) -> str | None:
    """Nobody answered in time."""
    return "nobody approved in time" if run.facts.get(ev.ApprovalExpired) else None


def gates_fail_under_lock(run: Run) -> str | None:
    """The version is worse than a champion that came in between."""
    if run.trigger.kind == "rollback":
        return None
    return _failed_gates(run, judgement_under_lock(run))


def deployment_failed(run: Run) -> str | None:
    """The deployment cannot start."""
    failed = run.facts.get(ev.DeploymentFailed)
    if failed is None or failed.revival != run.revivals or deployed(run) is not None:
        return None
    return f"version {failed.version} does not start: {failed.reason}"


def smoke_failed(run: Run) -> str | None:
    """A stage did not pass its smoke test."""
    failed = [smoke for smoke in run.facts.all(ev.SmokeTested) if not smoke.passed]
    return f"stage '{failed[0].stage}': {failed[0].reason}" if failed else None


def stages_passed(run: Run) -> str | None:
    """The deployment answers and every stage passed, or the traffic was shifted already."""
    if run.facts.get(ev.TrafficShifted) is None and (
        deployed(run) is None or lock_of(run) is None or needs_judgement(run)
    ):
        return None
    return "the deployment answers" if next_smoke(run) is None else None


def shifted(run: Run) -> str | None:
    """The stable address leads to the version."""
    shifted = run.facts.get(ev.TrafficShifted)
    return f"version {shifted.version} has all traffic" if shifted else None


def retired(run: Run) -> str | None:
    """Another version took over."""
    retired = run.facts.get(ev.Retired)
    return retired.reason if retired else None


def _is_stopped(run: Run) -> bool:
    """Tell whether the run was stopped: the end of its job is what came of that, and not the reason."""
    return cancelled(run) is not None or superseded(run) is not None


def cancelled(run: Run) -> str | None:
    """A person stopped the run."""
    cancelled = run.facts.get(ev.RunCancelled)
    return f"cancelled by {cancelled.by}: {cancelled.reason or 'no reason given'}" if cancelled else None


def superseded(run: Run) -> str | None:
    """A newer push makes the run pointless."""
    superseded = run.facts.get(ev.Superseded)
    return superseded.reason if superseded else None


def needs_judgement(run: Run) -> bool:
    """A champion that came after the gates were judged must be held against the version too."""
    exempt = run.trigger.kind == "rollback" or run.facts.get(ev.GatesWaived) is not None
    return not exempt and judgement_under_lock(run) is None


def next_smoke(run: Run) -> Stage | None:
    """Find the first stage whose smoke test has not been heard of."""
    if run.spec is None:
        return None
    for stage in run.spec.release.stages:
        if stage.smoke is not None and run.facts.get(ev.SmokeTested, stage.name) is None:
            return stage
    return None
