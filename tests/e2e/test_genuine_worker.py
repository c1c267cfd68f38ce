"""
The function app in the genuine worker library of Python 3.13, with what `requirements.txt` installs and nothing else.

The host's side of the conversation is a tool beside the checkout; where it or Python 3.13 is absent, this is skipped.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[2]
TOOL = CHECKOUT.parent / "shared" / "functions_worker"
SAMPLES = CHECKOUT.parent / "shared" / "contracts"
VENV = CHECKOUT / ".headrace" / "worker313"
FUNCTIONS = {
    "decide", "health", "list_dead_letters", "list_deployments", "list_models", "list_projects", "list_runs",
    "list_versions", "reconcile", "reconcile_heads", "replay_dead_letter", "retrain", "rollback", "score",
    "show_dead_letter", "show_log",
    "show_model", "show_progress", "show_run", "take_deployment_event", "take_effect", "take_git_push", "take_ml_event",
    "take_webhook",
}  # fmt: skip


@pytest.fixture(scope="module")
def worker() -> list[str]:
    """The command that runs the app in the worker; its environment is made anew when the requirements change."""
    if not (TOOL / "run_app.py").exists():
        pytest.skip(f"the worker's tool is not at {TOOL}")
    VENV.parent.mkdir(exist_ok=True)
    with (VENV.parent / "worker313.lock").open("a") as lock:
        # Workers of pytest-xdist share the environment: one makes it, the others wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _make_environment()
    return [sys.executable, str(TOOL / "run_app.py"), str(CHECKOUT), "--venv", str(VENV)]


def _make_environment() -> None:
    requirements = (CHECKOUT / "requirements.txt").read_text()
    mark = VENV / "made-for.txt"
    if mark.exists() and mark.read_text() == requirements:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    made = subprocess.run(
        ["bash", str(TOOL / "setup.sh"), str(CHECKOUT), str(VENV)], capture_output=True, text=True, timeout=280
    )
    if "no Python 3.13 found" in made.stderr:
        pytest.skip("there is no Python 3.13 on this machine")
    assert made.returncode == 0, made.stderr
    mark.write_text(requirements)


def run(command: list[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def signed(secret: bytes, body: bytes) -> str:
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def test_every_function_is_indexed_and_passes_the_strict_checks(worker: list[str]) -> None:
    code, view = run(worker, "--strict")

    assert code == 0, view["host_checks"]
    assert {function["name"] for function in view["functions"]} == FUNCTIONS


def test_signed_webhooks_of_a_known_repository_are_accepted_and_others_told_why(
    worker: list[str], tmp_path: Path
) -> None:
    data, body = tmp_path / "data", tmp_path / "body.json"
    data.mkdir()
    (data / "webhook-secret").write_text("a secret")
    pushed = {
        "ref": "refs/heads/main", "before": "0" * 40, "after": "a" * 40, "pushed_at": "2026-03-01T12:00:00+00:00",
        "pushed_by": "ada", "message": "first", "changed": None,
    }  # fmt: skip
    body.write_text(json.dumps({"repository": "diabetes", "pushes": [pushed]}))
    know_project(data)
    hook = ("--http", "POST", "/api/webhooks/local", "--body", str(body))
    signature = f"x-headrace-signature: {signed(b'a secret', body.read_bytes())}"

    code, view = run(worker, "--env", f"HEADRACE_DATA={data}", *hook, "--header", signature, *hook)

    assert code == 0
    accepted, refused = (result["http"] for result in view["results"])
    assert (accepted["status"], refused["status"]) == (202, 401), (accepted, refused)
    assert json.loads(accepted["body"])["runs"][0]["project"] == "diabetes"


def know_project(data: Path) -> None:
    from builders import PROJECT

    from mlops_core.adapters.local.database import Database
    from mlops_core.adapters.local.project_store import SqliteProjectStore

    database = Database(data / "headrace.db")
    SqliteProjectStore(database).put(PROJECT)
    database.close()


def test_a_push_webhook_as_github_sends_it_is_verified_with_the_secret_of_the_settings(
    worker: list[str], tmp_path: Path
) -> None:
    sample = SAMPLES / "webhooks" / "github" / "push.with-new-branch.payload.json"
    if not sample.exists():
        pytest.skip(f"the samples are not at {SAMPLES}")
    settings = ("--env", f"HEADRACE_DATA={tmp_path}", "--env", 'HEADRACE_WEBHOOK_SECRETS={"github": ["s1"]}')
    hook = ("--http", "POST", "/api/webhooks/github", "--body", str(sample), "--header", "x-github-event: push")
    typed = ("--header", "content-type: application/json", "--header", "x-github-delivery: 72d3162e")
    right, wrong = (f"x-hub-signature-256: {signed(key, sample.read_bytes())}" for key in (b"s1", b"s2"))

    _, view = run(worker, *settings, *hook, *typed, "--header", right, *hook, *typed, "--header", wrong)

    answers = [result["http"] for result in view["results"]]
    assert [answer["status"] for answer in answers] == [404, 401]
    assert "Codertocat/Hello-World" in answers[0]["body"], "signed, so it is told that nobody allowed the repository"


def test_events_messages_and_timers_are_taken_and_bad_ones_kept_as_dead_letters(
    worker: list[str], tmp_path: Path
) -> None:
    event, message = tmp_path / "event.json", tmp_path / "message.txt"
    base = {"id": "e1", "topic": "/t", "subject": "s", "eventTime": "2026-03-01T12:00:00Z", "dataVersion": "1",
            "metadataVersion": "1"}  # fmt: skip
    ours = {**base, "eventType": "Microsoft.MachineLearningServices.RunCompleted",
            "data": {"runId": "somebody-elses", "runStatus": "Completed"}}  # fmt: skip
    event.write_text(json.dumps([ours, {**base, "id": "e2", "eventType": "Nobody.Knows", "data": {}}]))
    message.write_text("no effect")

    code, view = run(
        worker, "--env", f"HEADRACE_DATA={tmp_path / 'data'}", "--eventgrid", "take_ml_event", str(event),
        "--queue", "take_effect", str(message), "--timer", "reconcile", "--timer", "reconcile_heads", "--past-due",
        "--http", "GET", "/api/dead-letters", "--header", "x-functions-key: function-key",
    )  # fmt: skip

    assert code == 0, view["results"]
    letters = json.loads(view["results"][-1]["http"]["body"])["dead_letters"]
    assert sorted(letter["subject"] for letter in letters) == ["Nobody.Knows s", "message of the effect queue"]


def test_routes_ask_for_a_function_key_except_webhooks_and_health(worker: list[str], tmp_path: Path) -> None:
    _, view = run(
        worker, "--env", f"HEADRACE_DATA={tmp_path}", "--http", "GET", "/api/runs", "--http", "GET", "/api/health"
    )

    assert [result["http"]["status"] for result in view["results"]] == [401, 200]
