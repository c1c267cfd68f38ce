"""
A pipeline of five `python -c pass` steps, each after the one before, against a bare loop of the same five commands.

Warm: the plan is made, the environment is the interpreter at hand. In one process, so that the executor is what is
measured; without a tracking server, and with a real MLflow server in which each step gets a run of its own. Rounds
alternate; the ratio is that of the medians. The target is for the executor alone: MLflow's own time is MLflow's.

    python benchmarks/pipeline_overhead.py [--rounds 15] [--no-tracking]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlops_core.adapters.local.mlflow_server import MlflowServer  # noqa: E402 - after the path
from mlops_core.pipelines.environments import EnvironmentMaker  # noqa: E402 - after the path
from mlops_core.pipelines.executor import Execution, run_pipeline  # noqa: E402
from mlops_core.pipelines.plan import EnvironmentSpec, PipelinePlan, Step, StepInput, StepOutput, StepOutputSource  # noqa: E402
from mlops_core.pipelines.step_process import allowed  # noqa: E402
from mlops_core.pipelines.tracking import MlflowTracking  # noqa: E402

STEPS = 5
TARGET = 1.3
COMMAND = f"{sys.executable} -c pass"


def make_plan() -> PipelinePlan:
    """Chain the steps, so that none can run beside another."""
    steps = []
    for number in range(STEPS):
        source = StepOutputSource(step=f"s{number - 1}", output="out")
        steps.append(
            Step(
                name=f"s{number}",
                kind="command",
                command=COMMAND,
                environment=EnvironmentSpec(name="current", current=True),
                inputs={"previous": StepInput(type="uri_folder", source=source)} if number else {},
                outputs={"out": StepOutput()},
                depends_on=(f"s{number - 1}",) if number else (),
            )
        )
    return PipelinePlan(name="bench", experiment="bench", steps=tuple(steps), source_file="bench.yml")


def bare() -> float:
    """Run the commands one after the other."""
    started = time.perf_counter()
    for _ in range(STEPS):
        subprocess.run(["bash", "-c", COMMAND], check=True)
    return time.perf_counter() - started


def ours(folder: Path, name: str, plan: PipelinePlan, tracking: MlflowTracking | None) -> float:
    """Run the plan in a fresh job folder, with nothing to reuse."""
    execution = Execution(
        folder=folder / name,
        project_root=folder,
        job_name=name,
        tracking=tracking,
        environments=EnvironmentMaker(folder=folder / "environments", inherited={}),
        inherited={"PATH": "/usr/bin:/bin"},
    )
    started = time.perf_counter()
    result = run_pipeline(plan, execution)
    seconds = time.perf_counter() - started
    if result.outcome != "succeeded":
        raise SystemExit(result.reason)
    return seconds


@contextlib.contextmanager
def tracked(folder: Path, *, wanted: bool) -> Iterator[MlflowTracking | None]:
    """Start an MLflow server for the length of the block."""
    if not wanted:
        yield None
        return
    server = MlflowServer(folder / "mlflow", environment=allowed(os.environ))  # noqa: TID251 - of the server
    server.start()
    try:
        tracking = MlflowTracking(server.wait_until_ready(), "bench")
        yield tracking
        tracking.close()
    finally:
        server.stop()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-tracking", action="store_true", help="leave out the variant with a tracking server")
    table.add_option(parser)
    given = parser.parse_args()
    plan = make_plan()
    times: dict[str, list[float]] = {"bare": [], "ours": [], "tracked": []}
    with tempfile.TemporaryDirectory() as name, tracked(Path(name), wanted=not given.no_tracking) as tracking:
        folder = Path(name)
        for number in range(given.rounds + 2):
            each = {}
            # In turns, each first in every other round, so that a busy moment of the machine hits both.
            for variant in ("bare", "ours") if number % 2 else ("ours", "bare"):
                each[variant] = bare() if variant == "bare" else ours(folder, f"job-{number}", plan, None)
            if tracking is not None:
                each["tracked"] = ours(folder, f"tracked-{number}", plan, tracking)
            if number > 1:
                for variant, seconds in each.items():
                    times[variant].append(seconds)
    medians = {variant: statistics.median(values) * 1000 for variant, values in times.items() if values}
    ratio = medians["ours"] / medians["bare"]
    what = f"{STEPS} empty pipeline steps, warm, without a tracking server"
    table.note([table.at_most(what, "a loop of bare subprocesses", TARGET, ratio)], given.rows)
    print(f"{STEPS} empty steps: ours {medians['ours']:.0f} ms, bare {medians['bare']:.0f} ms")
    print(f"ratio {ratio:.2f} (target at most {TARGET}), {given.rounds} rounds, without a tracking server")
    if "tracked" in medians:
        more = (medians["tracked"] - medians["ours"]) / STEPS
        print(f"with a tracking server {medians['tracked']:.0f} ms: {more:.0f} ms more per step, for its MLflow run")


if __name__ == "__main__":
    main()
