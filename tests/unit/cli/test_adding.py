"""`headrace add`: which repository and `mlops.yaml` are meant, and what would make the first push disappoint."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from commands import Headrace

from mlops_core.adapters.local.repositories import main_branch_of

MANIFEST = "project: {name}\ntrain: {{pipeline: pipeline.yml, model: {name}}}\n"


def git(repository: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.invalid")
    command = ["git", *identity, "-C", str(repository), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def made(place: Path, *, branch: str = "main") -> Path:
    """A repository with one commit."""
    place.mkdir()
    git(place, "init", "--quiet", f"--initial-branch={branch}")
    declare(place, "tides")
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--message", "First")
    return place


def declare(folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "mlops.yaml").write_text(MANIFEST.format(name=name))


def test_a_repository_that_is_ready_is_added_without_remarks(headrace: Headrace, tmp_path: Path) -> None:
    done = headrace("add", str(made(tmp_path / "tides")))

    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == [
        "project tides added. Deliver it:  git push headrace main",
        "Start the controller first, in another terminal:  headrace up",
    ]


def test_each_project_of_a_monorepo_is_added_by_its_folder_or_its_file(headrace: Headrace, tmp_path: Path) -> None:
    root = made(tmp_path / "mono")
    declare(root / "models" / "höhe", "a")
    declare(root / "models" / "b", "b")

    for path in ("models/höhe", "models/b/mlops.yaml"):
        assert headrace("add", str(root / path)).exit_code == 0
    assert "project tides added" in headrace("add", str(root)).stdout

    remotes = git(root, "remote", "get-url", "headrace")
    assert remotes.endswith(".git")
    assert "There is no 'other.yaml' in" in headrace("add", str(root / "models"), "--file", "other.yaml").stderr


def test_a_declaration_that_is_not_committed_is_remarked(headrace: Headrace, tmp_path: Path) -> None:
    root = made(tmp_path / "tides")
    declare(root, "waves")

    assert "! 'mlops.yaml' is not committed as it is." in headrace("add", str(root)).stdout


def test_a_branch_that_does_not_deliver_is_remarked_with_what_to_push(headrace: Headrace, tmp_path: Path) -> None:
    done = headrace("add", str(made(tmp_path / "tides", branch="master")))

    assert "there is no branch 'main' here, and this is 'master'." in done.stdout
    assert "git push headrace master:main" in done.stdout


def test_a_refused_repository_gets_no_remote(headrace: Headrace, tmp_path: Path) -> None:
    headrace("add", str(made(tmp_path / "tides")))
    other = made(tmp_path / "other")

    refused = headrace("add", str(other))

    assert refused.exit_code == 1
    assert "There is a project 'tides' already" in refused.stderr
    assert git(other, "remote") == ""


def test_a_project_keeps_its_name(headrace: Headrace, tmp_path: Path) -> None:
    root = made(tmp_path / "tides")
    headrace("add", str(root))
    declare(root, "waves")

    refused = headrace("add", str(root))

    assert refused.exit_code == 1
    assert "was added as project 'tides'. A project keeps its name" in refused.stderr


@pytest.mark.parametrize("branch", ["main", "master", "trunk"])
def test_the_branch_that_is_there_delivers(tmp_path: Path, branch: str) -> None:
    root = made(tmp_path / "tides", branch=branch)
    git(root, "checkout", "--quiet", "-B", "main" if branch == "main" else branch)

    assert main_branch_of(root) == branch


def test_the_branch_of_a_clone_is_its_origins_own_and_of_no_repository_main(tmp_path: Path) -> None:
    origin = made(tmp_path / "origin", branch="trunk")
    git(tmp_path, "clone", "--quiet", str(origin), "clone")
    git(tmp_path / "clone", "checkout", "--quiet", "-b", "feature")

    assert main_branch_of(tmp_path / "clone") == "trunk"
    assert main_branch_of(tmp_path) == "main"


def test_a_repository_that_was_moved_keeps_its_twin(headrace: Headrace, tmp_path: Path) -> None:
    root = made(tmp_path / "tides")
    assert headrace("add", str(root)).exit_code == 0
    twin = git(root, "remote", "get-url", "headrace")
    moved = root.rename(tmp_path / "elsewhere")

    done = headrace("add", str(moved))

    assert done.exit_code == 0, done.stderr
    assert git(moved, "remote", "get-url", "headrace") == twin
