"""Every command that the documents show exists, with the options shown; those that need no server are run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from commands import Headrace

from mlops_core.cli.app import app

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").glob("*/README.md"))]
_FENCE = re.compile(r"^```(?:console|sh|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(headrace [^`\n]+)`")
_GROUP = typer.main.get_command(app)


def shown() -> Iterator[tuple[str, str]]:
    """Find each command with its page: lines of console blocks, and commands within sentences."""
    for page in PAGES:
        text, name = page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix()
        found = [line.strip() for block in _FENCE.findall(text) for line in block.replace("\\\n", " ").splitlines()]
        for line in [*found, *_INLINE.findall(_FENCE.sub("", text))]:
            start = re.search(r"(?<!push )(?:(?<=\s)|^)(headrace [a-z].*)", line)
            if start:
                yield name, start[1]


SHOWN = sorted(set(shown()))
MAKE = sorted(
    {
        line
        for page in PAGES
        for block in _FENCE.findall(page.read_text(encoding="utf-8"))
        for line in re.findall(r"^make [a-z]+", block, re.MULTILINE)
    }
)


def words_of(line: str) -> list[str]:
    """Split as a shell does, without comments and what comes after the command."""
    words = shlex.split(line, comments=True)
    ends = [number for number, word in enumerate(words) if word in ("&&", "|", ">", ";", "...")]
    return words[1 : ends[0] if ends else None]


@pytest.mark.parametrize(("page", "line"), SHOWN, ids=[f"{page}: {line}"[:90] for page, line in SHOWN])
def test_a_command_that_is_shown_exists_with_its_options(page: str, line: str) -> None:
    command, words = _GROUP, words_of(line)
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, f"{page} shows '{line}'"
        command = command.commands[words.pop(0)]
    known = {option for each in command.params for option in [*each.opts, *each.secondary_opts]} | {"--help"}
    options = [word.partition("=")[0] for word in words if word.startswith("-") and word != "-"]
    assert not [option for option in options if option not in known], f"{page} shows '{line}'"
    most = sum(1 for each in command.params if each.param_type_name == "argument")
    taking = {name for each in command.params if not getattr(each, "is_flag", False) for name in each.opts}
    given = [
        word
        for number, word in enumerate(words)
        if not (word.startswith("-") and word != "-") and (number == 0 or words[number - 1] not in taking)
    ]
    assert len(given) <= most, f"{page} shows '{line}'"


def test_enough_is_found_for_these_tests_to_mean_something() -> None:
    assert len(SHOWN) > 25
    assert {"make demo", "make test"} <= set(MAKE)


@pytest.mark.parametrize("line", MAKE)
def test_a_make_target_that_is_shown_exists(line: str) -> None:
    assert re.search(rf"^{line.removeprefix('make ')}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's repository: the example without the file that `init` writes."""
    target = tmp_path / "diabetes"
    shutil.copytree(
        ROOT / "examples" / "diabetes",
        target,
        ignore=shutil.ignore_patterns("mlops.yaml", "__pycache__", ".pytest_cache"),
    )
    for words in (["init", "--quiet", "--initial-branch=main"], ["add", "--all"], ["commit", "--quiet", "-m", "First"]):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
        subprocess.run(["git", *identity, *words], cwd=target, check=True)
    return target


@pytest.mark.slow
def test_the_commands_that_need_no_controller_do_what_the_tutorial_says(
    headrace: Headrace, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of docs/tutorial.md: init, validate, add."""
    tutorial = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    lines = [line for block in _FENCE.findall(tutorial) for line in block.splitlines()]
    monkeypatch.chdir(project)

    for line in ("headrace init .", "headrace validate .", "headrace add ."):
        assert line in lines
        done = headrace(*words_of(line))
        assert done.exit_code == 0, f"{line}: {done.stderr}"

    remotes = subprocess.run(["git", "remote"], cwd=project, capture_output=True, text=True, check=True).stdout
    assert remotes == "headrace\n"


@pytest.mark.parametrize("line", ["headrace schema", "headrace --version", "headrace doctor --json", "headrace --help"])
def test_commands_about_the_machine_answer(headrace: Headrace, line: str) -> None:
    done = headrace(*words_of(line))

    assert done.stdout
    assert done.exception is None or isinstance(done.exception, SystemExit)
