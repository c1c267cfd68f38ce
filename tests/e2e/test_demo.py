"""`make demo`, as a person sees it: a push goes live and predicts, a worse one is rejected, nothing is left running."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

# Empty caches and a busy machine: the environments of the example are installed from the package index.
SECONDS = 900.0


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 60)
def test_the_demo_delivers_predicts_rejects_a_worse_model_and_leaves_nothing_running(tmp_path: Path) -> None:
    home = tmp_path / "a demo"
    done = subprocess.run(
        [sys.executable, "-m", "mlops_core.cli", "demo", "--folder", str(home)],
        cwd=tmp_path, env={**os.environ, "PATH": os.defpath}, capture_output=True, text=True, timeout=SECONDS, check=False,  # noqa: TID251 - of the test's own command
    )  # fmt: skip
    told = done.stdout

    assert done.returncode == 0, told + done.stderr
    assert re.search(r"^live: http://127\.0\.0\.1:\d+/api/models/diabetes/score$", told, re.MULTILINE), told
    assert len(re.findall(r"^  age \d+, bmi \d+\.\d: progression after a year \d+$", told, re.MULTILINE)) == 3
    assert "REJECTED by 4 of 4 gates; what is in service stays:" in told
    assert "champion: version 1, at http://127.0.0.1:" in told
    assert re.search(r"^  source .*/activate$", told, re.MULTILINE), "the next command is not on the PATH"
    assert [path.name for path in home.iterdir()] == ["data"]
    assert [path.name for path in (home / "data").iterdir()] == ["caches"]
    left = [each for each in psutil.process_iter(["cmdline"]) if str(home) in " ".join(each.info["cmdline"] or [])]
    assert left == []
