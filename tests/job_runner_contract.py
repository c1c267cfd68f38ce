"""What every `JobRunner` must do, on real jobs of a real repository. An adapter joins by a class with a `runner`."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from mlops_core.adapters.local.repositories import add_repository
from mlops_core.domain.errors import BadInputError, NotFoundError
from mlops_core.domain.ids import CommitId, JobName, RunId
from mlops_core.manifest import read_manifest
from mlops_core.ports import JobRequest, JobRunner, JobStatus, ProjectRecord

SECONDS = 60.0
PIPELINE = """
type: pipeline
jobs:
  train:
    type: command
    command: echo trained
    environment: {image: python}
"""
MANIFEST = """
project: tiny
build: {test: "%s", environment: current}
train: {pipeline: pipeline.yml, model: tiny}
local: {environments: {"*": current}}
"""


def commit(project: Path) -> CommitId:
    git = ["git", "-C", str(project), "-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "x"], check=True)
    subprocess.run([*git, "push", "--quiet", "headrace", "HEAD:main"], check=True, capture_output=True)
    said = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    return CommitId(said.strip())


def ended(runner: JobRunner, name: JobName) -> JobStatus:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        status = runner.status(name)
        if status is not None and status.outcome is not None:
            return status
        time.sleep(0.05)
    raise AssertionError(f"{name} did not end")


class JobRunnerContract:
    """The suite."""

    @pytest.fixture
    def make_request(self, tmp_path: Path) -> Callable[..., JobRequest]:
        """Give requests for jobs of a tiny repository."""

        def make(
            name: str | None = None,
            *,
            test: str = "echo tested",
            pipeline: str | None = PIPELINE,
            manifest: str = MANIFEST,
        ) -> JobRequest:
            project = tmp_path / "tiny"
            project.mkdir()
            subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(project)], check=True)
            (project / "mlops.yaml").write_text(manifest % test)
            if pipeline is not None:
                (project / "pipeline.yml").write_text(pipeline)
            record: ProjectRecord = add_repository(tmp_path / "data", project, "mlops.yaml")
            return JobRequest(
                name=JobName(name or f"tiny-{uuid.uuid4().hex[:12]}-build"),
                stage="build",
                run_id=RunId("tiny-1"),
                project=record,
                commit=commit(project),
                spec=read_manifest((manifest % test).encode()),
            )

        return make

    def test_a_job_never_heard_of_is_unknown(self, runner: JobRunner) -> None:
        assert runner.status(JobName("nobody-build")) is None
        with pytest.raises(NotFoundError):
            list(runner.log(JobName("nobody-build")))

    def test_what_is_wrong_with_a_commit_is_told(
        self, runner: JobRunner, make_request: Callable[..., JobRequest]
    ) -> None:
        """It is found before anything is submitted, or by the job itself, which then fails."""
        request = make_request(pipeline=None)
        try:
            runner.submit(request)
        except BadInputError as error:
            told = str(error)
        else:
            status = ended(runner, request.name)
            assert status.outcome == "failed"
            told = status.reason

        assert "train.pipeline: there is no 'pipeline.yml' in the repository" in told

    @pytest.mark.slow
    def test_a_job_that_fails_tells_its_reason_and_the_lines_that_matter(
        self, runner: JobRunner, make_request: Callable[..., JobRequest]
    ) -> None:
        request = make_request(test="echo six times nine is not 42; exit 3")
        runner.submit(request)
        status = ended(runner, request.name)

        assert status.outcome == "failed"
        assert "failed" in status.reason
        assert "six times nine is not 42" in status.log_tail

    @pytest.mark.slow
    def test_a_second_submit_finds_the_first_job(
        self, runner: JobRunner, make_request: Callable[..., JobRequest]
    ) -> None:
        request = make_request(test="exit 3")
        runner.submit(request)
        first = ended(runner, request.name)
        runner.submit(replace(request, commit=CommitId("0" * 40)))

        assert ended(runner, request.name) == first

    @pytest.mark.slow
    def test_a_job_succeeds_with_progress_and_log(
        self, runner: JobRunner, make_request: Callable[..., JobRequest]
    ) -> None:
        request = make_request(test="echo 3 tests are good")
        runner.submit(request)
        status = ended(runner, request.name)
        lines = runner.progress(request.name)

        assert status.outcome == "succeeded", status.reason
        assert [line.sequence for line in lines] == list(range(1, len(lines) + 1))
        assert lines
        assert list(runner.progress(request.name, after=len(lines))) == []
        assert b"3 tests are good" in b"".join(runner.log(request.name))

    @pytest.mark.slow
    def test_a_cancelled_job_leaves_no_process(
        self, runner: JobRunner, make_request: Callable[..., JobRequest]
    ) -> None:
        request = make_request(test="sleep 987 & sleep 987")
        runner.submit(request)
        once(sleepers)
        runner.cancel(request.name)

        assert ended(runner, request.name).outcome == "cancelled"
        assert sleepers() == []
        runner.cancel(request.name)
        assert ended(runner, request.name).outcome == "cancelled"


def once(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sleepers(seconds: str = "987") -> list[int]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["cmdline"] == ["sleep", seconds] and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)  # noqa: PERF401 - reads better so
    return found
