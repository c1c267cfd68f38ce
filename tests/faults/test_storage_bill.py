"""What a run costs in calls of the storage account: `docs/decisions/0010-tables.md` has these numbers."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import builders
import pytest
from azurite import Azurite, on_tables
from benches import quick_bench
from builders import MANIFEST, Bench
from fakes import START
from repeats import Cutting

from mlops_core.adapters.azure.run_store import TableRunStore
from mlops_core.domain import events as ev
from mlops_core.domain.ids import EffectKey, ModelName, ModelVersion, RunId
from mlops_core.manifest import read_manifest


@dataclass(frozen=True)
class Metered:
    """A bench over tables, and the wire to them."""

    bench: Bench
    wire: Cutting

    def cost(self, event: ev.Event, run_id: RunId) -> list[str]:
        with self.wire.counted() as sent:
            self.bench.app.controller.take(run_id, event)
        return sent


@pytest.fixture
def metered(tmp_path: Path, storage: Azurite) -> Metered:
    wire = Cutting()
    builders.STORES.append(lambda world: on_tables(world, wire.tables(storage, f"t{uuid.uuid4().hex[:20]}")))
    bench = quick_bench(tmp_path)
    builders.STORES.clear()
    # Makes the tables, which happens once in the life of an account.
    bench.push(1)
    return Metered(bench, wire)


def announced(number: int) -> ev.Event:
    return ev.ModelAnnounced(at=START, model=ModelName("diabetes"), version=ModelVersion(str(number)))


def test_an_event_of_a_run_that_was_seen_costs_one_transaction(metered: Metered) -> None:
    sent = metered.cost(announced(1), metered.bench.push(2))

    assert [call.partition(" ")[0] for call in sent] == ["POST"]


def test_an_event_of_a_run_that_was_not_seen_costs_one_read_more(metered: Metered) -> None:
    run_id = metered.bench.push(2)
    runs = metered.bench.app.world.runs
    assert isinstance(runs, TableRunStore)
    runs._known.clear()

    assert [call.partition(" ")[0] for call in metered.cost(announced(1), run_id)] == ["GET", "POST"]


def test_an_event_of_a_run_that_others_saved_meanwhile_is_refused_read_and_taken(metered: Metered) -> None:
    run_id = metered.bench.push(2)
    runs = metered.bench.app.world.runs
    assert isinstance(runs, TableRunStore)
    stale = dict(runs._known)
    metered.cost(announced(1), run_id)
    runs._known.update(stale)

    sent = metered.cost(announced(2), run_id)

    # Refused; is it our own write? no; what is the version? the run; and once more.
    assert [call.partition(" ")[0] for call in sent] == ["POST", "GET", "GET", "GET", "POST"]
    assert len(metered.bench.run(run_id).facts.all(ev.ModelAnnounced)) == 1


def test_the_first_event_that_names_a_version_costs_one_call_more(metered: Metered) -> None:
    run_id = metered.bench.push(2)
    decided = ev.PolicyDecided(at=START, decision="deliver", reason="", spec=read_manifest(MANIFEST))
    found = ev.ModelFound(at=START, model=ModelName("diabetes"), version=ModelVersion("4"))
    costs = [len(metered.cost(event, run_id)) for event in (decided, found, announced(4))]

    assert costs == [1, 2, 1]


def test_an_event_taken_again_costs_no_write_that_changes_anything(metered: Metered) -> None:
    run_id = metered.bench.push(2)
    metered.cost(announced(1), run_id)
    sent = metered.cost(announced(1), run_id)

    assert [call.partition(" ")[0] for call in sent] == ["POST", "GET", "GET"]


def test_a_start_costs_three_list_rows_and_the_run(metered: Metered) -> None:
    with metered.wire.counted() as sent:
        metered.bench.push(2)

    # The read tells whether the commit came to another branch before; the repository is known for some seconds.
    assert Counter(call.partition(" ")[0] for call in sent) == {"GET": 1, "POST": 4}


def test_an_end_costs_two_calls_more(metered: Metered) -> None:
    run_id = metered.bench.push(2)
    failed = ev.EffectFailed(at=START, key=EffectKey("policy"), reason="no", attempt=0)
    metered.cost(failed, run_id)
    pending = [each.effect.key for each in metered.bench.run(run_id).pending]
    costs = [len(metered.cost(ev.EffectDone(at=START, key=key), run_id)) for key in pending]

    assert costs == [1, 3]


def test_a_whole_run_costs_the_same_after_others(metered: Metered) -> None:
    """Each retires the one before, so the first has less to do than those after it, and they have the same."""

    def deliver(number: int) -> int:
        with metered.wire.counted() as sent:
            metered.bench.deliver(metered.bench.push(number), rmse=50.0 - number / 10)
        return len(sent)

    bills = [deliver(number) for number in range(2, 9)]

    # Effects are performed in any order, and some orders save a read.
    assert max(bills[2:]) - min(bills[2:]) <= 2, bills
    assert max(bills[2:]) <= 88, bills
