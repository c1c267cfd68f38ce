"""The fault tests once more, on Table storage: Azurite is right about races and etags, though not about durability."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import builders
import pytest
from azurite import Azurite, fresh_tables, on_tables
from benches import quick_bench
from builders import commit_id
from controllers import controllers
from durable import add_projects, launches, open_world, use_tables
from histories import all_runs, unexplained
from repeats import Cutting
from test_cut_replies import deliveries
from test_event_order import disordered
from test_poison import one_of_many
from test_quick_pushes import WITHOUT_GATES, push_all
from test_row_limits import many_events
from test_stopped_controller import stop_again_and_again

from mlops_core.adapters.azure.model_store import TableModelStore
from mlops_core.adapters.azure.rows import Operation
from mlops_core.adapters.azure.tables import Tables
from mlops_core.domain.errors import StaleRunError
from mlops_core.domain.ids import ModelName, RunId
from mlops_core.domain.model import Model

pytestmark = pytest.mark.slow


@pytest.fixture
def _tables(storage: Azurite) -> Iterator[None]:
    """Every bench of the test gets tables of its own."""
    builders.STORES.append(lambda world: on_tables(world, fresh_tables(storage)))
    yield
    builders.STORES.clear()


@pytest.mark.usefixtures("_tables")
def test_events_tripled_and_shuffled_end_as_in_order(tmp_path: Path) -> None:
    expected, found = disordered(tmp_path, seed=1, at_least=40)
    assert found == expected


@pytest.mark.full
@pytest.mark.usefixtures("_tables")
@pytest.mark.parametrize("seed", range(20))
def test_a_thousand_events_tripled_and_shuffled_end_as_in_order(tmp_path: Path, seed: int) -> None:
    expected, found = disordered(tmp_path, seed=seed, at_least=1_000)
    assert found == expected


def race(folder: Path, storage: Azurite, *, processes: int, runs: int, design: str = "intent first") -> list[str]:
    use_tables(folder, storage.connection_string, f"r{uuid.uuid4().hex[:20]}")
    world = open_world(folder)
    add_projects(world, runs)
    with controllers() as started:
        codes = started.run(folder=str(folder), projects=runs, seed=1, processes=processes, design=design)
    counts = Counter(launches(folder))
    wrong = [] if set(codes) == {0} else [f"the controllers ended with {codes}"]
    wrong += [f"job '{name}' was launched {count} times" for name, count in counts.items() if count != 1]
    wrong += [] if len(counts) == 2 * runs else [f"{len(counts)} jobs were launched, not {2 * runs}"]
    wrong += [f"run '{run.id}' is '{run.state}': {run.reason}" for run in all_runs(world) if run.state != "live"]
    return [*wrong, *unexplained(world)]


def test_three_controllers_over_three_runs_do_everything_once(tmp_path: Path, storage: Azurite) -> None:
    assert race(tmp_path, storage, processes=3, runs=3) == []


@pytest.mark.full
def test_eight_controllers_over_a_hundred_runs_do_everything_once(tmp_path: Path, storage: Azurite) -> None:
    assert race(tmp_path, storage, processes=8, runs=100) == []


def test_it_is_the_etag_that_refuses_a_stale_write(storage: Azurite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the same write without its condition goes through, over what somebody else wrote."""
    tables, name = fresh_tables(storage), ModelName("diabetes")
    first, second = TableModelStore(tables), TableModelStore(tables)
    first.commit(Model(name=name), read_version=0)
    read = [store.load(name).version for store in (first, second)]
    first.commit(Model(name=name, waiting=(RunId("a"),)), read_version=read[0])
    with pytest.raises(StaleRunError):
        second.commit(Model(name=name), read_version=read[1])
    real = Tables.write

    def without_conditions(self: Tables, table: str, operations: list[Operation]) -> object:
        return real(self, table, [operation[:2] for operation in operations])

    monkeypatch.setattr(Tables, "write", without_conditions)
    second.commit(Model(name=name), read_version=read[1])
    assert first.load(name).value.waiting == ()


@pytest.mark.usefixtures("_tables")
def test_cut_replies_double_nothing_and_fail_nothing(tmp_path: Path) -> None:
    _, _, wrong = deliveries(tmp_path, cuts=12, every=3)
    assert wrong == []


@pytest.mark.full
@pytest.mark.usefixtures("_tables")
@pytest.mark.parametrize("every", [2, 5])
def test_five_hundred_cut_replies_double_nothing_and_fail_nothing(tmp_path: Path, every: int) -> None:
    _, _, wrong = deliveries(tmp_path, cuts=500, every=every)
    assert wrong == []


@pytest.mark.usefixtures("_tables")
def test_one_poison_among_five_ends_in_the_dead_letters_and_is_replayed(tmp_path: Path) -> None:
    one_of_many(tmp_path, 5)


@pytest.mark.full
@pytest.mark.usefixtures("_tables")
def test_one_poison_among_a_thousand_ends_in_the_dead_letters_and_is_replayed(tmp_path: Path) -> None:
    one_of_many(tmp_path, 1_000)


def stopped(folder: Path, storage: Azurite, stops: int) -> list[str]:
    use_tables(folder, storage.connection_string, f"PREFIX{uuid.uuid4().hex[:16]}")
    return stop_again_and_again(folder, stops=stops, seed=1)


def test_a_stopped_controller_writes_nothing_over_the_one_that_took_over(tmp_path: Path, storage: Azurite) -> None:
    assert stopped(tmp_path, storage, 1) == []


@pytest.mark.full
def test_a_hundred_stopped_controllers_write_nothing_over_the_one_that_took_over(
    tmp_path: Path, storage: Azurite
) -> None:
    assert stopped(tmp_path, storage, 100) == []


class Rows:
    """Holds what is written against Azure's limits, most of which Azurite does not know."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.faults: list[str] = []
        real = Tables._write

        def write(tables: Tables, table: str, operations: list[Operation]) -> object:
            self.faults += [fault for operation in operations for fault in over_the_limits(operation[1])]
            if len({operation[1]["PartitionKey"] for operation in operations}) > 1:
                self.faults.append("partitions differ")
            return real(tables, table, operations)

        monkeypatch.setattr(Tables, "_write", write)


def over_the_limits(row: dict[str, object]) -> Iterator[str]:
    """Find what Azure would refuse: entity 1 MiB, text 64 KiB, 252 properties, keys of 1 KiB without some characters."""
    sizes = {
        name: 2 * len(name) + (len(value.encode("utf-16-le")) if isinstance(value, str) else 8)
        for name, value in row.items()
    }
    if sum(sizes.values()) > 1_048_576:
        yield f"row {row['RowKey']} has {sum(sizes.values())} bytes"
    for name, value in row.items():
        if isinstance(value, str) and len(value.encode("utf-16-le")) > 65_536:
            yield f"{name} is too long"
    if len(row) > 252:
        yield "too many properties"
    for name in ("PartitionKey", "RowKey"):
        text = str(row[name])
        if (
            len(text.encode("utf-16-le")) > 1_024
            or set(text) & set("/\\#?")
            or any(ord(letter) < 32 for letter in text)
        ):
            yield f"{name} {text[:50]} is not allowed"


def limits_are_kept(folder: Path, storage: Azurite, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row keeps the limits, and the last events cost the calls, and about the bytes, of the first."""
    wire = Cutting()
    builders.STORES.append(lambda world: on_tables(world, wire.tables(storage, f"t{uuid.uuid4().hex[:20]}")))
    try:
        bench = quick_bench(folder)
        run_id = bench.push()
        rows = Rows(monkeypatch)
        costs = []
        for event in many_events(count):
            with wire.counted() as sent:
                bench.app.controller.take(run_id, event)
            costs.append(len(sent))
    finally:
        builders.STORES.clear()

    assert rows.faults == []
    assert costs[-20:] == costs[20:40], "the cost of an event does not grow with history"
    assert bench.app.world.runs.load(RunId("diabetes-000000010000")).version == count + 1


def test_sixty_events_on_one_run_keep_every_limit_and_cost_the_same(
    tmp_path: Path, storage: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits_are_kept(tmp_path, storage, 60, monkeypatch)


@pytest.mark.full
def test_ten_thousand_events_on_one_run_keep_every_limit_and_cost_the_same(
    tmp_path: Path, storage: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits_are_kept(tmp_path, storage, 10_000, monkeypatch)


@pytest.mark.usefixtures("_tables")
def test_the_newest_of_some_quick_pushes_ends_live(tmp_path: Path) -> None:
    newest_is_live(tmp_path, 4)


@pytest.mark.full
@pytest.mark.usefixtures("_tables")
def test_the_newest_of_a_hundred_quick_pushes_ends_live(tmp_path: Path) -> None:
    newest_is_live(tmp_path, 100)


def newest_is_live(folder: Path, count: int) -> None:
    bench = quick_bench(folder, manifest=WITHOUT_GATES, seed=3)
    push_all(bench, count, Random(3), per_second=2)
    champion = bench.app.world.models.load(ModelName("diabetes")).value.champion
    assert champion is not None
    assert champion.run_id == f"diabetes-{commit_id(count)[:12]}"
    assert list(unexplained(bench.app.world)) == []
