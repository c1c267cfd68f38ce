"""
Runs and their lists are in two tables, so no transaction holds both: every cut answer, every death and every meeting
between two instances, one call on the wire after the other.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from azurite import Azurite, open_tables
from fakes import START
from repeats import Cutting, Death

from mlops_core.adapters.azure.rows import key
from mlops_core.adapters.azure.run_index import RunIndex
from mlops_core.adapters.azure.run_store import TableRunStore
from mlops_core.adapters.azure.tables import StorageAccount
from mlops_core.domain import events as ev
from mlops_core.domain.errors import DuplicateEventError, NotFoundError, StaleRunError
from mlops_core.domain.ids import EffectKey, ModelName, ModelVersion, ProjectName, RunId
from mlops_core.domain.machine import advance, settle
from mlops_core.domain.run import Run, Trigger
from mlops_core.ports import RunStore

RUN = RunId("diabetes-0001")
POLICY = EffectKey("policy")
FAILED = ev.EffectFailed(at=START, key=POLICY, reason="no", attempt=0)
TOLD = [ev.EffectDone(at=START, key=EffectKey(f"announce:{state}")) for state in ("received", "failed")]
REPLAYED = ev.EffectReplayed(at=START, key=POLICY, attempt=1, by="ada")
# From its creation over its end to its return: each kind of change of a list row is among these.
STORY: list[ev.Event] = [FAILED, *TOLD, REPLAYED]


def make_run(seconds: int = 0) -> Run:
    created = START + timedelta(seconds=seconds)
    trigger = Trigger(kind="push", ordinal=created, branch="main")
    run = Run(id=RUN, project=ProjectName("diabetes"), trigger=trigger, created_at=created, updated_at=created)
    return settle(run)


def take(store: RunStore, event: ev.Event) -> None:
    """Take an event as the controller does."""
    for _ in range(20):
        stored = store.load(RUN)
        after = advance(stored.value, event)
        try:
            store.commit(after, read_version=stored.version, event=event, entry_reason="", recorded_at=START)
        except StaleRunError:
            continue
        except DuplicateEventError:
            pass
        return
    raise AssertionError("twenty conflicts")


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex[:20]}"


def plain(storage: Azurite, prefix: str) -> TableRunStore:
    """An instance that was not there before."""
    return TableRunStore(open_tables(StorageAccount(connection_string=storage.connection_string), prefix))


def wrong(store: TableRunStore) -> Iterator[str]:
    """Find what the lists say too little, and what they say too much where that could be seen."""
    try:
        run = store.load(RUN).value
    except NotFoundError:
        yield from ["a run that is not there is listed"] * bool(store.active().items or store.of_project(None).items)
        return
    active = not run.ended or bool(run.pending)
    yield from ["an active run is not listed"] * (active and list(store.active().items) != [RUN])
    for project in (None, run.project):
        yield from [f"the list of {project} has not this run once"] * (
            [found.id for found in store.of_project(project).items] != [RUN]
        )


STEPS: list[Callable[[RunStore], object]] = [
    lambda store: store.create(make_run()),
    *(lambda store, event=event: take(store, event) for event in STORY),  # type: ignore[misc] - binds this event
]


def tell_all(store: TableRunStore) -> None:
    for tell in STEPS:
        tell(store)


def with_tables(storage: Azurite, prefix: str) -> str:
    """Make the tables first: which of several calls at once has to make one is chance."""
    tables = open_tables(StorageAccount(connection_string=storage.connection_string), prefix)
    for name in ("Runs", "Index"):
        tables.table(name).create_table()
    return prefix


def calls_of_story(storage: Azurite, prefix: str, kind: type[TableRunStore] = TableRunStore) -> int:
    cutting = Cutting()
    tell_all(kind(cutting.tables(storage, with_tables(storage, f"{prefix}n"))))
    return len(cutting.calls)


def faulty(storage: Azurite, prefix: str, fault: str, *, step: int = 1) -> Iterator[str]:
    """Go through the story, each time with a fault at another call."""
    for number in range(step - 1, calls_of_story(storage, prefix), step):
        cutting = Cutting(answers=[""] * number + [fault])
        store = TableRunStore(cutting.tables(storage, with_tables(storage, f"{prefix}{number}")))
        tell_all(store)
        if [entry.event for entry in store.history(RUN).items] != STORY or cutting.answers:
            yield f"{fault} at call {number} changed the history"
        yield from (f"{fault} at call {number}: {each}" for each in wrong(plain(storage, f"{prefix}{number}")))


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["cut", "busy", "unreachable"])
def test_some_lost_answers_fail_nothing_and_double_nothing(storage: Azurite, prefix: str, fault: str) -> None:
    assert list(faulty(storage, prefix, fault, step=7)) == []


@pytest.mark.full
@pytest.mark.parametrize("fault", ["cut", "busy", "unreachable"])
def test_whichever_answer_is_lost_nothing_fails_and_nothing_is_doubled(
    storage: Azurite, prefix: str, fault: str
) -> None:
    assert list(faulty(storage, prefix, fault)) == []


def test_an_own_write_is_known_as_such_after_others_wrote_too(storage: Azurite, prefix: str) -> None:
    """The answer is lost; before the repeat, another instance saves the run with the next event."""
    cutting = Cutting()
    store, other = TableRunStore(cutting.tables(storage, prefix)), plain(storage, prefix)
    store.create(make_run())
    stored = store.load(RUN)

    def save_another() -> None:
        cutting.before_call = lambda: None
        take(other, TOLD[0])

    cutting.answers = ["cut"]
    # The first call is the write whose answer is lost, the second its repeat.
    cutting.before_call = lambda: setattr(cutting, "before_call", save_another)
    after = advance(stored.value, FAILED)

    assert store.commit(after, read_version=1, event=FAILED, entry_reason="", recorded_at=START) == 2
    assert store.load(RUN).version == 3


def deaths(
    storage: Azurite, prefix: str, side: str, *, step: int = 1, kind: type[TableRunStore] = TableRunStore
) -> Iterator[str]:
    """Let an instance die at one call after the other; another one hears the story from its beginning."""
    for number in range(step - 1, calls_of_story(storage, prefix, kind), step):
        cutting = Cutting(answers=[""] * number + [f"die {side}"])
        with pytest.raises(Death):
            tell_all(kind(cutting.tables(storage, with_tables(storage, f"{prefix}{number}"))))
        found = list(wrong(plain(storage, f"{prefix}{number}")))
        tell_all(plain(storage, f"{prefix}{number}"))
        found += wrong(plain(storage, f"{prefix}{number}"))
        yield from (f"death {side} call {number} ({cutting.calls[-1]}): {each}" for each in found)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["before", "after"])
def test_where_an_instance_dies_what_is_active_is_listed(storage: Azurite, prefix: str, side: str) -> None:
    assert list(deaths(storage, prefix, side, step=6)) == []


@pytest.mark.full
@pytest.mark.parametrize("side", ["before", "after"])
def test_wherever_an_instance_dies_what_is_active_is_listed_and_the_next_one_goes_on(
    storage: Azurite, prefix: str, side: str
) -> None:
    assert list(deaths(storage, prefix, side)) == []


class SnapshotFirst(TableRunStore):
    """Lists a run when it is there: whoever dies in between leaves one that nobody looks after."""

    def create(self, run: Run) -> bool:
        index, self._index = self._index, Unlisted(self._tables)
        created = super().create(run)
        self._index = index
        index.before_create(run)
        return created


class Unlisted(RunIndex):
    """Lists nothing."""

    def before_create(self, run: Run) -> None:
        """Do it later."""


@pytest.mark.full
def test_a_snapshot_before_its_list_rows_is_caught(storage: Azurite, prefix: str) -> None:
    """Negative control."""
    found = list(deaths(storage, prefix, "after", kind=SnapshotFirst))

    assert any("an active run is not listed" in each for each in found)


def meeting(storage: Azurite, prefix: str, *, at: int, first: ev.Event, then: ev.Event) -> list[str]:
    """One instance takes an event; before its so-manieth call, another takes one from its beginning to its end."""
    one, other, cutting = plain(storage, prefix), plain(storage, prefix), Cutting()
    one.create(make_run())
    for event in [FAILED, TOLD[0]] if first == TOLD[1] else STORY[:3]:
        take(one, event)
    waiting = TableRunStore(cutting.tables(storage, prefix))

    def before_call() -> None:
        if len(cutting.calls) == at:
            take(other, then)

    cutting.before_call = before_call
    take(waiting, first)
    return list(wrong(plain(storage, prefix)))


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(TOLD[1], REPLAYED), (REPLAYED, TOLD[1])], ids=["ends", "returns"])
def test_a_run_that_is_brought_back_while_it_ends_stays_listed(
    storage: Azurite, prefix: str, first: ev.Event, then: ev.Event
) -> None:
    found = {at: meeting(storage, f"{prefix}{at}", at=at, first=first, then=then) for at in range(1, 9)}

    assert {at: problems for at, problems in found.items() if problems} == {}


def test_a_list_row_that_leads_nowhere_is_not_shown_and_is_taken_off_after_a_day(
    storage: Azurite, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = plain(storage, prefix)
    store._index.before_create(make_run())
    tables = store._tables
    assert list(store.active().items) == []
    assert tables.get("Index", "active", key(RUN)) is not None

    monkeypatch.setattr("mlops_core.adapters.azure.run_index._ORPHANED_AFTER", timedelta(0))
    assert list(store.active().items) == []
    assert tables.get("Index", "active", key(RUN)) is None


def test_a_start_that_somebody_else_was_quicker_with_is_listed_once(storage: Azurite, prefix: str) -> None:
    first, second = plain(storage, prefix), plain(storage, prefix)
    assert first.create(make_run())
    assert not second.create(make_run(seconds=9))

    assert [run.created_at for run in first.of_project(None).items] == [START]
    assert len(first._tables.query("Index", "PartitionKey eq 'all'", {})) == 1


def test_lists_that_were_lost_are_rebuilt_out_of_the_runs(storage: Azurite, prefix: str) -> None:
    store = plain(storage, prefix)
    store.create(make_run())
    for row in store._tables.query("Index", "PartitionKey gt ''", {}):
        store._tables.delete("Index", row)
    assert list(wrong(plain(storage, prefix))) != []

    assert store.rebuild_index() == 1
    assert list(wrong(plain(storage, prefix))) == []


def test_a_version_that_a_refused_save_spoke_of_is_not_found(storage: Azurite, prefix: str) -> None:
    store = plain(storage, prefix)
    store.create(make_run())
    spoken = make_run().model_copy(update={"model": ModelName("diabetes"), "version": ModelVersion("4")})
    store._index.list_version(spoken)

    assert store.of_version(ModelName("diabetes"), ModelVersion("4")) is None
