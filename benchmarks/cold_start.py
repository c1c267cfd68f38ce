"""
Cold start of the function app in the genuine worker against an app of one bare function, taken in turns.

    python benchmarks/cold_start.py TOOL VENV [ROUNDS]

`TOOL` is the folder of the worker's tool, `VENV` what its `setup.sh` made. From the start of the worker's process: to the
answer of `/api/health`, whose ratio of medians is to be at most 1.5, and to the answer of a first signed webhook, whose
push is accepted, which pays for everything that the first real request loads.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from mlops_core.adapters.local.database import Database
from mlops_core.adapters.local.project_store import SqliteProjectStore
from mlops_core.domain.ids import ProjectName
from mlops_core.ports import ProjectRecord

CHECKOUT = Path(__file__).resolve().parents[1]
HEALTH = ["--http", "GET", "/api/health"]
BARE = """import azure.functions as func

app = func.FunctionApp()


@app.route("health", auth_level=func.AuthLevel.ANONYMOUS)
def health(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("{}")
"""
PUSH = {
    "ref": "refs/heads/main",
    "before": "a" * 40,
    "after": "b" * 40,
    "repository": {"full_name": "bench/cold", "pushed_at": 1_790_000_000},
    "pusher": {"name": "bench"},
    "head_commit": {"id": "b" * 40, "message": "Cold", "timestamp": "2026-03-01T12:00:00Z"},
    "commits": [],
}


def first_answer_ms(app: Path, tool: str, venv: str, action: list[str]) -> float:
    command = [sys.executable, f"{tool}/run_app.py", str(app), "--venv", str(Path(venv).resolve()), "--cold-start", "1"]
    done = subprocess.run([*command, *action], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    return float(told["cold_start"]["to_first_http_answer_ms"]["median"])


def webhook(folder: Path) -> list[str]:
    """Allow a repository in a fresh data folder, and write the delivery of a push to it."""
    data = folder / "data"
    data.mkdir()
    record = ProjectRecord(ProjectName("cold"), "github", "bench/cold", "https://github.com/bench/cold.git")
    SqliteProjectStore(Database(data / "headrace.db")).put(record)
    body = json.dumps(PUSH).encode()
    (folder / "push.json").write_bytes(body)
    signature = hmac.new(b"secret", body, hashlib.sha256).hexdigest()
    settings = {"HEADRACE_DATA": str(data), "HEADRACE_WEBHOOK_SECRETS": '{"github": ["secret"]}'}
    headers = {"X-GitHub-Event": "push", "X-GitHub-Delivery": "1", "X-Hub-Signature-256": f"sha256={signature}"}
    return [
        *("--http", "POST", "/api/webhooks/github", "--body", str(folder / "push.json")),
        *(item for name, value in headers.items() for item in ("--header", f"{name}: {value}")),
        *(item for name, value in settings.items() for item in ("--env", f"{name}={value}")),
    ]


def main(tool: str, venv: str, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare"
        bare.mkdir()
        (bare / "function_app.py").write_text(BARE)
        (bare / "host.json").write_text((CHECKOUT / "host.json").read_text())
        push = webhook(Path(folder))
        cases = [(CHECKOUT, HEALTH), (CHECKOUT, push), (bare, HEALTH)]
        taken = [[first_answer_ms(app, tool, venv, action) for app, action in cases] for _ in range(rounds)]
    health, first, bare_health = (statistics.median(column) for column in zip(*taken, strict=True))
    print(f"medians of {rounds}, in ms: health {health:.0f}, first webhook {first:.0f}, bare app {bare_health:.0f}")
    print(f"ratios: health {health / bare_health:.2f}, first webhook {first / bare_health:.2f}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 10)
