"""Test 12: the disk is full, or fails, at random moments: nothing that was acknowledged is lost, and no file is damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlops_core.adapters.local.database import Database
from mlops_core.domain.errors import TemporaryError

CHILD = Path(__file__).with_name("full_disk.py")


def play(folder: Path, *, seed: int, points: int, design: str = "") -> dict[str, Any]:
    """Play so many deliveries, each with a disk that is full for a while, in a process of their own."""
    command = [sys.executable, str(CHILD), str(folder), str(seed), str(points), design]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_disk_that_is_full_at_ten_points_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    told = play(tmp_path, seed=1, points=10)

    assert told["wrong"] == []
    assert told["met"] >= 5, "the disk was hardly ever full when something was to be written"


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_disk_that_is_full_at_a_hundred_points_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    told = play(tmp_path, seed=2, points=130)

    assert told["wrong"] == []
    assert told["met"] >= 100


def test_a_webhook_that_is_answered_before_its_event_is_stored_is_caught(tmp_path: Path) -> None:
    """Negative control."""
    told = play(tmp_path, seed=1, points=10, design="acknowledge first")

    assert any("are lost" in problem for problem in told["wrong"])


def test_what_cannot_be_stored_on_a_full_disk_says_so_and_leaves_the_connection_usable(tmp_path: Path) -> None:
    """SQLite rolls back by itself then, and complains of whoever does it a second time."""
    database = Database(tmp_path / "headrace.db")
    connection = database.connection
    connection.execute("CREATE TABLE big (text TEXT)")
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(TemporaryError, match=r"database or disk is full. Free some space"), database.transaction():
        connection.execute("INSERT INTO big VALUES (?)", ("x" * 100_000,))
    connection.execute("PRAGMA max_page_count = 100000")
    with database.transaction():
        connection.execute("INSERT INTO big VALUES (?)", ("x" * 100_000,))

    assert database.read("SELECT length(text) AS n FROM big")[0]["n"] == 100_000
    database.close()
