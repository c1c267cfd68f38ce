"""
Cold start of the function app in the genuine worker against an app of one bare function, taken in turns.

    python benchmarks/cold_start.py TOOL VENV [ROUNDS]

`TOOL` is the folder of the worker's tool, `VENV` what its `setup.sh` made. The aim is a ratio of medians of at most 1.5.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
BARE = """import azure.functions as func

app = func.FunctionApp()


@app.route("health", auth_level=func.AuthLevel.ANONYMOUS)
def health(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("{}")
"""


def first_answer_ms(app: Path, tool: str, venv: str) -> float:
    command = [sys.executable, f"{tool}/run_app.py", str(app), "--venv", str(Path(venv).resolve()), "--cold-start", "1"]
    done = subprocess.run([*command, "--http", "GET", "/api/health"], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["cold_start"]["to_first_http_answer_ms"]["median"])


def main(tool: str, venv: str, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder)
        (bare / "function_app.py").write_text(BARE)
        (bare / "host.json").write_text((CHECKOUT / "host.json").read_text())
        pairs = [(first_answer_ms(CHECKOUT, tool, venv), first_answer_ms(bare, tool, venv)) for _ in range(rounds)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"to the first answer, medians of {rounds}: {ours:.0f} ms, bare {theirs:.0f} ms, ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 10)
