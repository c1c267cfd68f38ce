"""The scoring process as its supervisor and its clients meet it: real process, real socket, real signals."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops_core.serving.digest import tree_digest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60.0
SCRIPT = """
import json, os, sys, time
from pathlib import Path

def init():
    global factor
    factor = float(Path(os.environ["AZUREML_MODEL_DIR"], "factor.txt").read_text())
    while Path("hold").exists():
        time.sleep(0.01)
    if Path("broken").exists():
        raise RuntimeError("the weights are torn")

def run(raw_data):
    assert isinstance(raw_data, str)
    data = json.loads(raw_data)["data"]
    Path("started").touch()
    while Path("slow").exists():
        time.sleep(0.01)
    return [factor * value for value in data]
"""


class Process:
    """A scoring process on a free port."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port_file = folder / f"port-{len(list(folder.glob('port-*')))}"
        command = [sys.executable, "-m", "mlops_core.serving", "--port", "0", "--port-file", str(self.port_file)]
        self.log = folder / "log.txt"
        self.temporary = temporary = folder / "temporary"
        temporary.mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, "TMPDIR": str(temporary)},  # noqa: TID251 - a real process
            )
        poll(lambda: self.port_file.exists() or self.process.poll() is not None)
        assert self.port_file.exists(), self.log.read_text()
        self.port = int(self.port_file.read_text())

    def ask(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> tuple[int, dict[str, str], Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        with contextlib.closing(connection):
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": content_type})
            response = connection.getresponse()
            raw = response.read()
            is_json = response.headers["content-type"].startswith("application/json")
            headers = {name.lower(): value for name, value in response.headers.items()}
            return response.status, headers, json.loads(raw) if is_json else raw.decode()

    def score(self, body: Any, content_type: str = "application/json") -> tuple[int, dict[str, str], Any]:
        return self.ask("POST", "/score", body, content_type)

    def wait_ready(self) -> Process:
        poll(lambda: self.ask("GET", "/health/ready")[0] == 200)
        return self

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


def poll(condition: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    code = tmp_path / "code"
    code.mkdir()
    (code / "score.py").write_text(SCRIPT)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "factor.txt").write_text("2")
    return code


@pytest.fixture
def started() -> Iterator[list[Process]]:
    processes: list[Process] = []
    yield processes
    for one in processes:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait(SECONDS)


def start(started: list[Process], script: Path, *arguments: str) -> Process:
    model = str(script.parent / "model")
    started.append(Process(script.parent, "--model", model, "--code", str(script / "score.py"), *arguments))
    return started[-1]


def test_a_scoring_script_is_served_as_azure_serves_it(script: Path, started: list[Process]) -> None:
    process = start(started, script, "--name", "doubler", "--version", "4").wait_ready()
    status, headers, answer = process.score({"data": [1, 2]}, content_type="text/plain")
    assert (status, answer) == (200, [2.0, 4.0])
    assert headers["x-headrace-model-version"] == "4"
    assert len(headers["x-headrace-prediction-id"]) == 32


def test_a_script_that_raises_gives_an_error_id_that_the_log_explains(script: Path, started: list[Process]) -> None:
    process = start(started, script).wait_ready()
    status, _, answer = process.score({"wrong": 1})
    assert (status, answer["kind"]) == (500, "model_raised")
    assert "KeyError" not in answer["error"]
    log = process.log.read_text()
    assert answer["error_id"] in log
    assert "KeyError" in log
    assert process.score({"data": [1]})[0] == 200


def test_the_port_answers_while_the_model_loads(script: Path, started: list[Process]) -> None:
    (script / "hold").touch()
    process = start(started, script)
    assert process.ask("GET", "/health/live")[0] == 200
    status, _, answer = process.ask("GET", "/health/ready")
    assert (status, answer["status"]) == (503, "not ready")
    status, headers, _ = process.score({"data": [1]})
    assert (status, headers["retry-after"]) == (503, "1")
    (script / "hold").unlink()
    process.wait_ready()


def test_a_model_that_cannot_be_loaded_is_reported_and_ends_the_process(script: Path, started: list[Process]) -> None:
    (script / "hold").touch()
    (script / "broken").touch()
    process = start(started, script, "--linger-seconds", "2")
    (script / "hold").unlink()
    poll(lambda: "the weights are torn" in process.ask("GET", "/health/ready")[2]["reason"])
    assert process.process.wait(SECONDS) == 3


def test_requests_in_flight_are_answered_after_sigterm(script: Path, started: list[Process]) -> None:
    """And after another, of a supervisor that was started again meanwhile."""
    process = start(started, script).wait_ready()
    (script / "slow").touch()
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(process.score({"data": [3]})))
    asking.start()
    poll((script / "started").exists)
    for _ in range(2):
        process.process.send_signal(signal.SIGTERM)
        poll(lambda: not accepts(process.port))
    with pytest.raises(subprocess.TimeoutExpired):
        process.process.wait(0.5)
    (script / "slow").unlink()
    asking.join(SECONDS)
    assert answers[0][0] == 200
    assert answers[0][2] == [6.0]
    assert process.process.wait(SECONDS) == 0


def test_the_deadline_ends_a_model_that_hangs(script: Path, started: list[Process]) -> None:
    process = start(started, script, "--drain-seconds", "0.3").wait_ready()
    (script / "slow").touch()
    with socket.create_connection(("127.0.0.1", process.port)) as connection:
        connection.sendall(b'POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{"data": [1]}')
        poll((script / "started").exists)
        assert process.stop() == 0


def test_limits_of_a_request_are_told_by_status(script: Path, started: list[Process]) -> None:
    process = start(started, script, "--max-body-bytes", "100", "--request-timeout-seconds", "0.2").wait_ready()
    assert process.score(b"x" * 101)[0] == 413
    (script / "slow").touch()
    assert process.score({"data": [1]})[0] == 504
    (script / "slow").unlink()
    assert process.ask("GET", "/score")[0] == 405
    assert process.ask("GET", "/nothing")[0] == 404
    assert 'headrace_scoring_errors_total{kind="timeout"} 1.0' in process.ask("GET", "/metrics")[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlops_core.serving", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)


def test_the_app_imports_nothing_heavy_and_nothing_else_of_the_project() -> None:
    code = "import sys, mlops_core.serving.__main__\nprint(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    loaded = set(printed.split())
    assert not loaded & {"numpy", "pandas", "mlflow", "sklearn", "yaml", "pydantic", "fastapi"}
    assert all(name.startswith("mlops_core.serving") for name in loaded if name.startswith("mlops_core."))


def test_a_port_in_use_is_one_sentence(script: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("--model", str(script.parent / "model"), "--code", str(script / "score.py"), "--port", str(port))
    assert ended.returncode == 1
    assert ended.stderr == (
        f"Port {port} on 127.0.0.1 is in use. Give another with --port, or --port 0 for a free one.\n"
    )


def test_an_inherited_socket_is_served(script: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code, model = str(script / "score.py"), str(script.parent / "model")
        command = [sys.executable, "-m", "mlops_core.serving", "--code", code, "--model", model]
        fd = listener.fileno()
        process = subprocess.Popen([*command, "--fd", str(fd)], cwd=ROOT, pass_fds=[fd], stderr=subprocess.DEVNULL)
        try:
            connection = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=SECONDS)
            connection.request("GET", "/health/live")
            assert connection.getresponse().status == 200
            connection.close()
        finally:
            process.terminate()
            assert process.wait(SECONDS) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def run(raw_data): return 1", "has no function init()"),
        ("def init(: pass", "line 1: "),
        ("from azureml.contrib.services.aml_request import rawhttp", "only Azure's server has"),
        ("def init(): raise ValueError('no weights')\ndef run(d): return d", "ValueError: no weights"),
    ],
)
def test_check_says_what_is_wrong_with_a_script(script: Path, text: str, words: str) -> None:
    (script / "score.py").write_text(text)
    ended = run("--check", "--code", str(script / "score.py"), "--model", str(script.parent / "model"))
    assert ended.returncode == 1
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_model_of_another_digest_is_refused_before_any_of_its_code_runs(script: Path) -> None:
    model = script.parent / "model"
    arguments = ["--check", "--code", str(script / "score.py"), "--model", str(model), "--digest"]
    assert run(*arguments, tree_digest(model)).returncode == 0
    (script / "score.py").write_text("raise SystemExit('code ran')")
    ended = run(*arguments, "sha256:" + "0" * 64)
    assert ended.returncode == 1
    assert "it was not loaded" in ended.stderr
    assert "code ran" not in ended.stderr


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("inside", "options"),
    [
        ("factor.txt", []),
        ("model/factor.txt", []),
        ("weights/factor.txt", ["--model-folder", "weights"]),
        ("factor.txt", ["--model-folder", "factor.txt"]),
        ("factor.txt", ["--model", "THE FILE"]),
    ],
)
def test_a_script_finds_the_model_where_azure_would_put_it(
    script: Path, started: list[Process], inside: str, options: list[str]
) -> None:
    """A registered folder below its own name, a registered file at the top."""
    (script / "score.py").write_text(SCRIPT.replace('"factor.txt"', repr(inside)))
    options = [option.replace("THE FILE", str(script.parent / "model" / "factor.txt")) for option in options]
    links = ["--model-links", str(script.parent / "links")]
    process = start(started, script, *options, *links).wait_ready()
    assert process.score({"data": [1]})[2] == [2.0]


def test_links_that_were_made_for_a_process_go_with_it(script: Path, started: list[Process]) -> None:
    process = start(started, script).wait_ready()
    assert len(list(process.temporary.iterdir())) == 1
    assert process.stop() == 0
    assert list(process.temporary.iterdir()) == []


def test_a_script_finds_the_model_below_the_root_that_it_was_given(script: Path, started: list[Process]) -> None:
    text = SCRIPT.replace('"factor.txt"', '"model", "factor.txt"')
    (script / "score.py").write_text(text)
    process = start(started, script, "--model-root", str(script.parent)).wait_ready()
    assert process.score({"data": [1]})[2] == [2.0]


@pytest.mark.slow
def test_an_mlflow_model_is_served_with_its_signature(tmp_path: Path, started: list[Process]) -> None:
    save = (
        "import sys, mlflow.sklearn, pandas\nfrom mlflow.models import infer_signature\n"
        "from sklearn.linear_model import LinearRegression\n"
        "x = pandas.DataFrame({'a': [0., 1., 2.], 'b': [1., 0., 0.]})\n"
        "mlflow.sklearn.save_model(LinearRegression().fit(x, x.a * 2 + x.b), sys.argv[1], "
        "signature=infer_signature(x, x.a), pip_requirements=[])"
    )
    folder = tmp_path / "model"
    subprocess.run([sys.executable, "-W", "ignore", "-c", save, str(folder)], check=True, capture_output=True)
    started.append(Process(tmp_path, "--model", str(folder), "--name", "line", "--version", "2"))
    process = started[-1].wait_ready()
    split = {"columns": ["b", "a"], "data": [[1, 2], [0, 1]]}
    assert process.score({"input_data": split})[2] == pytest.approx([5, 2])
    assert process.score({"dataframe_split": split})[2]["predictions"] == pytest.approx([5, 2])
    details = process.ask("POST", "/score?details=true", {"input_data": split})
    assert details[2]["prediction_id"] == details[1]["x-headrace-prediction-id"]
    status, _, refused = process.score({"input_data": {"columns": ["a"], "data": [[1]]}})
    assert (status, refused["problems"][0]["column"]) == (422, "b")
    assert process.score({"input_data": split}, content_type="text/csv")[0] == 415
    assert process.score(b"{")[0] == 400
    schema = process.ask("GET", "/schema")[2]
    example = schema["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert process.score(example)[0] == 200
    assert "curl" in process.ask("GET", "/")[2]
    assert process.stop() == 0
