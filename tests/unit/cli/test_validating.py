"""`headrace validate` finds what would fail after minutes of a push, and says where it is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from commands import Headrace

MANIFEST = """\
project: tides
build: {environment: current}
train: {pipeline: pipeline.yml, model: tides}
release:
  serve: {environment: current}
  stages: [{name: production, smoke: {request: request.json}}]
local: {environments: {python: current}}
"""
PIPELINE = "type: pipeline\njobs: {train: {type: command, command: echo x, environment: {image: python}}}\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that is right."""
    made = tmp_path / "tides"
    made.mkdir()
    (made / "mlops.yaml").write_text(MANIFEST)
    (made / "pipeline.yml").write_text(PIPELINE)
    (made / "request.json").write_text('{"input_data": [[1]]}')
    return made


def replaced(project: Path, old: str, new: str) -> None:
    text = (project / "mlops.yaml").read_text()
    assert old in text
    (project / "mlops.yaml").write_text(text.replace(old, new))


def test_what_is_right_is_said_to_be_and_kept_for_the_push(headrace: Headrace, project: Path, tmp_path: Path) -> None:
    done = headrace("validate", str(project))

    assert (done.exit_code, done.stdout) == (0, "✓ mlops.yaml, every file that it names, and the pipeline\n")
    assert list((tmp_path / "data" / "caches" / "plans").rglob("*.json"))
    assert headrace("validate", str(project / "mlops.yaml")).exit_code == 0


def test_problems_are_json_for_programs(headrace: Headrace, project: Path) -> None:
    replaced(project, "local:", "locals:")

    done = headrace("validate", str(project), "--json")

    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert not told["ok"]
    assert [(each["line"], each["key"]) for each in told["problems"]] == [(7, "locals")]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("build: {environment: current}", "build: {environment: e.yml}", "line 2, build.environment: there is no 'e.yml'"),
        ("serve: {environment: current}", "serve: {environment: no.yml}", "line 5, release.serve.environment: there is no"),
        ("{python: current}", "{python: no.txt}", "line 7, local.environments.python: there is no 'no.txt'"),
        ("request: request.json", "request: mlops.yaml", "line 6, release.stages[0].smoke.request: 'mlops.yaml' is no JSON"),
        ("pipeline: pipeline.yml", "pipeline: .", "line 3, train.pipeline: 'tides' is a folder. Name a file."),
        ("model: tides", "model: change-me", "line 3, train.model: 'change-me' stands for a name that is yet to be given"),
    ],
)  # fmt: skip
def test_what_a_push_would_find_late_is_found_with_its_line(
    headrace: Headrace, project: Path, old: str, new: str, sentence: str
) -> None:
    replaced(project, old, new)

    done = headrace("validate", str(project))

    assert done.exit_code == 1
    assert sentence in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("def init(): ...\n", "'score.py' is no scoring script: it must have init() and run()."),
        ("def init(:\n", "'score.py' is no Python: line 1: "),
        ("def init(): ...\nrun = print\n", None),
        ("from shared import *\n", None),
        ("from shared import init, predict as run\n", None),
    ],
)
def test_a_scoring_script_must_have_init_and_run(
    headrace: Headrace, project: Path, script: str, sentence: str | None
) -> None:
    (project / "score.py").write_text(script)
    replaced(project, "serve: {", "serve: {code: score.py, ")

    done = headrace("validate", str(project))

    assert done.exit_code == (1 if sentence else 0)
    assert (sentence or "") in " ".join(done.stderr.split())


def test_a_tab_is_told_with_what_yaml_wants(headrace: Headrace, project: Path) -> None:
    (project / "mlops.yaml").write_text("project: tides\ntrain:\n\tmodel: x\n")

    assert "mlops.yaml line 3: it is not YAML" in (told := headrace("validate", str(project)).stderr)
    assert "spaces, never with tabs" in " ".join(told.split())


def test_a_folder_that_is_not_there_is_no_folder(headrace: Headrace) -> None:
    for command in ("validate", "add", "init"):
        assert "'nowhere' is no folder." in headrace(command, "nowhere").stderr


def test_what_several_steps_share_is_told_once(headrace: Headrace, project: Path) -> None:
    step = "{type: command, command: echo x, environment: 'file:env.yml'}"
    (project / "env.yml").write_text("name: e\nbuild: {path: .}\n")
    (project / "pipeline.yml").write_text(f"type: pipeline\njobs: {{a: {step}, b: {step}}}\n")

    lines = headrace("validate", str(project)).stderr.splitlines()

    assert len(lines) == len(set(lines)) > 0


def test_a_file_that_git_ignores_would_not_come_with_a_push(headrace: Headrace, project: Path) -> None:
    git = ["git", "-C", str(project)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    (project / ".gitignore").write_text("*.json\n")

    done = headrace("validate", str(project))

    assert done.exit_code == 1
    assert "git ignores 'request.json', so a push does not bring it." in " ".join(done.stderr.split())
    subprocess.run([*git, "add", "--force", "request.json"], check=True)
    assert headrace("validate", str(project)).exit_code == 0
