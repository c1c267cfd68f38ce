"""
Run every benchmark, print what each says, and the table of docs/benchmarks.md in the end.

Each compares with a baseline in the same run, interleaved; absolute numbers depend on the machine, ratios less so. A
benchmark that cannot run here, such as for want of a tool, says so, and is missing in the table.

    python benchmarks/run.py [NAME ...]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import table

FOLDER = Path(__file__).resolve().parent
_NOT_MEASURING = {"run", "table"}


def names() -> list[str]:
    """List the benchmarks that there are."""
    return [path.stem for path in sorted(FOLDER.glob("*.py")) if path.stem not in _NOT_MEASURING]


def main(chosen: list[str]) -> int:
    """Run them one after the other. Returns 1 when one of them failed to run."""
    unknown = sorted(set(chosen) - set(names()))
    if unknown:
        print(f"There is no benchmark '{unknown[0]}'. There are: {', '.join(names())}.")
        return 1
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder, "rows.jsonl")
        for name in chosen or names():
            started = time.monotonic()
            print(f"\n== {name} (load of the machine before: {os.getloadavg()[0]:.1f})", flush=True)
            command = [sys.executable, str(FOLDER / f"{name}.py"), "--rows", str(rows)]
            if subprocess.run(command, check=False).returncode != 0:
                failed.append(name)
            print(f"   took {time.monotonic() - started:.0f} s", flush=True)
        print(f"\n{table.to_markdown(table.read(rows))}")
    if failed:
        print(f"\nfailed to run: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
