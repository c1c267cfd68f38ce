"""
From `git push` to a live model, minus the time in the project's own code (its tests and steps): what Headrace itself takes.

Pushes examples/diabetes several times, each time with changed code so that no step is reused. The first push, which makes
the environments, does not count. Prints the median of each part in seconds.

    python benchmarks/push_to_live.py [--pushes 3]
"""

from __future__ import annotations

import argparse
import itertools
import re
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlops_core.cli import demo  # noqa: E402 - after the path
from mlops_core.cli.api import Api  # noqa: E402

_TESTS = re.compile(r"^tests: .* in ([\d.]+)s")
_STEP = re.compile(r"^✓ (\S+)  ([\d.]+) s$")


def push(project: Path, number: int) -> float:
    """Change the project, push, and say how long the push took."""
    (project / "README.md").write_text(f"push {number}\n")
    file = project / "azureml" / "pipeline.yml"
    # A comment in the pipeline touches a watched path; another description makes other step keys.
    file.write_text(f"# push {number}\n" + file.read_text())
    for path in sorted((project / "src" / "diabetes").glob("*.py")):
        path.write_text(path.read_text() + f"\n# push {number}\n")
    subprocess.run(["git", "-C", str(project), "add", "--all"], check=True)
    commit = [*demo._AUTHOR, "commit", "--quiet", "--message", f"push {number}"]  # noqa: SLF001 - the demo's own author
    subprocess.run(["git", "-C", str(project), *commit], check=True)
    started = time.perf_counter()
    subprocess.run(["git", "-C", str(project), "push", "--quiet", "headrace", "main"], check=True, capture_output=True)
    return time.perf_counter() - started


def parts(client: Api, run_id: str, total: float) -> dict[str, float]:
    """Split a push's time by what it was spent on."""
    run = client.get(f"/runs/{run_id}")
    spent: dict[str, float] = {"push to live": total}
    lines = client.get(f"/runs/{run_id}/progress", after="")["lines"]
    spent["project: tests"] = sum(float(found[1]) for line in lines if (found := _TESTS.match(line["text"])))
    steps = [float(found[2]) for line in lines if (found := _STEP.match(line["text"]))]
    spent["project: steps"] = sum(steps)
    times = {entry["state"]: datetime.fromisoformat(entry["at"]) for entry in run["states"]}
    order = ["received", "building", "training", "evaluating", "deploying", "rolling_out", "live"]
    for state, following in itertools.pairwise(order):
        spent[f"state {state}"] = (times[following] - times[state]).total_seconds()
    spent["building, without tests"] = spent["state building"] - spent["project: tests"]
    spent["training, without steps"] = spent["state training"] - spent["project: steps"]
    spent["Headrace itself"] = total - spent["project: tests"] - spent["project: steps"]
    return spent


def measure(pushes: int) -> list[dict[str, float]]:
    """Push so often, and give each push's parts."""
    measured = []
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        home = Path(folder)
        with demo._controller(home / "data", keep=False) as client:  # noqa: SLF001 - the same controller as the demo's
            project = home / "diabetes"
            demo._make_project(project)  # noqa: SLF001
            demo._run("add", str(project), "--data", str(home / "data"))  # noqa: SLF001
            for number in range(pushes + 1):
                total = push(project, number)
                run: dict[str, Any] = client.get("/runs", limit=1)["runs"][0]
                if run["state"] != "live":
                    raise SystemExit(f"push {number} ended {run['state']}: {run['reason']}")
                if number:
                    measured.append(parts(client, run["run_id"], total))
    return measured


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pushes", type=int, default=3)
    table.add_option(parser)
    arguments = parser.parse_args()
    measured = measure(arguments.pushes)
    print(f"{len(measured)} pushes of examples/diabetes, environments made, seconds (median)")
    medians = {name: statistics.median(each[name] for each in measured) for name in measured[0]}
    seen = f"{medians['Headrace itself']:.1f} s of {medians['push to live']:.0f} s"
    table.note([table.Row("push to live minus the project's own tests and steps", "", "", seen)], arguments.rows)
    for name in measured[0]:
        print(f"  {name:<26} {medians[name]:7.2f}")


if __name__ == "__main__":
    main()
