"""What `headrace doctor` finds on a machine, and how to get what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import Headrace

from mlops_core.adapters.local import running


def finding(headrace: Headrace, name: str) -> dict[str, Any]:
    """Give one finding of `--json`."""
    found: list[dict[str, Any]] = json.loads(headrace("doctor", "--json").stdout)
    return next(each for each in found if each["name"].startswith(name))


@pytest.mark.parametrize("program", ["git", "bash"])
def test_a_missing_program_is_named_with_how_to_install_it(
    headrace: Headrace, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **_: None if name == program else which(name))

    found = finding(headrace, program)

    assert (found["ok"], found["found"]) == (False, "not installed")
    assert f"apt install {program} (Debian, Ubuntu)" in found["advice"]
    done = headrace("doctor")
    assert done.exit_code == 1
    assert f"✗ {program}: not installed" in done.stdout


def test_a_note_of_a_killed_controller_is_not_taken_for_one_that_is_up(headrace: Headrace, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "up.json").write_text(
        json.dumps({"pid": 1, "started": "the boot before:1", "address": "http://127.0.0.1:9"})
    )

    names = [each["name"] for each in json.loads(headrace("doctor", "--json").stdout)]

    assert "up at" not in headrace("doctor").stdout
    assert {"controller", "port 7071"} & set(names)


def test_a_controller_that_does_not_answer_is_told_so(headrace: Headrace, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    # Port 9 is "discard": nobody listens there.
    running.note(tmp_path / "data", "http://127.0.0.1:9")

    found = finding(headrace, "controller")

    assert not found["ok"]
    assert found["found"] == "its process runs, but nothing answers at http://127.0.0.1:9"
    assert "headrace down" in found["advice"]


def test_a_data_folder_where_a_file_is_in_the_way_is_told(headrace: Headrace, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")

    found = finding(headrace, "data folder")

    assert not found["ok"]
    assert "HEADRACE_DATA=FOLDER" in found["advice"]


def test_a_disk_with_little_room_is_told_with_what_is_left(headrace: Headrace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12, 2**30))  # type: ignore[attr-defined]

    found = finding(headrace, "data folder")

    assert not found["ok"]
    assert "1.0 GiB free" in found["found"]
