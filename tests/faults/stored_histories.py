"""
Deliveries of every kind, as a database that a release leaves behind: `python stored_histories.py` writes it for this
version to `stored/VERSION.sql`.

That file is written once, when the version is released, and never again: whoever upgrades has such a database.
"""

from __future__ import annotations

import sqlite3
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "faults"), str(TESTS.parent)]

from benches import many_projects  # noqa: E402 - after the path is set
from builders import APPROVED, MANIFEST, SMOKED, Bench, commit_id, push  # noqa: E402

from mlops_core.domain.errors import PermanentError  # noqa: E402
from mlops_core.domain.ids import DeploymentName, EffectKey, JobName, ModelName, ProjectName, RunId  # noqa: E402
from mlops_core.domain.requests import Decision  # noqa: E402
from mlops_core.services.intake import Retrain  # noqa: E402
from mlops_core.services.smoke import SmokeResult  # noqa: E402

STORED = Path(__file__).with_name("stored")
PATHS = MANIFEST + b"triggers: {paths: [src/*]}\n"


class Story:
    """The deliveries of one project, named after its number."""

    def __init__(self, bench: Bench, number: int) -> None:
        self.bench, self.name = bench, f"p{number}"

    def push(self, commit: int = 1, *, manifest: bytes = MANIFEST, branch: str = "main", **told: object) -> RunId:
        self.bench.source.files[(commit_id(commit), "mlops.yaml")] = manifest
        made = push(commit, branch=branch).model_copy(update={"repository": self.name, **told})
        (run_id,) = self.bench.app.intake.push(made)
        self.bench.drain()
        return run_id

    def end(self, run_id: RunId, stage: str, outcome: str = "succeeded") -> None:
        reason = "" if outcome == "succeeded" else "exit code 1"
        name = JobName(f"{run_id}-{stage}")
        self.bench.jobs.end(name, outcome, reason, "the last line")  # type: ignore[arg-type] - a literal of this module
        self.bench.app.intake.job_told(name, outcome)  # type: ignore[arg-type] - the same
        self.bench.drain()

    def train(self, run_id: RunId, rmse: float = 50.0) -> RunId:
        if self.bench.state(run_id) == "building":
            self.end(run_id, "build")
        version = self.bench.registry.register(self.name, f"{run_id}-train", rmse=rmse)
        self.bench.app.intake.model_registered(version.model, version.version)
        self.end(run_id, "train")
        self.bench.settle()
        return run_id

    def decide(self, run_id: RunId, wish: str) -> None:
        decision = Decision(wish=wish, by="ada", reason="a reason")  # type: ignore[arg-type] - a literal of this module
        self.bench.app.controller.decide(run_id, decision)
        self.bench.drain()
        self.bench.settle()

    def retrain(self, **wish: object) -> RunId:
        self.bench.source.branches["main"] = commit_id(1)
        made = Retrain(project=ProjectName(self.name), request_id="r1", by="ada", reason="new data", **wish)  # type: ignore[arg-type] - passed on
        run_id = self.bench.app.intake.retrain(made)
        self.bench.drain()
        return run_id


def _retired(story: Story) -> None:
    story.train(story.push(1))
    story.train(story.push(2), rmse=45)


def _rolled_back(story: Story) -> None:
    _retired(story)
    story.bench.app.intake.rollback(ModelName(story.name), request_id="r1", by="ada", reason="worse")
    story.bench.drain()
    story.bench.settle()


def _jobs_fail(story: Story) -> None:
    story.end(story.push(1), "build", "failed")
    second = story.push(2)
    story.end(second, "build")
    story.end(second, "train", "failed")
    story.train(story.retrain(resume_from=second))


def _nothing_registered(story: Story) -> None:
    run_id = story.push()
    story.end(run_id, "build")
    story.end(run_id, "train")


def _gates(story: Story) -> None:
    story.train(story.push(1), rmse=70)
    story.decide(story.train(story.push(2), rmse=61), "waive")


def _approvals(story: Story) -> None:
    story.decide(story.train(story.push(1, manifest=APPROVED)), "approve")
    story.decide(story.train(story.push(2, manifest=APPROVED), rmse=45), "reject")
    story.train(story.push(3, manifest=APPROVED), rmse=44)
    story.bench.clock.advance(8 * 86_400)
    story.bench.settle()


def _refused_and_skipped(story: Story) -> None:
    story.push(1, manifest=b"project: p0\ntrain: {pipelin: x}\n")
    story.push(2, manifest=PATHS, changed=("README.md",))
    story.end(story.push(3, branch="feature"), "build")


def _stopped(story: Story) -> None:
    run_id = story.push(1)
    story.end(run_id, "build")
    story.decide(run_id, "cancel")
    story.push(2)
    story.decide(story.push(3), "cancel")


def _smoke_fails(story: Story) -> None:
    story.bench.smoke.run = lambda *_: SmokeResult(passed=False, reason="answered 500", p95_ms=None)  # type: ignore[method-assign]
    story.train(story.push(1, manifest=SMOKED))
    story.bench.smoke.run = lambda *_: SmokeResult(passed=True, reason="1 answered", p95_ms=9.0)  # type: ignore[method-assign]
    story.train(story.push(2, manifest=SMOKED))


def _deployment_fails(story: Story) -> None:
    story.bench.deployer.broken.add(DeploymentName(f"{story.name}-v1"))
    story.train(story.push())


def _given_up_and_replayed(story: Story) -> None:
    submit = story.bench.jobs.submit

    def refuse(_: object) -> None:
        raise PermanentError("the runner takes no such job")

    story.bench.jobs.submit = refuse  # type: ignore[method-assign, assignment] - mended below
    first, second = story.push(1), story.push(2)
    story.bench.jobs.submit = submit  # type: ignore[method-assign] - as it was
    story.bench.app.controller.replay_effect(second, EffectKey("submit:build"), by="ada")
    story.bench.drain()
    story.train(second)
    assert story.bench.state(first) == "failed"


def _registered_outside(story: Story) -> None:
    story.train(story.push())
    story.bench.source.branches["main"] = commit_id(1)
    version = story.bench.registry.register(story.name, rmse=40)
    story.bench.app.intake.model_registered(version.model, version.version)
    story.bench.drain()
    story.bench.settle()


def _builds(story: Story) -> None:
    story.push()


def _trains(story: Story) -> None:
    story.end(story.push(), "build")


def _waits_for_a_person(story: Story) -> None:
    story.train(story.push(manifest=APPROVED))


def _deploys(story: Story) -> None:
    story.bench.deployer.ready_at_once = False
    story.train(story.push(manifest=SMOKED))
    story.bench.deployer.ready_at_once = True


def _retrains(story: Story) -> None:
    story.train(story.push())
    story.retrain(rebuild=False)


ENDED: tuple[Callable[[Story], None], ...] = (
    _retired, _rolled_back, _jobs_fail, _nothing_registered, _gates, _approvals, _refused_and_skipped, _stopped,
    _smoke_fails, _deployment_fails, _given_up_and_replayed, _registered_outside,
)  # fmt: skip
UNDER_WAY: tuple[Callable[[Story], None], ...] = (_builds, _trains, _waits_for_a_person, _deploys, _retrains)


def deliver_everything(folder: Path) -> Bench:
    """Tell every story, those that are left under way at the end, so that nothing goes on with them."""
    stories = (*ENDED, *UNDER_WAY)
    bench = many_projects(folder, len(stories))
    for number, tell in enumerate(stories):
        tell(Story(bench, number))
    return bench


def dump(folder: Path) -> str:
    """Write the database of all stories as SQL, its schema and the schema's version included."""
    bench = deliver_everything(folder)
    bench.database.close()
    with sqlite3.connect(folder / "headrace.db") as connection:
        lines = list(connection.iterdump())
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return "\n".join([*lines, f"PRAGMA user_version={version};", ""])


def version() -> str:
    """Read this version."""
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["project"]
    return str(project["version"])


if __name__ == "__main__":
    with TemporaryDirectory() as place:
        (STORED / f"{version()}.sql").write_text(dump(Path(place)))
