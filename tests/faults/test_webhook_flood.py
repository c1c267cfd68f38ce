"""Test 11: a flood of genuine webhooks on `headrace up`. Nothing is lost, nothing is refused, and answers come in time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGET_P99_MS = 1_000


def flood(rate: int, seconds: int) -> dict[str, float]:
    command = [sys.executable, "benchmarks/webhooks.py", "--json", "--rate", str(rate), "--seconds", str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    assert figures["sent"] == rate * seconds
    return figures


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_flood_of_webhooks_is_answered_and_stored() -> None:
    """How long an answer takes is not asked here: other tests run beside this one."""
    figures = flood(100, 5)

    assert (figures["non_2xx"], figures["lost"]) == (0, 0), figures


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_two_hundred_webhooks_a_second_for_a_minute() -> None:
    figures = flood(200, 60)

    assert (figures["non_2xx"], figures["lost"]) == (0, 0), figures
    assert figures["p99_ms"] < TARGET_P99_MS, figures
