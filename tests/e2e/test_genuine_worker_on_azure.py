"""The function app in the genuine worker with the settings of Azure, its records in Azurite and its topic on loopback."""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from azurite import Azurite
from builders import PROJECT

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "azure")]

from functions_host import event_grid  # noqa: E402 - after the path is set
from test_genuine_worker import run, worker  # noqa: E402, F401 - a fixture

from mlops_core.adapters.azure.dead_letters import TableDeadLetters  # noqa: E402 - after the path is set
from mlops_core.adapters.azure.effect_queue import StorageEffectQueue  # noqa: E402 - after the path is set
from mlops_core.adapters.azure.project_store import TableProjectStore  # noqa: E402 - after the path is set
from mlops_core.adapters.azure.run_store import TableRunStore  # noqa: E402 - after the path is set
from mlops_core.adapters.azure.tables import StorageAccount, Tables  # noqa: E402 - after the path is set
from mlops_core.domain.ids import ProjectName, RunId  # noqa: E402 - after the path is set

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

COMMIT = uuid.uuid4().hex + "0" * 8
KEY = "the topic's key"


def settings(storage: Azurite, topic: str) -> list[str]:
    values = {
        "HEADRACE_BACKEND": "azure",
        "HEADRACE_STORAGE": storage.connection_string,
        "HEADRACE_SUBSCRIPTION": "00000000-0000-0000-0000-000000000001",
        "HEADRACE_RESOURCE_GROUP": "group",
        "HEADRACE_LOCATION": "westeurope",
        "HEADRACE_WORKSPACE": "workspace",
        "HEADRACE_TOPIC_ENDPOINT": topic,
        "HEADRACE_TOPIC_KEY": KEY,
        "HEADRACE_REGISTRY": "registry",
        "HEADRACE_SERVING_IDENTITY": "/identity",
        "HEADRACE_SERVING_CLIENT_ID": "client",
        "HEADRACE_WEBHOOK_SECRETS": '{"github": ["secret"]}',
    }
    return [item for name, value in values.items() for item in ("--env", f"{name}={value}")]


def delivery(folder: Path) -> list[str]:
    payload = {
        "ref": "refs/heads/main",
        "before": "0" * 40,
        "after": COMMIT,
        "repository": {"full_name": "acme/worker", "pushed_at": 1_790_000_000},
        "pusher": {"name": "ada"},
        "head_commit": {"id": COMMIT, "message": "First", "timestamp": "2026-03-01T12:00:00Z"},
        "commits": [],
    }
    body = json.dumps(payload).encode()
    (folder / "push.json").write_bytes(body)
    signature = hmac.new(b"secret", body, hashlib.sha256).hexdigest()
    headers = {"x-github-event": "push", "x-github-delivery": "1", "x-hub-signature-256": f"sha256={signature}"}
    given = [item for name, value in headers.items() for item in ("--header", f"{name}: {value}")]
    return ["--http", "POST", "/api/webhooks/github", "--body", str(folder / "push.json"), *given]


def test_webhook_event_message_and_timer_do_their_work_in_tables_and_queues(
    worker: list[str],  # noqa: F811 - the fixture
    storage: Azurite,
    tmp_path: Path,
) -> None:
    account = StorageAccount(connection_string=storage.connection_string)
    tables = Tables(account)
    name = ProjectName("worker")
    TableProjectStore(tables).put(replace(PROJECT, name=name, host="github", repository="acme/worker"))
    runs, run_id = TableRunStore(tables), RunId(f"worker-{COMMIT[:12]}")
    with event_grid(1, KEY) as grid:
        given = settings(storage, grid.address)
        code, view = run(worker, *given, *delivery(tmp_path), "--strict")
        assert code == 0, view
        answer = view["results"][0]["http"]
        assert answer["status"] == 202, answer
        published = next(event for event in grid.published if event["eventType"] == "Headrace.GitPush")

        event = tmp_path / "event.json"
        event.write_text(json.dumps([{**published, "topic": "/topic", "metadataVersion": "1"}] * 2))
        code, view = run(worker, *given, "--eventgrid", "take_git_push", str(event))
        assert code == 0, view
        assert runs.load(run_id).value.state == "received", "taken twice, started once"

        message = tmp_path / "message.txt"
        first = json.dumps({"run_id": run_id, "key": "policy"})
        assert first in messages(account)
        message.write_text(first)
        code, view = run(worker, *given, "--queue", "take_effect", str(message), "--timer", "reconcile")
        assert code == 0, view
        ended = runs.load(run_id).value
    assert ended.state == "failed", "no rights at GitHub were given, so its mlops.yaml cannot be read"
    assert "host 'github', for which nothing is configured here" in ended.reason
    assert [letter.run_id for letter in TableDeadLetters(tables).list().items if letter.run_id == run_id] == [run_id]


def messages(account: StorageAccount) -> list[Any]:
    return [message.content for message in StorageEffectQueue(account).client().receive_messages(max_messages=32)]


def test_settings_that_are_missing_are_all_named_in_the_answer(worker: list[str], tmp_path: Path) -> None:  # noqa: F811 - the fixture
    code, view = run(worker, "--env", "HEADRACE_BACKEND=azure", *delivery(tmp_path))
    answer = view["results"][0]["http"]
    assert (code, answer["status"]) == (0, 409), answer
    for name in ("HEADRACE_SUBSCRIPTION", "HEADRACE_WORKSPACE", "HEADRACE_STORAGE__accountName"):
        assert name in answer["body"]
