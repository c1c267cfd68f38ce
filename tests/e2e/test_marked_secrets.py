"""
RELIABILITY 24 on a laptop: 20 marked secrets of the controller, a project that looks for them, and none of them found.

Looked through: what the controller logs, every file that it keeps (runs, events, queue, registry, jobs and their logs, the
repository with its hook), what it answers, and the arguments and environments of every process that it starts.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from laptop import ROOT, Laptop
from marked import found_below, found_in, marked

SECRETS = [marked(number) for number in range(20)]
S = SECRETS
ENVIRONMENT = {
    "HEADRACE_KEY": S[0],
    "HEADRACE_WEBHOOK_SECRETS": json.dumps({"github": [S[1], S[2]], "gitlab": [S[3]], "gitea": [S[4]]}),
    "HEADRACE_HOSTS": json.dumps({"github": {"token": S[5]}, "bitbucket": {"token": S[6], "user": "ci@example.com"}}),
    "HEADRACE_STORAGE": f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={S[7]}",
    "HEADRACE_TOPIC_KEY": S[8],
    "HEADRACE_LOG_ANALYTICS_KEY": S[9],
    "APPLICATIONINSIGHTS_CONNECTION_STRING": f"InstrumentationKey={S[10]}",
    "AZURE_CLIENT_SECRET": S[11],
    "AWS_SECRET_ACCESS_KEY": S[12],
    "GITHUB_TOKEN": S[13],
    "DATABASE_URL": f"postgresql://ada:{S[14]}@db.example.com/x",
    "MLFLOW_TRACKING_PASSWORD": S[15],
    "SOME_API_KEY": S[16],
    "SMTP_PASSWORD": S[17],
    "KUBECONFIG_TOKEN": S[18],
    "SLACK_WEBHOOK": f"https://hooks.example.com/{S[19]}",
}
MANIFEST = """
project: tiny
build: {environment: current, test: python check.py}
train: {pipeline: pipeline.yml, model: tiny}
release:
  serve: {environment: current}
  stages: [{name: production, smoke: {request: request.json}}]
local: {environments: {python: current}}
"""
PIPELINE = """
type: pipeline
jobs:
  train: {type: command, code: src, command: python train.py, environment: {image: python}}
"""
TRAIN = """
import mlflow, mlflow.sklearn
from sklearn.linear_model import LinearRegression

model = LinearRegression().fit([[1.0], [2.0]], [10.0, 20.0])
mlflow.log_metric("rmse", 0.5)
mlflow.sklearn.log_model(model, name="model", registered_model_name="tiny", pip_requirements=["scikit-learn"])
"""
# What a curious project prints in its tests and in its training: all that its process was given.
CURIOUS = "import os, sys\nprint('arguments', sys.argv, 'environment', dict(os.environ), flush=True)\n"


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    made = Laptop(tmp_path)
    made.environment |= ENVIRONMENT
    (made.project / "src").mkdir(parents=True)
    (made.project / "mlops.yaml").write_text(MANIFEST)
    (made.project / "pipeline.yml").write_text(PIPELINE)
    (made.project / "check.py").write_text(CURIOUS)
    (made.project / "request.json").write_text(json.dumps({"input_data": [[3.0]]}))
    (made.project / "src" / "train.py").write_text(CURIOUS + TRAIN)
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("add", "--all")
    made.git("commit", "--quiet", "--message", "Curious")
    yield made
    made.down()


class Watch(threading.Thread):
    """Looks again and again at every process that the controller started, at its arguments and at its environment."""

    def __init__(self, laptop: Laptop) -> None:
        super().__init__(daemon=True)
        self.looked_at: set[str] = set()
        self.leaks: set[str] = set()
        self._laptop = laptop
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.05):
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error, OSError):
                    self._look(process)

    def _look(self, process: psutil.Process) -> None:
        arguments = process.cmdline()
        controller = self._laptop.controller
        typed = "mlops_core.cli" in arguments or controller is None or process.pid == controller.pid
        if typed or str(self._laptop.data) not in f"{' '.join(arguments)} {process.cwd()} {process.environ()}":
            return
        told = f"{arguments} {process.environ()}".encode()
        program = next((each for each in arguments[1:3] if not each.startswith("-")), arguments[0])
        self.looked_at.add(Path(program).name)
        self.leaks |= {f"{each} in process {arguments[:4]}" for each in found_in(told, SECRETS)}


def up(laptop: Laptop, log: Path) -> None:
    command = [sys.executable, "-m", "mlops_core.cli", "up", "--port", "0"]
    with log.open("ab") as file:
        laptop.controller = subprocess.Popen(
            command, cwd=ROOT, env=laptop.environment, stdout=file, stderr=subprocess.STDOUT
        )
    while laptop.run("projects").returncode != 0:
        assert laptop.controller.poll() is None, log.read_text()


def hook(address: str, body: bytes, secret: str) -> httpx.Response:
    """Tell of a push as GitHub does, signed with a secret."""
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"x-github-event": "push", "x-github-delivery": "d", "x-hub-signature-256": f"sha256={signature}"}
    return httpx.post(f"{address}/api/webhooks/github", content=body, headers=headers, timeout=60)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_marked_secret_is_found_anywhere_on_a_laptop(laptop: Laptop, tmp_path: Path) -> None:
    log, told = tmp_path / "controller.log", []
    watch = Watch(laptop)
    watch.start()
    added = laptop.run("add", str(laptop.project))
    assert added.returncode == 0, added.stderr
    up(laptop, log)
    told.append(laptop.git("push", "headrace", "main"))
    assert "live: http://127.0.0.1:" in told[0], told[0]
    address = str(json.loads((laptop.data / "up.json").read_text())["address"])
    pushed = {"ref": "refs/heads/main", "before": "0" * 40, "after": "a" * 40, "repository": {"full_name": "a/b"}}
    body = json.dumps({**pushed, "head_commit": {"id": "a" * 40, "timestamp": "2026-01-01T00:00:00Z"}}).encode()
    answers = [hook(address, body, S[1]), hook(address, body, S[0]), hook(address, b"{", S[2])]
    assert [answer.status_code for answer in answers] == [404, 401, 400]
    told += [answer.text for answer in answers]
    (laptop.project / "check.py").write_text(CURIOUS + "raise SystemExit(3)\n")
    laptop.git("commit", "--quiet", "--all", "--message", "Broken")
    told.append(laptop.git("push", "headrace", "main"))
    runs = json.loads(laptop.run("runs", "--json").stdout)["runs"]
    for run in runs:
        told += [laptop.run(*words, run["run_id"]).stdout for words in (("show",), ("show", "--json"), ("logs",))]
    for words in (("models", "--json"), ("deployments",), ("dead-letters", "list", "--json"), ("doctor",), ("down",)):
        done = laptop.run(*words)
        told += [done.stdout, done.stderr]
    watch.ended.set()
    watch.join()

    assert [run["state"] for run in runs] == ["failed", "live"]
    assert sum("'PATH'" in text for text in told) >= 2, "the project was curious, and the logs show what it saw"
    # Steps and tests may end between two looks; what they saw of their environment is in the logs.
    assert {"mlops_core.jobs", "mlops_core.serving"} <= watch.looked_at, watch.looked_at
    assert watch.leaks == set()
    assert found_below(laptop.data, SECRETS) == []
    assert found_below(laptop.project, SECRETS) == []
    assert found_in(log.read_bytes(), SECRETS) == []
    assert found_in("\n".join(told).encode(), SECRETS) == []


def test_a_secret_that_is_only_dressed_up_is_found_too(tmp_path: Path) -> None:
    """Negative control: in a file, an address, a header, a compressed row."""
    import base64
    import gzip

    for number, content in enumerate(
        [
            f"x{S[3]}y".encode(),
            base64.b64encode(f"user:{S[3]}".encode()),
            base64.b64encode(f":{S[3]}".encode()),
            gzip.compress(S[3].encode()),
        ]
    ):
        (tmp_path / f"{number}").write_bytes(content)

    assert found_below(tmp_path, SECRETS) == [f"{S[3]} in {number}" for number in range(4)]
