"""
A pipeline of five `python -c pass` steps, each after the one before, against a bare loop of the same five commands.

Warm: the plan is made, the environment is the interpreter at hand. Without a tracking server, and in one process, so that
the executor is what is measured. Rounds alternate; the ratio is that of the medians.

    python benchmarks/pipeline_overhead.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mlops_core.pipelines.environments import EnvironmentMaker  # noqa: E402 - after the path
from mlops_core.pipelines.executor import Execution, run_pipeline  # noqa: E402
from mlops_core.pipelines.plan import EnvironmentSpec, PipelinePlan, Step, StepInput, StepOutput, StepOutputSource  # noqa: E402

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


def ours(folder: Path, number: int, plan: PipelinePlan) -> float:
    """Run the plan in a fresh job folder, with nothing to reuse."""
    execution = Execution(
        folder=folder / f"job-{number}",
        project_root=folder,
        job_name=f"job-{number}",
        environments=EnvironmentMaker(folder=folder / "environments", inherited={}),
        inherited={"PATH": "/usr/bin:/bin"},
    )
    started = time.perf_counter()
    result = run_pipeline(plan, execution)
    seconds = time.perf_counter() - started
    if result.outcome != "succeeded":
        raise SystemExit(result.reason)
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    plan = make_plan()
    times: dict[str, list[float]] = {"bare": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 2):
            each = {"bare": bare(), "ours": ours(Path(folder), number, plan)}
            if number > 1:
                for name, seconds in each.items():
                    times[name].append(seconds)
    medians = {name: statistics.median(values) * 1000 for name, values in times.items()}
    ratio = medians["ours"] / medians["bare"]
    print(f"{STEPS} empty steps: ours {medians['ours']:.0f} ms, bare {medians['bare']:.0f} ms")
    print(f"ratio {ratio:.2f} (target at most {TARGET}), {rounds} rounds, without a tracking server")


if __name__ == "__main__":
    main()
