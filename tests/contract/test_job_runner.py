"""The contract of `JobRunner` on processes of this machine, and what only they do."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from job_runner_contract import MANIFEST, PIPELINE, JobRunnerContract, commit, ended, once, sleepers

from mlops_core.adapters.local.job_runner import ProcessJobRunner, RunnerOptions
from mlops_core.domain.ids import JobName
from mlops_core.ports import JobRequest, JobStatus


class TestProcessJobRunner(JobRunnerContract):
    @pytest.fixture
    def options(self, tmp_path: Path) -> RunnerOptions:
        return RunnerOptions(
            folder=tmp_path / "jobs",
            caches=tmp_path / "caches",
            inherited={**os.environ, "MARKED_SECRET": "s3cr3t-mark"},  # noqa: TID251 - the environment of the test
        )

    @pytest.fixture
    def runner(self, options: RunnerOptions) -> ProcessJobRunner:
        return ProcessJobRunner(options)

    def test_a_job_is_found_by_another_runner(
        self, runner: ProcessJobRunner, tmp_path: Path, make_request: Callable[..., JobRequest]
    ) -> None:
        request = make_request(pipeline=None)
        runner.submit(request)
        other = ProcessJobRunner(RunnerOptions(folder=tmp_path / "jobs", caches=tmp_path / "caches", inherited={}))

        assert ended(other, request.name).outcome == "failed"

    def test_a_job_tells_of_its_end_and_shows_its_key(
        self, options: RunnerOptions, make_request: Callable[..., JobRequest], tmp_path: Path
    ) -> None:
        (tmp_path / "topic-key").write_text("k3y-mark\n")
        told: list[tuple[str | None, dict[str, str]]] = []

        class Topic(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                told.append((self.headers["aeg-sas-key"], body[0]["data"]))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Topic) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}/"
            runner = ProcessJobRunner(replace(options, events_url=lambda: url, events_key=tmp_path / "topic-key"))
            request = make_request(pipeline=None)
            runner.submit(request)
            once(lambda: told)
            server.shutdown()

        assert told[0][0] == "k3y-mark"
        assert (told[0][1]["runId"], told[0][1]["runStatus"]) == (request.name, "Failed")
        assert "k3y-mark" not in (runner.folder_of(request.name) / "request.json").read_text()

    def test_a_job_whose_start_was_lost_in_a_crash_is_started_once(
        self, runner: ProcessJobRunner, monkeypatch: pytest.MonkeyPatch, make_request: Callable[..., JobRequest]
    ) -> None:
        request = make_request(pipeline=None)
        with monkeypatch.context() as patch:
            patch.setattr(ProcessJobRunner, "_start", lambda *_: None)
            runner.submit(request)
        runner.submit(request)

        assert "there is no 'pipeline.yml'" in ended(runner, request.name).reason

    @pytest.mark.slow
    def test_a_job_that_was_killed_is_failed_and_its_secrets_were_none(
        self, runner: ProcessJobRunner, make_request: Callable[..., JobRequest]
    ) -> None:
        request = make_request(test="env; echo ready; sleep 986")
        runner.submit(request)
        folder = runner.folder_of(request.name)
        once(lambda: (folder / "tests.txt").exists() and "ready" in (folder / "tests.txt").read_text())
        assert "s3cr3t-mark" not in (folder / "tests.txt").read_text()
        process_of(folder).kill()
        (folder / "started").write_text("0")

        assert "died (killed, or out of memory)" in ended(runner, request.name).reason
        # What it had started would write beside the next job of the run.
        assert sleepers("986") == []

    @pytest.mark.slow
    def test_a_job_outlives_the_controller_that_started_it_and_is_found_again(
        self, options: RunnerOptions, make_request: Callable[..., JobRequest], tmp_path: Path
    ) -> None:
        request = make_request(test=f"until test -e {tmp_path}/go; do sleep 0.1; done; echo 5 tests are good")
        (tmp_path / "request").write_bytes(pickle.dumps(request))
        controller = subprocess.run(
            [sys.executable, "-c", CONTROLLER, str(tmp_path)], start_new_session=True, check=False
        )
        assert controller.returncode == -signal.SIGKILL
        later = ProcessJobRunner(options)
        folder = later.folder_of(request.name)
        once((folder / "tests.txt").exists)
        running = later.status(request.name)
        (tmp_path / "go").touch()

        assert running == JobStatus(request.name, None)
        assert ended(later, request.name).outcome == "succeeded"
        assert "tests: 5 tests are good" in [line.text for line in later.progress(request.name)]

    @pytest.mark.slow
    def test_the_tests_see_also_what_azure_ml_would_not_upload(
        self, runner: ProcessJobRunner, make_request: Callable[..., JobRequest], tmp_path: Path
    ) -> None:
        request = make_request(test="test -e tests/test_it.py")
        project = tmp_path / "tiny"
        (project / "tests").mkdir()
        (project / "tests" / "test_it.py").touch()
        (project / ".amlignore").write_text("tests\n")
        runner.submit(replace(request, commit=commit(project)))

        assert ended(runner, request.name).outcome == "succeeded"

    @pytest.mark.slow
    def test_a_cancelled_job_leaves_none_that_went_into_a_session_of_its_own(
        self, runner: ProcessJobRunner, make_request: Callable[..., JobRequest]
    ) -> None:
        request = make_request(test="(setsid sleep 985 &); sleep 985")
        runner.submit(request)
        once(lambda: len(sleepers("985")) == 2)
        runner.cancel(request.name)

        assert sleepers("985") == []

    @pytest.mark.slow
    def test_jobs_beyond_those_at_once_wait_and_say_for_how_many(
        self, options: RunnerOptions, make_request: Callable[..., JobRequest], tmp_path: Path
    ) -> None:
        one = ProcessJobRunner(replace(options, at_once=1))
        first = make_request(test=f"until test -e {tmp_path}/go; do sleep 0.1; done")
        second, third = (replace(first, name=JobName(f"tiny-{number}-build")) for number in (2, 3))
        for request in (first, second, third):
            one.submit(request)
            once(lambda request=request: one.progress(request.name))  # type: ignore[misc]
        one.cancel(second.name)
        once(lambda: len(one.progress(third.name)) == 2)
        said = {request.name: [line.text for line in one.progress(request.name)] for request in (second, third)}
        (tmp_path / "go").touch()

        assert said[second.name] == ["waits for 1 other job (1 at once)"]
        assert said[third.name] == ["waits for 2 other jobs (1 at once)", "waits for 1 other job (1 at once)"]
        assert [ended(one, each.name).outcome for each in (first, second, third)] == [
            "succeeded",
            "cancelled",
            "succeeded",
        ]

    @pytest.mark.slow
    def test_the_timeout_of_a_job_counts_while_its_environment_is_made(
        self, runner: ProcessJobRunner, make_request: Callable[..., JobRequest], tmp_path: Path
    ) -> None:
        endless = tmp_path / "endless"
        endless.mkdir()
        (endless / "pyproject.toml").write_text(ENDLESS)
        (endless / "backend.py").write_text("import time\ntime.sleep(3_600)\n")
        manifest = MANIFEST.replace("build: {", "build: {timeout: 6s, ").replace("current}}", "needs.txt}}")
        request = make_request(manifest=manifest, pipeline=PIPELINE.replace("python}", "of-our-own}"))
        project = tmp_path / "tiny"
        (project / "needs.txt").write_text(f"endless @ file://{endless}\n")
        runner.submit(replace(request, commit=commit(project)))

        assert ended(runner, request.name).reason == "the build job ran into its timeout of 6.0 s"


# Killed with its whole process group as soon as the job is on its way.
CONTROLLER = """
import os, pickle, signal, sys
from pathlib import Path
from mlops_core.adapters.local.job_runner import ProcessJobRunner, RunnerOptions

folder = Path(sys.argv[1])
options = RunnerOptions(folder=folder / "jobs", caches=folder / "caches", inherited=dict(os.environ))
ProcessJobRunner(options).submit(pickle.loads((folder / "request").read_bytes()))
os.killpg(0, signal.SIGKILL)
"""
ENDLESS = """
[project]
name = "endless"
version = "1"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def process_of(folder: Path) -> psutil.Process:
    return next(each for each in psutil.process_iter(["cmdline"]) if str(folder) in (each.info["cmdline"] or []))
