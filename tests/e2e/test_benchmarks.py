"""Each benchmark runs, in its smallest size, and notes its rows for the table of `make bench`. No times are asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The flood of webhooks runs in tests/faults; a push to live takes as long as the demo, so it is only asked for its options.
SMALLEST = {
    "azure_webhooks": ["--rounds", "1"],
    "cold_start": ["--tool", "nowhere"],
    "events": ["--runs", "1", "--rounds", "2"],
    "pipeline_overhead": ["--rounds", "1"],
    "push_to_live": ["--help"],
    "scoring": ["--seconds", "0.5", "--rounds", "1"],
    "webhooks": ["--help"],
}
ROWS = {"azure_webhooks": 4, "events": 1, "pipeline_overhead": 1, "scoring": 2}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_a_benchmark_runs_and_notes_its_rows(name: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    done = run(f"benchmarks/{name}.py", *SMALLEST[name], "--rows", str(rows))
    assert done.returncode == 0, done.stderr
    noted = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
    assert len(noted) == ROWS.get(name, 0), done.stdout
    assert all(row["against"] and row["seen"] for row in noted)


def test_every_benchmark_is_among_those_that_are_run_and_tried_here() -> None:
    files = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {"run", "table"}
    refused = run("benchmarks/run.py", "nothing")
    assert refused.returncode == 1
    assert set(SMALLEST) == files
    assert refused.stdout == f"There is no benchmark 'nothing'. There are: {', '.join(sorted(files))}.\n"
