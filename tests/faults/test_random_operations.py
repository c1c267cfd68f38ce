"""
Test 17: random operations, crashes among them, against a checker of what must always hold.

Controllers are many: one reads and acts much later, others come in between two calls of another. All of it in one thread,
so that a seed makes it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from benches import quick_bench
from builders import APPROVED, SMOKED, push
from failpoints import Crash, Gate, Point, gated, raise_crash
from histories import ledger_conflicts, unexplained, unsettled

from mlops_core.application import Application, assemble
from mlops_core.controller import MAX_TRIES
from mlops_core.domain import events as ev
from mlops_core.domain.effects import Effect
from mlops_core.domain.errors import PermanentError, TemporaryError
from mlops_core.domain.ids import DeploymentName, EffectKey, JobName, ModelName, RunId, deployment_of_version
from mlops_core.domain.model import Model
from mlops_core.domain.requests import Decision
from mlops_core.domain.run import Run, State
from mlops_core.ports import DeploymentRequest, DeploymentStatus, JobRequest
from mlops_core.services.intake import Retrain

MODEL = ModelName("diabetes")
STEPS_PER_EPISODE = 400


class Episode:
    """One bench under random operations; its seed makes it again."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = Random(seed)
        self.gate = Gate()
        self.bench = quick_bench(folder, manifest=self.random.choice([SMOKED, APPROVED]), seed=seed)
        self.app: Application = self.bench.app
        self.wrong: list[str] = []
        self.pushes: list[ev.GitPush] = []
        self.done: list[str] = []
        # Controllers that have read a run and what is to be done, and have not done it yet.
        self.slow: list[tuple[Run, Effect]] = []
        self.is_slow = False
        self.under_way: RunId | None = None
        # Deployments that the test took away or broke; whatever else is missing, the controller deleted.
        self.taken_away: set[DeploymentName] = set()
        self._watch_submits()
        self._watch_creations()
        self.restart()

    def restart(self) -> None:
        """Start the process anew: nothing in memory is left, the queue kept its messages or lost them."""
        if self.random.random() < 0.5:
            self.bench.queue.messages.clear()
        self.gate.at = None
        self.slow.clear()
        world = self.bench.app.world if not hasattr(self, "raw") else self.raw
        self.raw = world
        self.app = assemble(gated(world, self.gate), verifiers={}, smoke=self.bench.smoke)

    def _watch_submits(self) -> None:
        submit = self.bench.jobs.submit

        def watched(request: JobRequest) -> None:
            run = self.bench.run(request.run_id)
            if run.ended and not self.is_slow:
                self.wrong.append(f"job '{request.name}' was submitted for run that is '{run.state}'")
            submit(request)

        self.bench.jobs.submit = watched  # type: ignore[method-assign] - this bench only

    def _watch_creations(self) -> None:
        create = self.bench.deployer.create

        def watched(request: DeploymentRequest) -> None:
            create(request)
            self.taken_away.discard(request.name)

        self.bench.deployer.create = watched  # type: ignore[method-assign] - this bench only

    def others_come_in_between(self) -> None:
        """Other controllers do some things at this very point of what is under way."""
        self.gate.at, self.is_slow = None, True
        with suppress(PermanentError, TemporaryError):
            if self.under_way is not None and self.random.random() < 0.3:
                cancel = Decision(wish="cancel", by="ada", reason="so")
                self.app.controller.decide(self.under_way, cancel)
        for _ in range(self.random.randint(1, 6)):
            with suppress(PermanentError, TemporaryError):
                self.random.choices(list(OPERATIONS), weights=list(OPERATIONS.values()))[0](self)

    def step(self) -> None:
        """Do one random thing, and check what must always hold."""
        operation = self.random.choices(list(OPERATIONS), weights=list(OPERATIONS.values()))[0]
        self.done.append(operation.__name__)
        self.bench.clock.advance(self.random.choice([0, 0, 1, 5]))
        if (chance := self.random.random()) < 0.3:
            call = len(self.gate.calls) + self.random.randint(1, 12)
            self.gate.at = Point(call, self.random.choice(["before", "after"]))
            self.gate.crash = raise_crash if chance < 0.1 else self.others_come_in_between
        try:
            operation(self)
        except Crash:
            self.done.append("crash")
            self.restart()
        except (PermanentError, TemporaryError):
            pass  # people are refused, hosts deliver again
        self.gate.at, self.is_slow, self.under_way = None, False, None
        self.wrong += always_wrong(self)

    def quiesce(self) -> None:
        """Let everything have its time, and nothing new happen."""
        self.bench.app = assemble(self.raw, verifiers={}, smoke=self.bench.smoke)
        while self.slow:
            with suppress(PermanentError, TemporaryError):
                finish_slowly(self)
        for _ in range(40):
            self.bench.settle(rounds=2)
            running = [name for name, status in self.bench.jobs.statuses.items() if status.outcome is None]
            for name in running:
                self.bench.jobs.end(name, "failed", "the end of the test")
            waits = [run_id for run_id in self.bench.app.world.runs.active().items if self._awaits_approval(run_id)]
            if waits:
                self.bench.clock.advance(8 * 86_400)
            if not running and not waits and not self.bench.queue.messages:
                break
        self.bench.settle()
        world = self.bench.app.world
        self.wrong += [*unexplained(world), *unsettled(self.bench), *ledger_conflicts(world)]
        stuck = [run_id for run_id in world.runs.active().items if self.bench.state(run_id) != "live"]
        self.wrong += [f"run '{run_id}' is stuck: {self.bench.run(run_id)!r:.600}" for run_id in stuck]

    def _awaits_approval(self, run_id: RunId) -> bool:
        return self.bench.run(run_id).state is State.AWAITING_APPROVAL

    def some_run(self) -> RunId | None:
        ids = list(self.raw.runs.active().items)
        if self.random.random() < 0.3:
            ids = [run.id for run in self.raw.runs.of_project(None, limit=5).items]
        return self.random.choice(ids) if ids else None


def always_wrong(episode: Episode) -> Iterator[str]:
    """What must hold after every single operation."""
    record: Model = episode.raw.models.load(MODEL).value
    if record.lock is not None:
        holder = episode.bench.run(record.lock.run_id)
        if holder.ended and not holder.pending:
            yield f"the lock is held by '{holder.id}', which is '{holder.state}' with nothing left to do"
    if record.champion is not None:
        run = episode.bench.run(record.champion.run_id)
        if run.ended and not run.pending:
            yield f"the champion's run '{run.id}' is '{run.state}'"
        name = deployment_of_version(MODEL, record.champion.version)
        if name not in episode.bench.deployer.states and name not in episode.taken_away:
            yield f"the traffic goes to '{name}', which was deleted"
    for name, count in episode.bench.jobs.launches.items():
        if count != 1:
            yield f"job '{name}' was launched {count} times"


def new_push(episode: Episode) -> None:
    number = len(episode.pushes) + 1
    late = timedelta(seconds=episode.random.choice([0, 0, 0, -3, -30]))
    branch = episode.random.choice(["main", "main", "main", "feature"])
    made = push(number, branch=branch, at=episode.bench.clock.now() + late)
    episode.pushes.append(made)
    episode.app.intake.push(made)


def push_again(episode: Episode) -> None:
    if episode.pushes:
        episode.app.intake.push(episode.random.choice(episode.pushes))


def deliver_message(episode: Episode) -> None:
    """The queue hands out a message; one that fails comes back up to five times."""
    messages = episode.bench.queue.messages
    if not messages:
        return
    message = messages.pop(episode.random.randrange(len(messages)))
    data = json.loads(message)
    episode.under_way = RunId(data["run_id"])
    for tries in range(1, MAX_TRIES + 1):
        try:
            episode.app.controller.perform(RunId(data["run_id"]), EffectKey(data["key"]), tries=tries)
        except TemporaryError:
            continue
        return


def begin_slowly(episode: Episode) -> None:
    """A controller reads a run and one of its effects, and is not heard of for a while."""
    run_id = episode.some_run()
    if run_id is None:
        return
    run = episode.app.world.runs.load(run_id).value
    if run.pending:
        episode.slow.append((run, episode.random.choice(run.pending).effect))


def finish_slowly(episode: Episode) -> None:
    """It goes on with what it had read, whatever has happened since."""
    if not episode.slow:
        return
    run, effect = episode.slow.pop(episode.random.randrange(len(episode.slow)))
    controller, episode.is_slow = episode.app.controller, True
    try:
        for fact in controller._performers[effect.kind](run, effect):
            controller.take(run.id, fact)
    except PermanentError as error:
        controller.give_up(run.id, effect.key, str(error))


def lose_message(episode: Episode) -> None:
    messages = episode.bench.queue.messages
    if messages:
        messages.pop(episode.random.randrange(len(messages)))


def double_message(episode: Episode) -> None:
    messages = episode.bench.queue.messages
    if messages:
        messages.append(episode.random.choice(messages))


def end_a_job(episode: Episode) -> None:
    """A job ends; mostly the event of it comes, sometimes before its model is announced, sometimes never."""
    running = [name for name, status in episode.bench.jobs.statuses.items() if status.outcome is None]
    if not running:
        return
    name = episode.random.choice(running)
    outcome = "succeeded" if episode.random.random() < 0.9 else "failed"
    version = None
    if name.endswith("-train") and episode.random.random() < 0.95:
        version = episode.bench.registry.register("diabetes", name, rmse=episode.random.uniform(40, 62))
    episode.bench.jobs.end(name, outcome)
    if version is not None and episode.random.random() < 0.5:
        episode.app.intake.model_registered(MODEL, version.version)
    if episode.random.random() < 0.6:
        episode.app.intake.job_told(JobName(name), outcome)


def tell_of_a_job_again(episode: Episode) -> None:
    if episode.bench.jobs.statuses:
        episode.app.intake.job_told(episode.random.choice(list(episode.bench.jobs.statuses)), None)


def reconcile(episode: Episode) -> None:
    episode.bench.clock.advance(61)
    episode.app.reconciler.runs()


def decide(episode: Episode) -> None:
    run_id = episode.some_run()
    if run_id is not None:
        wish = episode.random.choice(["cancel", "approve", "approve", "reject", "waive"])
        episode.app.controller.decide(run_id, Decision(wish=wish, by="ada", reason="so"))


def rollback(episode: Episode) -> None:
    episode.app.intake.rollback(MODEL, request_id=str(len(episode.done)), by="ada")


def retrain(episode: Episode) -> None:
    if episode.pushes:
        wish = Retrain(
            project=episode.raw.projects.all()[0].name,
            request_id=str(len(episode.done)),
            by="ada",
            rebuild=episode.random.random() < 0.5,
            commit=episode.pushes[-1].commit,
        )
        episode.app.intake.retrain(wish)


def register_outside(episode: Episode) -> None:
    if episode.pushes:
        episode.bench.source.branches["main"] = episode.pushes[-1].commit
        version = episode.bench.registry.register("diabetes", rmse=episode.random.uniform(40, 62))
        episode.app.intake.model_registered(MODEL, version.version)


def lose_a_deployment(episode: Episode) -> None:
    states = episode.bench.deployer.states
    if states:
        name = episode.random.choice(list(states))
        episode.taken_away.add(name)
        del states[name]


def break_a_deployment(episode: Episode) -> None:
    states = episode.bench.deployer.states
    if states:
        name = episode.random.choice(list(states))
        episode.taken_away.add(name)
        states[name] = DeploymentStatus(name, "failed", reason="killed")


def replay_a_letter(episode: Episode) -> None:
    letters = episode.raw.dead_letters.list().items
    if letters:
        letter = episode.random.choice(letters)
        if letter.run_id is not None and letter.key is not None:
            episode.app.controller.replay_effect(letter.run_id, letter.key, by="ada")
        episode.raw.dead_letters.remove(letter.letter_id)


OPERATIONS: dict[Callable[[Episode], None], int] = {
    new_push: 6, push_again: 2, deliver_message: 60, lose_message: 2, double_message: 3, begin_slowly: 4,
    finish_slowly: 4, end_a_job: 10, tell_of_a_job_again: 2, reconcile: 6, decide: 3, rollback: 1, retrain: 1,
    register_outside: 1, lose_a_deployment: 1, break_a_deployment: 1, replay_a_letter: 1,
}  # fmt: skip


def play(folder: Path, seed: int) -> list[str]:
    """Play one episode. Returns what was wrong, with the seed that makes it again."""
    episode = Episode(folder / str(seed), seed)
    for number in range(STEPS_PER_EPISODE):
        episode.step()
        if episode.wrong:
            return [f"seed {seed}, step {number} ({episode.done[-3:]}): {problem}" for problem in episode.wrong]
    episode.quiesce()
    episode.bench.database.close()
    return [f"seed {seed}, at the end: {problem}" for problem in episode.wrong]


@pytest.mark.parametrize("seed", range(5))
def test_two_thousand_random_operations_break_nothing(tmp_path: Path, seed: int) -> None:
    assert play(tmp_path, seed) == []


@pytest.mark.full
@pytest.mark.parametrize("block", range(10))
def test_two_hundred_thousand_random_operations_break_nothing(tmp_path: Path, block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        assert play(tmp_path, 1_000 + seed) == []


def test_runs_that_end_without_tidying_up_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: locks, deployments and jobs stay behind."""
    monkeypatch.setattr("mlops_core.domain.wanted._wanted_at_end", lambda _: [])

    assert play(tmp_path, 1) != []
