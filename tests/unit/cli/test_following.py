"""`headrace logs --follow`: states, what the jobs tell, and what the steps print, each line once."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from builders import Bench
from commands import Headrace

from mlops_core.adapters.local import receive_hook, room
from mlops_core.cli.following import Printed
from mlops_core.cli.up import LogFile
from mlops_core.domain.ids import JobName
from mlops_core.services import queries

OWN = "19:14:25 environment cached\n"


def news(printed: Printed, log: str, *, ended: bool = False) -> list[tuple[str, str]]:
    return list(printed.news(log, ended=ended))


def test_each_look_gives_what_every_step_printed_since() -> None:
    printed = Printed()

    assert news(printed, f"{OWN}\n--- step prep\none\ntw") == [("prep", "one")]
    log = f"{OWN}19:14:30 more of the job\n\n--- step prep\none\ntwo\n\n--- step train\nthree\n"
    assert news(printed, log) == [("prep", "two"), ("train", "three")]
    assert news(printed, log, ended=True) == []


def test_the_last_line_counts_at_the_end_also_where_nothing_ends_it() -> None:
    assert news(Printed(), "\n--- step prep\none\ntwo", ended=True) == [("prep", "one"), ("prep", "two")]


def test_steps_of_azure_are_known_by_their_files() -> None:
    log = "\n--- taxi-train: user_logs/std_log.txt\none\n\n--- prep_1: user_logs/std_log.txt\n--- not a step\n"

    assert news(Printed(), log) == [("taxi-train", "one"), ("prep_1", "--- not a step")]


def test_a_followed_run_prints_what_its_steps_print(bench: Bench, headrace: Headrace) -> None:
    run_id = bench.push()
    bench.deliver(run_id)
    bench.jobs.logs[JobName(f"{run_id}-train")] = OWN.encode() + b"\n--- step train\nepoch 1 [loss] 0.5\n"

    done = headrace("logs", "--follow", run_id)

    assert done.exit_code == 0
    assert "  train │ epoch 1 [loss] 0.5\n" in done.stdout
    assert OWN not in done.stdout
    told = done.stdout
    assert told.index("training: ") < told.index("epoch 1") < told.index("evaluating: ")
    assert "live: " in done.stdout


def test_a_followed_run_is_json_for_programs_one_object_per_line(bench: Bench, headrace: Headrace) -> None:
    run_id = bench.push()
    bench.deliver(run_id)
    bench.jobs.logs[JobName(f"{run_id}-train")] = b"\n--- step train\nepoch 1\n"

    lines = [json.loads(line) for line in headrace("logs", "-f", "--json", run_id).stdout.splitlines()]

    assert {"kind": "output", "state": "training", "step": "train", "text": "epoch 1"} in lines
    assert lines[-1]["state"] == "live"


def test_a_followed_run_that_is_rejected_ends_with_how_many_gates_it_failed(bench: Bench, headrace: Headrace) -> None:
    run_id = bench.push()
    bench.deliver(run_id, rmse=99.0)

    done = headrace("logs", "--follow", run_id)

    assert done.exit_code == 1
    assert f"run {run_id} ended rejected: 1 of 2 gates failed." in done.stderr
    assert f"headrace approve {run_id} --waive" in done.stderr


@pytest.fixture
def short_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of more than 100 bytes is long."""
    monkeypatch.setattr(queries, "_LONGEST_LOG", 100)


@pytest.mark.usefixtures("short_logs")
def test_of_a_long_log_the_end_is_given_and_what_is_left_out_is_told(bench: Bench, headrace: Headrace) -> None:
    run_id = bench.push()
    bench.deliver(run_id)
    bench.jobs.logs[JobName(f"{run_id}-train")] = b"\n--- step train\n" + b"".join(b"line %3d\n" % n for n in range(50))

    done = headrace("logs", run_id)

    assert done.stdout.splitlines()[0] == "line  39"
    assert done.stdout.endswith("line  49\n")
    assert "the first 367 bytes are left out" in done.stderr
    told = json.loads(headrace("logs", run_id, "--json").stdout)
    assert (told["stage"], told["left_out_bytes"], told["log"].splitlines()[-1]) == ("train", 367, "line  49")
    assert "the steps printed too much to be followed" in headrace("logs", "-f", run_id).stdout


@pytest.mark.parametrize("limit", [1, 5, 8, 9, 100])
def test_the_end_of_a_log_begins_with_a_line_wherever_its_chunks_are_cut(limit: int) -> None:
    log = b"one\ntwo\nlast"
    for size in (1, 2, 3, 7, 100):
        chunks = [log[start : start + size] for start in range(0, len(log), size)]

        kept, left_out = queries._end_of(chunks, limit)

        assert log[left_out:] == kept
        assert len(kept) <= limit


def test_a_stage_without_logs_is_named_with_those_that_have_one(bench: Bench, headrace: Headrace) -> None:
    run_id = bench.push()

    for words in (["--stage", "deploy"], ["--stage", "deploy", "--follow"]):
        assert (
            "There is no log of stage 'deploy'. Stages with a log: build, train, serve."
            in headrace("logs", run_id, *words).stderr
        )


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_a_push_says_now_and_then_that_a_long_step_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = _Clock()
    monkeypatch.setattr(receive_hook, "time", clock)
    silence = receive_hook._Silence(None)
    for clock.now in (1.0, 20.0, 31.0, 32.0, 60.0, 62.0):
        silence.tell("training")

    assert capsys.readouterr().out == "    still training, for 30.0 s\n    still training, for 1 min 1 s\n"


@pytest.mark.parametrize(
    ("ref", "after", "sentence"),
    [
        ("refs/tags/v1", "1" * 40, "tags are stored"),
        ("refs/heads/old", "0" * 40, "a deleted branch stops no run"),
        ("refs/notes/x", "1" * 40, "no branch was pushed that Headrace builds"),
    ],
)
def test_a_push_that_starts_nothing_says_why(ref: str, after: str, sentence: str) -> None:
    assert sentence in receive_hook._why_nothing([{"ref": ref, "after": after}])


def test_a_full_disk_is_told_where_a_push_stands_still(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    clock = _Clock()
    monkeypatch.setattr(receive_hook, "time", clock)
    monkeypatch.setattr(room, "_LEAST_BYTES", 2**62)
    silence = receive_hook._Silence(tmp_path)
    clock.now = 31.0
    silence.tell("training")

    assert f"the disk of '{tmp_path}' has only" in capsys.readouterr().out


def test_a_disk_is_told_of_once_when_it_gets_full_and_once_when_there_is_room_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    free = iter([2**40, 1000, 999, 2**40, 2**40])
    stop, told = threading.Event(), list[str]()
    monkeypatch.setattr(room, "_LOOK_SECONDS", 0)

    def usage(_: object) -> SimpleNamespace:
        found = next(free, None)
        if found is None:
            stop.set()
        return SimpleNamespace(free=found or 2**40)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    room.watch_room(tmp_path, told.append, stop)

    assert [each.startswith(f"the disk of '{tmp_path}' has only 0.0 MiB left") for each in told] == [True, False]
    assert told[1].endswith("has room again")


def test_a_log_on_a_full_disk_loses_lines_without_a_trace(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`/dev/full` answers every write as a full disk does."""
    log = LogFile(tmp_path / "headrace.log")
    log.stream.close()
    log.stream = Path("/dev/full").open("w")  # noqa: SIM115 - the log's own

    log.handle(logging.makeLogRecord({"msg": "x" * 100_000}))

    with contextlib.suppress(OSError):
        log.stream.close()
    log.stream = (tmp_path / "other").open("w")
    log.close()
    assert capsys.readouterr().err == ""


def test_a_controller_that_stops_under_a_push_is_told_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    silence = receive_hook._Silence(tmp_path)
    for _ in range(3):
        silence.tell_if_gone()

    assert capsys.readouterr().out.count("the controller was stopped; this goes on when it is up again") == 1
