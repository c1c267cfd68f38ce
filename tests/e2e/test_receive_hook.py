"""A real push to the bare repository of a project: stored, told to the controller, printed; and other ways to tell of it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from azure.core.credentials import AzureKeyCredential
from azure.eventgrid import EventGridEvent, EventGridPublisherClient

from mlops_core.adapters.local.repositories import add_repository, webhook_secret
from mlops_core.adapters.local.secret_files import TOPIC_KEY, kept_secret
from mlops_core.domain.errors import BadInputError, RefusedError

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 90.0
# A branch that only builds: its test lasts until the file is there.
MANIFEST = """
project: tiny
build: {test: "%s", environment: current}
train: {pipeline: pipeline.yml, model: tiny}
release: {gates: [{metric: rmse, max: 1}]}
local: {environments: {python: current}}
"""
PIPELINE = "type: pipeline\njobs: {train: {type: command, command: echo x, environment: {image: python}}}\n"


class Laptop:
    """A project and a data folder, whose names need quoting."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "the user's data"
        self.project = folder / "my project"
        self.go = folder / "go"
        self.environment = {**os.environ, "HEADRACE_DATA": str(self.data)}  # noqa: TID251 - of the test's own commands
        self.project.mkdir()
        test = f"sh -c 'while [ ! -e {self.go} ]; do sleep 0.05; done'"
        (self.project / "mlops.yaml").write_text(MANIFEST % test)
        (self.project / "pipeline.yml").write_text(PIPELINE)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("first")

    def command(self, *arguments: str) -> list[str]:
        """A git command in the project."""
        return ["git", "-C", str(self.project), "-c", "user.name=t", "-c", "user.email=t@example.invalid", *arguments]

    def git(self, *arguments: str) -> str:
        """Run git in the project; gives all that it prints."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=SECONDS, check=True)
        return done.stdout + done.stderr

    def commit(self, message: str) -> str:
        """Commit all; gives the id."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD").strip()

    @property
    def address(self) -> str:
        """Where the controller is."""
        return str(json.loads((self.data / "up.json").read_text())["address"])

    def run_of(self, commit: str) -> dict[str, Any] | None:
        """Look for the run of a commit."""
        runs = httpx.get(f"{self.address}/api/runs", timeout=30).json()["runs"]
        return next((run for run in runs if run["trigger"]["commit"] == commit), None)


def wait_for(holds: Callable[[], Any], what: str) -> Any:
    """Look until something holds."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            if found := holds():
                return found
        except (OSError, httpx.TransportError, KeyError, ValueError):
            pass
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come about")


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    return Laptop(tmp_path)


@pytest.fixture
def up(laptop: Laptop) -> Iterator[Laptop]:
    """The laptop with its controller up and its project added, after a push while nothing was up."""
    record = add_repository(laptop.data, laptop.project, "mlops.yaml")
    assert "no controller is up. Start it: headrace up. It will find this push." in laptop.git(
        "push", "headrace", "main:early"
    )
    headrace = [sys.executable, "-m", "mlops_core.cli"]
    process = subprocess.Popen(
        [*headrace, "up", "--port", "0"], cwd=ROOT, env=laptop.environment, stdout=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: httpx.get(f"{laptop.address}/api/runs").is_success, "the controller")
        added = subprocess.run(
            [*headrace, "add", str(laptop.project)], cwd=ROOT, env=laptop.environment, capture_output=True, text=True
        )
        assert added.returncode == 0, added.stderr
        assert record.clone_url in laptop.git("remote", "get-url", "headrace")
        yield laptop
    finally:
        laptop.go.touch()
        subprocess.run([*headrace, "down"], cwd=ROOT, env=laptop.environment, capture_output=True)
        process.terminate()
        process.wait(SECONDS)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_push_prints_its_run_and_ending_it_stops_nothing(up: Laptop) -> None:
    commit = up.commit("second")
    push = subprocess.Popen(
        up.command("push", "headrace", "main:feature"), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert push.stderr is not None
    printed = []
    for line in push.stderr:
        printed.append(line)
        if "building" in line:
            break
    os.killpg(push.pid, signal.SIGINT)
    push.communicate(timeout=SECONDS)

    assert any(line.startswith("remote: run tiny-") for line in printed), printed
    assert up.git("ls-remote", "headrace", "feature").split()[0] == commit
    run = wait_for(lambda: up.run_of(commit), "the run")
    assert run["state"] == "building"
    up.go.touch()
    wait_for(lambda: (up.run_of(commit) or {})["state"] == "built", "the end of the build")

    # An odd branch beside another costs it nothing.
    third = up.commit("third")
    said = up.git("push", "headrace", "main:feature", "main:refs/heads/-odd")
    assert "built" in said, said
    assert wait_for(lambda: up.run_of(third), "the run")["trigger"]["branch"] == "feature"

    # Event Grid's genuine client publishes to the local topic, and the function takes it.
    fourth = up.commit("fourth")
    bare = up.git("remote", "get-url", "headrace").strip()
    up.git(
        "push", "--quiet", "--receive-pack=git -c core.hooksPath=/dev/null receive-pack", "headrace", "main:by-event"
    )
    client = EventGridPublisherClient(
        f"{up.address}/topics/headrace/api/events", AzureKeyCredential(kept_secret(up.data, TOPIC_KEY))
    )
    data = {
        "host": "local", "repository": Path(bare).stem, "ref": "refs/heads/by-event", "commit": fourth, "before": None,
        "pushed_at": datetime.now(UTC).isoformat(), "pushed_by": "ada",
    }  # fmt: skip
    client.send(EventGridEvent("repositories/local", "Headrace.GitPush", data, "1"))
    client.close()
    trigger = wait_for(lambda: up.run_of(fourth), "the run of the event")["trigger"]
    # Who pushed is told by the event only: a look at the branches would not know.
    assert (trigger["branch"], trigger["by"]) == ("by-event", "ada")


def test_adding_a_repository_again_changes_nothing(laptop: Laptop) -> None:
    first = add_repository(laptop.data, laptop.project, "mlops.yaml")
    laptop.git("push", "headrace", "main")
    again = add_repository(laptop.data, laptop.project / ".git" / "..", "mlops.yaml")

    assert again == first
    assert laptop.git("ls-remote", "headrace", "main") != ""


def test_a_push_while_no_controller_is_up_is_stored_and_says_so(laptop: Laptop) -> None:
    add_repository(laptop.data, laptop.project, "mlops.yaml")
    said = laptop.git("push", "headrace", "main")

    assert "remote: stored; no controller is up. Start it: headrace up. It will find this push." in said
    assert laptop.git("ls-remote", "headrace", "main").split()[0] == laptop.git("rev-parse", "HEAD").strip()


def test_a_push_to_a_controller_that_is_gone_is_stored_and_says_so(laptop: Laptop) -> None:
    add_repository(laptop.data, laptop.project, "mlops.yaml")
    (laptop.data / "up.json").write_text(json.dumps({"address": "http://127.0.0.1:9", "pid": 1}))

    said = laptop.git("push", "headrace", "main")
    assert "the controller at http://127.0.0.1:9 does not answer" in said
    assert laptop.git("ls-remote", "headrace", "main") != ""


def test_the_secret_is_the_same_for_all_who_ask_at_once_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        read = list(threads.map(lambda _: webhook_secret(tmp_path / "data"), range(32)))

    assert len(set(read)) == 1
    assert len(read[0]) == 64
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()] == [0o600]


def test_nothing_of_the_secret_or_the_address_is_in_the_repository(laptop: Laptop) -> None:
    record = add_repository(laptop.data, laptop.project, "mlops.yaml")
    secret = webhook_secret(laptop.data)

    files = [path for path in Path(record.clone_url).rglob("*") if path.is_file()]
    assert [path for path in files if secret in path.read_bytes()] == []


def test_what_cannot_be_added_is_refused_with_what_to_do(laptop: Laptop, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"There is no 'other.yaml' .* 'headrace init'"):
        add_repository(laptop.data, laptop.project, "other.yaml")
    (tmp_path / "plain").mkdir()
    with pytest.raises(BadInputError, match=r"is no git repository. Make one there: git init"):
        add_repository(laptop.data, tmp_path / "plain", "mlops.yaml")
    laptop.git("remote", "add", "headrace", "https://example.invalid/x")
    with pytest.raises(RefusedError, match=r"leads to 'https://example.invalid/x'.*remote remove headrace"):
        add_repository(laptop.data, laptop.project, "mlops.yaml")
