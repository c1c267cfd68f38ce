"""Perform the effects of building, training and judging: submit, cancel, find the model, judge it."""

from __future__ import annotations

from mlops_core.domain import events as ev
from mlops_core.domain.effects import CancelJob, FindModel, JudgeGates, SubmitJob
from mlops_core.domain.errors import PermanentError
from mlops_core.domain.gates import Evidence, Verdict, judge
from mlops_core.domain.ids import JobName, ModelName, ModelVersion, job_of_run
from mlops_core.domain.limits import VERDICT_LETTERS, VERDICTS, cut
from mlops_core.domain.project import ProjectSpec
from mlops_core.domain.run import Run
from mlops_core.ports import JobRequest, RegisteredVersion
from mlops_core.world import World

# Names that are looked at for what a pipeline registered by mistake.
_MOST_LOOKED_AT = 30


class Training:
    """From a commit to a judged model version."""

    def __init__(self, world: World) -> None:
        self._world = world

    def submit(self, run: Run, effect: SubmitJob) -> list[ev.Event]:
        """Give the job to the runner under its name; a second submit finds the first."""
        if run.trigger.commit is None:
            raise PermanentError(f"Run '{run.id}' has no commit to {effect.stage}. Push first.")
        earlier = run.trigger.resume_from
        done = self._world.jobs.submit(
            JobRequest(
                name=effect.job_name,
                stage=effect.stage,
                run_id=run.id,
                project=self._world.projects.get(run.project),
                commit=run.trigger.commit,
                spec=spec_of(run),
                resume_from=job_of_run(earlier, effect.stage) if earlier and effect.stage == "train" else None,
                reuse=run.trigger.reuse,
            )
        )
        now = self._world.clock.now()
        submitted = ev.JobSubmitted(at=now, stage=effect.stage, job_name=effect.job_name)
        if done is None or done.outcome is None:
            return [submitted]
        ended = ev.JobEnded(
            at=now, stage=effect.stage, job_name=effect.job_name, outcome=done.outcome, reason=done.reason
        )
        return [submitted, ended]

    def cancel(self, _: Run, effect: CancelJob) -> list[ev.Event]:
        """Stop a job that nobody waits for."""
        if effect.heard or self._world.jobs.status(effect.job_name) is not None:
            self._world.jobs.cancel(effect.job_name)
        return [ev.EffectDone(at=self._world.clock.now(), key=effect.key, revival=effect.revival)]

    def find_model(self, run: Run, effect: FindModel) -> list[ev.Event]:
        """Ask the registry for what the pipeline registered; the newest version is the one to release."""
        model = model_of(run)
        now = self._world.clock.now()
        found = list(self._world.registry.versions_of_job(model, effect.job_name))
        if not found and run.trigger.resume_from is not None:
            # The step that registers may be among those that were taken over.
            found = list(self._world.registry.versions_of_job(model, job_of_run(run.trigger.resume_from, "train")))
        announced = run.facts.get(ev.ModelAnnounced)
        if announced and announced.model == model and announced.version not in {known.version for known in found}:
            found.append(self._world.registry.version(model, announced.version))
        if not found:
            reason = (
                f"the pipeline is complete, but it registered no version of model '{model}'{self._others(effect.job_name)}. "
                f"Register one in a step (mlflow.register_model, or a pipeline output with 'name: {model}'), or change "
                "train.model."
            )
            return [ev.NothingRegistered(at=now, reason=reason)]
        newest = max(found, key=_age)
        return [ev.ModelFound(at=now, model=model, version=newest.version)]

    def _others(self, job_name: JobName) -> str:
        """Say what a job registered under other names, as after a slip of the pen."""
        names = list(self._world.registry.models())[:_MOST_LOOKED_AT]
        others = [name for name in names if self._world.registry.versions_of_job(name, job_name)]
        return f", only of {', '.join(repr(str(name)) for name in others)}" if others else ""

    def judge(self, run: Run, effect: JudgeGates) -> list[ev.Event]:
        """Judge the version by the registry's metrics, never by what the pipeline says of itself."""
        spec, model = spec_of(run), model_of(run)
        record = self._world.models.load(model).value
        current = record.champion.version if record.champion else None
        champion = current if effect.current else effect.against
        if champion == effect.version:
            champion = None
        verdicts = judge(spec.release.gates, self._evidence(model, effect.version), self._champion(model, champion))
        if len(verdicts) > VERDICTS:
            raise PermanentError(
                f"The gates of run '{run.id}' give {len(verdicts)} verdicts; at most {VERDICTS} are kept. Judge by "
                "something with fewer segments (release.gates.by)."
            )
        judged = ev.GatesJudged(
            at=self._world.clock.now(),
            version=effect.version,
            champion=effect.against if not effect.current else current,
            verdicts=tuple(_shortened(verdict) for verdict in verdicts),
        )
        return [judged]

    def _champion(self, model: ModelName, version: str | None) -> Evidence | None:
        return self._evidence(model, version) if version else None

    def _evidence(self, model: ModelName, version: str) -> Evidence:
        return self._world.registry.version(model, ModelVersion(version)).evidence


def _shortened(verdict: Verdict) -> Verdict:
    return verdict.model_copy(
        update={
            "gate": cut(verdict.gate, VERDICT_LETTERS),
            "metric": cut(verdict.metric, VERDICT_LETTERS),
            "segment": cut(verdict.segment, VERDICT_LETTERS) if verdict.segment else verdict.segment,
            "reason": cut(verdict.reason, VERDICT_LETTERS),
        }
    )


def spec_of(run: Run) -> ProjectSpec:
    """Read what the project declares. Raises PermanentError where the policy was never decided."""
    if run.spec is None:
        raise PermanentError(f"Run '{run.id}' has no declaration: its mlops.yaml was not read.")
    return run.spec


def model_of(run: Run) -> ModelName:
    """Read the name of the model that a run produces."""
    return ModelName(spec_of(run).train.model)


def _age(version: RegisteredVersion) -> tuple[int, str]:
    return (int(version.version), "") if version.version.isdecimal() else (-1, version.version)
