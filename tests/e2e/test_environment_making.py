"""Environments made for real: cached, shared, refused with the installer's words, and ended when the job is to end."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from mlops_core.pipelines.environments import EnvironmentFailedError, EnvironmentMaker, EnvironmentStoppedError
from mlops_core.pipelines.executor import Execution, run_pipeline
from mlops_core.pipelines.plan import EnvironmentSpec, PipelinePlan, Step

pytestmark = pytest.mark.slow

# A package whose build says who it is and then never ends, without asking the network for anything.
BACKEND = """
import os, time
from pathlib import Path

def get_requires_for_build_wheel(config_settings=None):
    Path(__file__).with_name("pid").write_text(str(os.getpid()))
    time.sleep(3_600)
"""
PROJECT = """
[project]
name = "endless"
version = "1"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    folder = tmp_path / "endless"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "backend.py").write_text(BACKEND)
    return folder


@pytest.fixture
def maker(tmp_path: Path) -> EnvironmentMaker:
    return EnvironmentMaker(folder=tmp_path / "environments", inherited=dict(os.environ))  # noqa: TID251 - of the test


def needing(*lines: str) -> EnvironmentSpec:
    return EnvironmentSpec(name="conda.yml", pip_requirements=lines)


def once(condition: Path) -> None:
    deadline = time.monotonic() + 60
    while not condition.exists() or not condition.read_text():
        assert time.monotonic() < deadline, condition
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_an_environment_is_made_once_and_has_pip(maker: EnvironmentMaker) -> None:
    first, second = maker.make(needing()), maker.make(needing())

    assert (first.cached, second.cached) == (False, True)
    assert first.python == second.python
    said = subprocess.run([first.python, "-m", "pip", "--version"], capture_output=True, text=True, check=True).stdout
    assert str(maker.folder) in said


def test_what_cannot_be_installed_is_told_in_the_words_of_the_installer(
    maker: EnvironmentMaker, tmp_path: Path
) -> None:
    with pytest.raises(EnvironmentFailedError, match=r"(?s)'conda\.yml' cannot be made.*absent.*local: \{without"):
        maker.make(needing(f"absent @ file://{tmp_path}/absent"))


def test_two_jobs_that_want_the_same_environment_make_it_once(maker: EnvironmentMaker) -> None:
    told: list[str] = []
    pair = [threading.Thread(target=lambda: maker.make(needing(), tell=told.append)) for _ in range(2)]
    for thread in pair:
        thread.start()
    for thread in pair:
        thread.join(120)

    assert len([text for text in told if "installing 0 requirements" in text]) == 1


def test_a_job_that_is_told_to_end_stops_installing_with_all_that_the_installer_started(
    maker: EnvironmentMaker, endless: Path
) -> None:
    def halt() -> None:
        once(endless / "pid")
        maker.halted.set()

    threading.Thread(target=halt).start()
    with pytest.raises(EnvironmentStoppedError):
        maker.make(needing(f"endless @ file://{endless}"))

    assert not is_running(int((endless / "pid").read_text()))


def test_a_job_that_waits_for_the_installing_of_another_can_be_told_to_end(
    maker: EnvironmentMaker, endless: Path
) -> None:
    wanted = needing(f"endless @ file://{endless}")
    other = replace(maker, halted=threading.Event())
    ended: list[Exception] = []

    def install() -> None:
        try:
            other.make(wanted)
        except EnvironmentStoppedError as error:
            ended.append(error)

    thread = threading.Thread(target=install)
    thread.start()
    once(endless / "pid")
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        maker.halted.set()

    with pytest.raises(EnvironmentStoppedError):
        maker.make(wanted, tell=tell)
    other.halted.set()
    thread.join(60)

    assert told == ["environment 'conda.yml': another job is making it; waits for that"]
    assert len(ended) == 1


def test_the_timeout_of_a_pipeline_counts_while_its_environment_is_made(
    maker: EnvironmentMaker, endless: Path, tmp_path: Path
) -> None:
    step = Step(name="train", kind="command", command="true", environment=needing(f"endless @ file://{endless}"))
    plan = PipelinePlan(name="p", experiment="p", steps=(step,), source_file="p.yml")
    execution = Execution(
        folder=tmp_path / "job", project_root=tmp_path, job_name="job", environments=maker, inherited={},
        timeout_seconds=5,
    )  # fmt: skip
    result = run_pipeline(plan, replace(execution, environments=replace(maker, halted=execution.processes.halted)))

    assert (result.outcome, result.reason) == ("failed", "the pipeline ran into its timeout of 5.0 s")
    assert result.steps["train"].state == "not_run"
