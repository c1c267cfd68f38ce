"""
Cold start of the function app in the genuine worker against an app of one bare function, taken in turns.

    python benchmarks/cold_start.py [--tool FOLDER] [--rounds 10]

From the start of the worker's process: to the answer of `/api/health`, whose ratio of medians is to be at most 1.5 with the
settings of either backend, and to the answer of a first signed webhook, whose push is accepted, which pays for everything
that the first real request loads. `--tool` is the folder of the worker's tool; its environment is made where it is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import hmac
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import table

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests"), str(CHECKOUT / "tests" / "azure")]

import azurite  # noqa: E402 - after the path
from functions_host import event_grid  # noqa: E402

from mlops_core.adapters.azure.project_store import TableProjectStore  # noqa: E402
from mlops_core.adapters.azure.tables import StorageAccount, Tables  # noqa: E402
from mlops_core.adapters.local.database import Database  # noqa: E402
from mlops_core.adapters.local.project_store import SqliteProjectStore  # noqa: E402
from mlops_core.domain.ids import ProjectName  # noqa: E402
from mlops_core.ports import ProjectRecord  # noqa: E402

TARGET = 1.5
TOOL = CHECKOUT.parent / "shared" / "functions_worker"
VENV = CHECKOUT / ".headrace" / "worker313"
HEALTH = ["--http", "GET", "/api/health"]
BARE = """import azure.functions as func

app = func.FunctionApp()


@app.route("health", auth_level=func.AuthLevel.ANONYMOUS)
def health(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("{}")
"""
RECORD = ProjectRecord(ProjectName("cold"), "github", "bench/cold", "https://github.com/bench/cold.git")
SECRETS = '{"github": ["secret"]}'


def push(number: int) -> bytes:
    """Make the body of a push that nobody heard of before."""
    commit = f"{number:012x}".ljust(40, "0")
    body = {
        "ref": "refs/heads/main",
        "before": "a" * 40,
        "after": commit,
        "repository": {"full_name": RECORD.repository, "pushed_at": 1_790_000_000},
        "pusher": {"name": "bench"},
        "head_commit": {"id": commit, "message": "Cold", "timestamp": "2026-03-01T12:00:00Z"},
        "commits": [],
    }
    return json.dumps(body).encode()


def webhook(folder: Path, number: int) -> list[str]:
    """Tell the tool to send the delivery of a push."""
    body = push(number)
    file = folder / f"push-{number}.json"
    file.write_bytes(body)
    signature = hmac.new(b"secret", body, hashlib.sha256).hexdigest()
    headers = {"X-GitHub-Event": "push", "X-GitHub-Delivery": str(number), "X-Hub-Signature-256": f"sha256={signature}"}
    given = [item for name, value in headers.items() for item in ("--header", f"{name}: {value}")]
    return ["--http", "POST", "/api/webhooks/github", "--body", str(file), *given]


def local_settings(folder: Path) -> dict[str, str]:
    """Allow the repository in a fresh data folder."""
    data = folder / "data"
    data.mkdir()
    database = Database(data / "headrace.db")
    SqliteProjectStore(database).put(RECORD)
    database.close()
    return {"HEADRACE_DATA": str(data), "HEADRACE_WEBHOOK_SECRETS": SECRETS}


@contextlib.contextmanager
def azure_settings(folder: Path) -> Iterator[dict[str, str]]:
    """Allow the repository in a fresh storage account, and start a topic that takes its events."""
    (folder / "azurite").mkdir()
    with azurite.running(folder / "azurite") as account, event_grid(1, "key") as grid:
        grid.lost = {"Headrace.GitPush"}
        TableProjectStore(Tables(StorageAccount(connection_string=account.connection_string))).put(RECORD)
        names = (
            "SUBSCRIPTION",
            "RESOURCE_GROUP",
            "LOCATION",
            "WORKSPACE",
            "REGISTRY",
            "SERVING_IDENTITY",
            "SERVING_CLIENT_ID",
        )
        yield {
            "HEADRACE_BACKEND": "azure",
            "HEADRACE_STORAGE": account.connection_string,
            "HEADRACE_TOPIC_ENDPOINT": grid.address,
            "HEADRACE_TOPIC_KEY": "key",
            "HEADRACE_WEBHOOK_SECRETS": SECRETS,
            **{f"HEADRACE_{name}": "bench" for name in names},
        }


def first_answer_ms(app: Path, tool: Path, action: list[str], settings: dict[str, str]) -> float:
    """Start a worker, and return how long it takes to its first answer."""
    command = [sys.executable, str(tool / "run_app.py"), str(app), "--venv", str(VENV), "--cold-start", "1", *action]
    environment = [item for name, value in settings.items() for item in ("--env", f"{name}={value}")]
    done = subprocess.run([*command, *environment], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}\n{done.stderr}")
    told = json.loads(done.stdout)["cold_start"]
    if not 200 <= told["http_statuses"][0] < 300:
        raise SystemExit(f"the app answered {told['http_statuses'][0]}, so its start says nothing.")
    return float(told["to_first_http_answer_ms"]["median"])


def make_environment(tool: Path) -> None:
    """Make what the worker runs in, as `requirements.txt` says; anew when that changed."""
    wanted, mark = (CHECKOUT / "requirements.txt").read_text(), VENV / "made-for.txt"
    if mark.exists() and mark.read_text() == wanted:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    subprocess.run(["bash", str(tool / "setup.sh"), str(CHECKOUT), str(VENV)], check=True, capture_output=True)
    mark.write_text(wanted)


def measure(tool: Path, rounds: int) -> dict[str, float]:
    """Start workers in turns; returns the median of each kind of start, in ms."""
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bare = folder / "bare"
        bare.mkdir()
        (bare / "function_app.py").write_text(BARE)
        (bare / "host.json").write_text((CHECKOUT / "host.json").read_text())
        local = local_settings(folder)
        with azure_settings(folder) as azure:
            for number in range(rounds + 1):
                starts = {
                    "bare": (bare, HEALTH, {}),
                    "local health": (CHECKOUT, HEALTH, local),
                    "local webhook": (CHECKOUT, webhook(folder, 2 * number), local),
                    "azure health": (CHECKOUT, HEALTH, azure),
                    "azure webhook": (CHECKOUT, webhook(folder, 2 * number + 1), azure),
                }
                for kind in sorted(starts, reverse=bool(number % 2)):
                    milliseconds = first_answer_ms(starts[kind][0], tool, *starts[kind][1:])
                    if number:  # the first round compiles
                        taken.setdefault(kind, []).append(milliseconds)
    return {kind: statistics.median(values) for kind, values in taken.items()}


def rows(medians: dict[str, float]) -> list[table.Row]:
    """Make the rows of the table."""
    bare = medians["bare"]
    start, against = "cold start in the genuine Functions worker, to the answer of", "a bare one-function app"
    made = []
    for backend in ("local", "azure"):
        made.append(
            table.at_most(f"{start} `/api/health`, {backend}", against, TARGET, medians[f"{backend} health"] / bare)
        )
        ratio = medians[f"{backend} webhook"] / bare
        made.append(table.Row(f"{start} a first signed webhook, {backend}", against, "", f"{ratio:.2f}"))
    return made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", type=Path, default=TOOL)
    parser.add_argument("--rounds", type=int, default=10)
    table.add_option(parser)
    arguments = parser.parse_args()
    if not (arguments.tool / "run_app.py").exists():
        print(f"not measured: the worker's tool is not at '{arguments.tool}'. Name its folder with --tool.")
        return
    make_environment(arguments.tool)
    medians = measure(arguments.tool, arguments.rounds)
    print(
        f"medians of {arguments.rounds}, in ms: " + ", ".join(f"{kind} {value:.0f}" for kind, value in medians.items())
    )
    print("ratios: " + ", ".join(f"{kind} {value / medians['bare']:.2f}" for kind, value in medians.items()))
    table.note(rows(medians), arguments.rows)


if __name__ == "__main__":
    main()
