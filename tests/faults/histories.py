"""What must hold in the end, whatever happened on the way."""

from __future__ import annotations

from collections.abc import Iterator

from builders import Bench

from mlops_core.domain.ids import ModelName, RunId, deployment_of_version
from mlops_core.domain.machine import advance, settle
from mlops_core.domain.run import Facts, Run, State
from mlops_core.services.succession import is_newer
from mlops_core.world import World


def all_runs(world: World) -> list[Run]:
    """Read every run, page by page."""
    runs, cursor = [], None
    while True:
        page = world.runs.of_project(None, cursor=cursor)
        runs += page.items
        cursor = page.cursor
        if cursor is None:
            return runs


def replayed(world: World, run: Run) -> tuple[Run, int]:
    """Take a run's stored history again from the beginning. Returns the run and how many events it took."""
    again = settle(
        run.model_copy(
            update={"facts": Facts(), "entries": (), "pending": (), "updated_at": run.created_at, "reason": ""}
        )
    )
    after, count = 0, 0
    while True:
        page = world.runs.history(run.id, after=after)
        for entry in page.items:
            again = advance(again, entry.event)
            count += 1
        if page.cursor is None:
            return again, count
        after = int(page.cursor)


def unexplained(world: World) -> Iterator[str]:
    """Find runs whose snapshot is not what their history leads to: a write was lost, or made over a newer one."""
    for listed in all_runs(world):
        stored = world.runs.load(listed.id)
        again, count = replayed(world, stored.value)
        if stored.version != count + 1:
            yield f"run '{listed.id}' has version {stored.version} after {count} events"
        elif again != stored.value:
            yield f"run '{listed.id}' is '{stored.value.state}', its history leads to '{again.state}' or other facts"


def unsettled(bench: Bench, model: str = "diabetes") -> Iterator[str]:
    """Find what is left over when everything has had its time: locks, waiting runs, deployments, jobs."""
    world = bench.app.world
    record = world.models.load(ModelName(model)).value
    if record.lock is not None or record.waiting:
        yield f"lock {record.lock} and waiting {record.waiting} are left over"
    runs = {run.id: run for run in all_runs(world)}
    live = {run.id for run in runs.values() if run.state is State.LIVE}
    serving = {record.champion.run_id} if record.champion else set()
    if live != serving:
        yield f"live runs are {sorted(live)}, the champion is of {sorted(serving)}"
    wanted = {deployment_of_version(record.name, record.champion.version)} if record.champion else set()
    found = {status.name for status in bench.deployer.list()}
    if found != wanted:
        yield f"deployments are {sorted(found)}, the champion needs {sorted(wanted)}"
    for name, status in bench.jobs.statuses.items():
        run = runs[RunId(name.rpartition("-")[0])]
        if status.outcome is None and run.ended:
            yield f"job '{name}' runs on although run '{run.id}' is '{run.state}'"
    for run in runs.values():
        if run.pending and (run.ended or run.state is State.LIVE):
            yield f"run '{run.id}' is '{run.state}' and still has pending {[each.effect.key for each in run.pending]}"


def ledger_conflicts(world: World, model: str = "diabetes") -> Iterator[str]:
    """Find where the ledger and the record of a model tell different stories, or an older push went over a newer."""
    name = ModelName(model)
    entries, cursor = [], None
    while True:
        page = world.models.ledger(name, cursor=cursor)
        entries += page.items
        cursor = page.cursor
        if cursor is None:
            break
    shares: dict[str, float] = {}
    newest: Run | None = None
    for entry in reversed(entries):
        shares[entry.run_id] = entry.traffic_weight
        if entry.traffic_weight == 0.0:
            continue
        run = world.runs.load(entry.run_id).value
        if newest is not None and is_newer(world, newest, run):
            yield f"run '{entry.run_id}' of an older push took the traffic from a newer one"
        newest = run
    serving = [run_id for run_id, share in shares.items() if share > 0]
    champion = world.models.load(name).value.champion
    if serving != ([champion.run_id] if champion else []):
        yield f"the ledger says that {serving} serve, the record {champion}"
