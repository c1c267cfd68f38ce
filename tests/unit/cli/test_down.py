"""Stopping what a data folder started, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Headrace

from mlops_core.adapters.local import running
from mlops_core.cli.down import stop_processes, unfinished_jobs


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with Headrace."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    (made / "jobs").mkdir(parents=True)
    return made


@pytest.mark.parametrize("note", [{}, {"started": "the boot before:1"}], ids=["old note", "pid given away"])
def test_a_stranger_that_got_the_pid_of_a_killed_controller_is_left_alone(
    headrace: Headrace, folder: Path, stranger: subprocess.Popen[bytes], note: dict[str, str]
) -> None:
    (folder / "up.json").write_text(json.dumps({"pid": stranger.pid, "address": "http://127.0.0.1:9", **note}))

    done = headrace("down")

    assert done.exit_code == 0
    assert "Nothing is up in" in done.stdout
    assert stranger.poll() is None
    assert not (folder / "up.json").exists()


def test_a_note_counts_while_its_process_lives(folder: Path) -> None:
    assert running.address_of_controller(folder) is None

    running.note(folder, "http://127.0.0.1:7071")

    assert running.address_of_controller(folder) == "http://127.0.0.1:7071"
    assert running.controller_process(folder) is not None
    note = json.loads((folder / "up.json").read_text())
    (folder / "up.json").write_text(json.dumps({**note, "started": "the boot before:1"}))
    assert running.address_of_controller(folder) is None
    assert running.controller_process(folder) is None


def test_down_on_a_folder_without_jobs_or_on_none_says_that_nothing_is_up(headrace: Headrace, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    assert "Nothing is up in" in headrace("down", "--data", str(tmp_path / "empty")).stdout
    assert "there is no data folder" in headrace("down", "--data", str(tmp_path / "none")).stdout


def test_jobs_that_have_not_ended_are_known_by_their_folders(folder: Path) -> None:
    for name in ("tiny-1-build", "tiny-1-train", ".tiny-1-train.beside"):
        (folder / "jobs" / name).mkdir()
    (folder / "jobs" / "tiny-1-build" / "status.json").write_text("{}")

    assert unfinished_jobs(folder) == ["tiny-1-train"]
    assert unfinished_jobs(folder / "none") == []


def test_a_job_that_is_stopped_says_how_its_run_goes_on(folder: Path) -> None:
    job = folder / "jobs" / "tiny-1-train"
    job.mkdir()
    (job / "request.json").write_text('{"project": "tiny"}')

    assert stop_processes(folder) == ["1 job"]

    said = json.loads((job / "status.json").read_text())
    assert said["outcome"] == "cancelled"
    assert said["reason"] == "stopped by 'headrace down'. Go on with it: headrace retrain tiny --resume tiny-1"
