"""Test 13: however many events a run takes, and however large, every limit of Table storage is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from benches import quick_bench
from builders import MANIFEST, Bench, push
from fakes import START

from mlops_core.domain import events as ev
from mlops_core.domain.errors import TooLargeError
from mlops_core.domain.ids import EffectKey, JobName, ModelName, ModelVersion, RunId
from mlops_core.domain.limits import ROW_BYTES, TEXT_LETTERS, checked_row, cut, pieces
from mlops_core.domain.requests import Decision
from mlops_core.domain.run import Facts

LONG = "ä" * 100_000


def utf16_bytes(text: str) -> int:
    return len(text.encode("utf-16-le"))


def rows(bench: Bench) -> Iterator[dict[str, object]]:
    connection = bench.database.connection
    for table in ("runs", "events"):
        for row in connection.execute(f"SELECT * FROM {table}"):  # noqa: S608 - two literals
            yield dict(row)


def over_the_limits(bench: Bench) -> Iterator[str]:
    """Find rows that Table storage would refuse, their JSON kept in pieces."""
    for row in rows(bench):
        columns = {
            f"{name}{number}": piece
            for name, value in row.items()
            if isinstance(value, str)
            for number, piece in enumerate(pieces(value))
        }
        if any(utf16_bytes(piece) > 2 * TEXT_LETTERS for piece in columns.values()):
            yield f"a text of row {str(row)[:80]} is too long"
        if sum(map(utf16_bytes, columns.values())) > ROW_BYTES:
            yield f"row {str(row)[:80]} is too large"
        yield from (
            f"{name} is too long" for name, value in row.items() if name != "body" and len(str(value)) > TEXT_LETTERS
        )


def many_events(count: int) -> Iterator[ev.Event]:
    """Whatever there can be many of in one run: announcements, given-up effects and their replays, successors."""
    key = EffectKey("deploy:1")
    for number in range(1, count // 5 + 1):
        yield ev.ModelAnnounced(at=START, model=ModelName("diabetes"), version=ModelVersion(str(number)))
        yield ev.EffectFailed(at=START, key=key, reason=cut(LONG), attempt=number - 1)
        yield ev.EffectReplayed(at=START, key=key, attempt=number, by="ada")
        yield ev.EffectDone(at=START, key=EffectKey("unlock"), revival=number)
        yield ev.Retired(at=START, by_run=RunId(f"diabetes-{number}"), reason=cut(LONG))


def cost_of(bench: Bench, run_id: RunId, event: ev.Event) -> tuple[int, int]:
    """Take an event. Returns how many statements it took, and how many bytes the snapshot has after it."""
    statements: list[str] = []
    bench.database.connection.set_trace_callback(statements.append)
    bench.app.controller.take(run_id, event)
    bench.database.connection.set_trace_callback(None)
    return len(statements), len(bench.run(run_id).model_dump_json())


def grown_run(folder: Path, count: int) -> tuple[Bench, tuple[int, int], tuple[int, int]]:
    bench = quick_bench(folder)
    run_id = bench.push()
    events = list(many_events(count))
    costs = [cost_of(bench, run_id, event) for event in events]
    return bench, _highest(costs[:20]), _highest(costs[-20:])


def _highest(costs: list[tuple[int, int]]) -> tuple[int, int]:
    statements, sizes = zip(*costs, strict=True)
    return max(statements), max(sizes)


def limits_are_kept(folder: Path, count: int) -> None:
    bench, first, last = grown_run(folder, count)

    assert list(over_the_limits(bench)) == []
    assert last[0] <= first[0]  # the first of all also reads the run
    assert last[1] <= first[1] + 200  # longer numbers, no more facts
    assert bench.app.world.runs.load(RunId("diabetes-000000010000")).version == count + 1
    bench.database.close()


def test_five_hundred_events_on_one_run_keep_every_limit_and_cost_the_same(tmp_path: Path) -> None:
    limits_are_kept(tmp_path, 500)


@pytest.mark.full
def test_ten_thousand_events_on_one_run_keep_every_limit_and_cost_the_same(tmp_path: Path) -> None:
    limits_are_kept(tmp_path, 10_000)


def test_facts_that_keep_every_answer_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a snapshot that holds its whole history."""
    monkeypatch.setattr(Facts, "joined", lambda facts, event: Facts(slots={**facts.slots, event.event_id: event}))

    with pytest.raises(AssertionError):
        limits_are_kept(tmp_path, 100)


def test_the_largest_delivery_keeps_every_limit(tmp_path: Path) -> None:
    """Everything that comes from outside is as large as it may be, or larger."""
    gates = b"".join(b"    - {metric: rmse%d, max: 1}\n" % number for number in range(90))
    bench = quick_bench(tmp_path, manifest=MANIFEST.partition(b"  gates:")[0] + b"  gates:\n" + gates)
    files = tuple(f"src/{number}/{'x' * 3_000}.py" for number in range(1_000))
    told = push().model_copy(update={"changed": files, "pushed_by": LONG})
    (run_id,) = bench.app.intake.push(told)
    bench.drain()
    for stage in ("build", "train"):
        name = JobName(f"{run_id}-{stage}")
        bench.jobs.end(name, "succeeded", LONG, LONG)
        bench.registry.register("diabetes", name, **{f"metric-{LONG[:2_000]}-{number}": 1.0 for number in range(30)})
        bench.app.intake.job_told(name, "succeeded")
        bench.drain()
    bench.app.controller.decide(run_id, Decision(wish="waive", by="ada", reason="ä" * 2_000))
    bench.settle()

    assert bench.state(run_id) == "live"
    assert list(over_the_limits(bench)) == []


def test_an_mlops_yaml_that_is_too_large_refuses_the_run(tmp_path: Path) -> None:
    bench = quick_bench(tmp_path, manifest=MANIFEST + b"#" * 100_000)
    source = bench.source
    read_file = source.read_file

    def limited(*args: object, limit_bytes: int) -> bytes:
        text = read_file(*args)  # type: ignore[arg-type] - passed on
        if len(text) > limit_bytes:
            raise TooLargeError(f"'mlops.yaml' has {len(text)} bytes; at most {limit_bytes} are read.")
        return text

    source.read_file = limited  # type: ignore[method-assign, assignment] - this bench only
    run_id = bench.push()
    bench.drain()

    assert bench.state(run_id) == "failed"
    assert "at most 32768 are read" in bench.run(run_id).reason


def test_a_row_that_no_store_could_hold_is_refused_with_its_name() -> None:
    with pytest.raises(TooLargeError, match="'diabetes-1' has 2000000 bytes; at most"):
        checked_row("diabetes-1", "x" * 1_000_000)


def test_pieces_fit_a_text_property_whatever_the_letters_and_join_to_the_whole() -> None:
    text = "😀a" * 50_000

    assert "".join(pieces(text)) == text
    assert max(map(utf16_bytes, pieces(text))) <= 2 * TEXT_LETTERS
