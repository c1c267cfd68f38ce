"""Perform `DecidePolicy`: hold a trigger against `mlops.yaml` of its commit, and against newer pushes of its branch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from mlops_core.domain import events as ev
from mlops_core.domain.effects import DecidePolicy
from mlops_core.domain.errors import NotFoundError, TooLargeError
from mlops_core.domain.ids import ModelName, ProjectName, RunId, run_of_push
from mlops_core.domain.limits import MANIFEST_BYTES, cut
from mlops_core.domain.project import ProjectSpec
from mlops_core.domain.run import Run, State
from mlops_core.domain.values import Timestamp
from mlops_core.manifest import ManifestError, read_manifest
from mlops_core.ports import ProjectRecord
from mlops_core.services.succession import is_newer
from mlops_core.world import World

# A release under way is let finish: the release lock sees to it that the newer push goes over it.
_PAST_SUPERSEDING = (State.DEPLOYING, State.ROLLING_OUT, State.LIVE)


class Policy:
    """
    Decides what becomes of a trigger.

    Args:
        supersede: Takes a `Superseded` fact about another run.
    """

    def __init__(self, world: World, supersede: Callable[[RunId, ev.Superseded], object]) -> None:
        self._world = world
        self._supersede = supersede

    def perform(self, run: Run, _: DecidePolicy) -> list[ev.Event]:
        """Read `mlops.yaml` and decide. A file that is missing or wrong refuses the run with the reason."""
        record = self._world.projects.get(run.project)
        now = self._world.clock.now()
        try:
            spec = self._read(run, record)
        except (ManifestError, NotFoundError, TooLargeError) as error:
            return [ev.PolicyDecided(at=now, decision="refuse", reason=cut(str(error)))]
        if spec.project != record.name:
            reason = (
                f"{record.manifest} says 'project: {spec.project}', but this repository was added as project "
                f"'{record.name}'. A project keeps its name: change it back."
            )
            return [ev.PolicyDecided(at=now, decision="refuse", reason=reason)]
        decided = self._decide(run, spec)
        taken = model_taken(self._world.projects.all(), record.name, ModelName(spec.train.model))
        if decided.decision == "deliver" and taken is not None:
            return [ev.PolicyDecided(at=now, decision="refuse", reason=taken)]
        if record.model is None or decided.decision == "deliver":
            self._remember_model(record, spec)
        newer = self._newer_run(run, spec) if decided.decision != "skip" else None
        if newer is None:
            return [decided]
        return [decided, _superseded_by(newer, run, self._world.clock.now())]

    def _read(self, run: Run, record: ProjectRecord) -> ProjectSpec:
        if run.trigger.commit is None:
            raise NotFoundError("commit for run", run.id, advice=f"Push to '{record.default_branch}' first.")
        source = self._world.source_of(record)
        text = source.read_file(record, run.trigger.commit, record.manifest, limit_bytes=MANIFEST_BYTES)
        return read_manifest(text, record.manifest)

    def _remember_model(self, record: ProjectRecord, spec: ProjectSpec) -> None:
        model = ModelName(spec.train.model)
        if record.model != model:
            self._world.projects.put(replace(record, model=model))

    def _decide(self, run: Run, spec: ProjectSpec) -> ev.PolicyDecided:
        now, trigger = self._world.clock.now(), run.trigger
        if trigger.kind != "push":
            reason = {"retrain": "a retrain was requested", "registered": "the version was registered outside"}
            return ev.PolicyDecided(
                at=now, decision="deliver", reason=reason.get(trigger.kind, "a rollback was requested"), spec=spec
            )
        if trigger.changed is not None and not spec.triggers.touches(trigger.changed):
            globs = ", ".join(spec.triggers.paths)
            reason_text = f"none of the {len(trigger.changed)} changed files matches triggers.paths ({globs})"
            return ev.PolicyDecided(at=now, decision="skip", reason=reason_text, spec=spec)
        known = self._known_commit(run, spec)
        if known is not None:
            return ev.PolicyDecided(at=now, decision="skip", reason=known, spec=spec)
        if spec.triggers.delivers(trigger.branch):
            return ev.PolicyDecided(at=now, decision="deliver", reason=f"branch '{trigger.branch}' delivers", spec=spec)
        branches = ", ".join(spec.triggers.branches)
        reason_text = f"branch '{trigger.branch}' is built only (triggers.branches: {branches})"
        return ev.PolicyDecided(at=now, decision="build_only", reason=reason_text, spec=spec)

    def _known_commit(self, run: Run, spec: ProjectSpec) -> str | None:
        """Say why a commit that was pushed to another branch before needs nothing more, if so."""
        first_id = run_of_push(run.project, run.trigger.commit) if run.trigger.commit else run.id
        if run.id == first_id:
            return None
        first = self._world.runs.load(first_id).value.trigger.branch
        if spec.triggers.delivers(run.trigger.branch) and not spec.triggers.delivers(first):
            return None
        return f"run {first_id} took this commit when it was pushed to branch '{first}'"

    def _newer_run(self, run: Run, spec: ProjectSpec) -> RunId | None:
        """Supersede older runs of the branch; tell of a newer one, whose push overtook this one."""
        if run.trigger.kind != "push":
            return None
        newer: Run | None = None
        for other in self._world.runs.active_on_branch(run.project, run.trigger.branch):
            if other.id == run.id:
                continue
            if is_newer(self._world, other, run):
                # One whose policy is not decided may yet be skipped; if not, it supersedes this one then.
                decided = other.facts.get(ev.PolicyDecided) is not None
                newer = other if decided and (newer is None or is_newer(self._world, other, newer)) else newer
            elif is_newer(self._world, run, other) and other.state not in _PAST_SUPERSEDING:
                self._supersede(other.id, _superseded_by(run.id, other, self._world.clock.now()))
        return newer.id if newer else self._newer_champion(run, spec)

    def _newer_champion(self, run: Run, spec: ProjectSpec) -> RunId | None:
        champion = self._world.models.load(ModelName(spec.train.model)).value.champion
        if champion is None or champion.project != run.project or not spec.triggers.delivers(run.trigger.branch):
            return None
        return champion.run_id if is_newer(self._world, self._world.runs.load(champion.run_id).value, run) else None


def model_taken(projects: Sequence[ProjectRecord], name: ProjectName, model: ModelName) -> str | None:
    """Say why a project may not release a model, if another one does."""
    other = next((known for known in projects if known.name != name and known.model == model), None)
    if other is None:
        return None
    return (
        f"Project '{other.name}' releases the model '{model}' already, and two would replace each other's versions. Give "
        "this one another name: 'train.model' in mlops.yaml, and in its pipeline."
    )


def _superseded_by(newer: RunId, run: Run, at: Timestamp) -> ev.Superseded:
    return ev.Superseded(
        at=at, by_run=newer, reason=f"a newer push of branch '{run.trigger.branch}' took over: run {newer}"
    )
