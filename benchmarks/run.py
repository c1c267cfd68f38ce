"""
Run every benchmark and print what each says.

Each compares with a baseline in the same run, interleaved; absolute numbers depend on the machine, ratios less so.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main() -> int:
    """Run them one after the other. Returns 1 when one of them failed to run."""
    failed = []
    for path in sorted(FOLDER.glob("*.py")):
        if path.name == "run.py":
            continue
        print(f"\n== {path.stem}", flush=True)
        if subprocess.run([sys.executable, str(path)], check=False).returncode != 0:
            failed.append(path.stem)
    if failed:
        print(f"\nfailed to run: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
