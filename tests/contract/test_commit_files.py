"""A commit's files on disk are what was committed, byte by byte, whatever attributes and configuration say."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from repositories import FILE, LINK, SUBMODULE, RawRepository, raw_repository

from mlops_core.adapters.local.checkouts import checkout
from mlops_core.adapters.local.source_host import LocalSourceHost
from mlops_core.domain.errors import (
    BadInputError,
    NotFoundError,
    PermanentError,
    RefusedError,
    TemporaryError,
    TooLargeError,
)
from mlops_core.domain.ids import CommitId, ProjectName, RunId
from mlops_core.jobs import git as git_module
from mlops_core.jobs import source as source_module
from mlops_core.jobs.git import git, read_blob
from mlops_core.jobs.source import fetch_commit
from mlops_core.ports import ProjectRecord

ATTRIBUTES = b"""
hidden.txt export-ignore
tests/ export-ignore
version.py export-subst ident
*.bat text eol=crlf
*.csv working-tree-encoding=UTF-16
*.bin filter=lfs diff=lfs merge=lfs -text
"""
FILES = {
    ".gitattributes": ATTRIBUTES,
    "hidden.txt": b"seen",
    "tests/test_x.py": b"def test_x(): ...\n",
    "version.py": b'commit = "$Format:%H$" # $Id$\n',
    "run.bat": b"echo\n",
    "table.csv": b"a,b\n1,2\n",
    "weights.bin": b"version https://git-lfs.github.com/spec/v1\n",
    "odd name ä #1.txt": b"",
    "bin/run": b"#!/bin/sh\n",
}
NOT_COMMITS = (
    "", "HEAD", "main", "a" * 39, "a" * 41, "A" * 40, "--output=/tmp/x", "-h", "a" * 40 + "\n", "refs/heads/main",
    "a" * 40 + "^{tree}", "../" + "a" * 37, "\uff10" * 40,
)  # fmt: skip


@pytest.fixture
def repository(tmp_path: Path) -> RawRepository:
    return raw_repository(tmp_path / "x.git")


def read_all(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def project_of(repository: RawRepository, manifest: str = "mlops.yaml") -> ProjectRecord:
    return ProjectRecord(ProjectName("x"), "local", "x", str(repository.path), manifest)


def test_attributes_of_the_repository_neither_leave_out_nor_change_a_file(
    repository: RawRepository, tmp_path: Path
) -> None:
    commit = repository.commit_files(FILES, programs=frozenset({"bin/run"}))
    folder = fetch_commit(repository.path, commit, tmp_path / "out")

    assert read_all(folder) == FILES
    assert (folder / "bin/run").stat().st_mode & 0o777 == 0o755
    assert (folder / "run.bat").stat().st_mode & 0o777 == 0o644


def test_attributes_do_not_reach_the_code_of_a_scoring_script_either(repository: RawRepository, tmp_path: Path) -> None:
    files = {"models/taxi/mlops.yaml": b"x", "models/taxi/.gitattributes": b"* export-ignore\n", "other": b"y"}
    commit = repository.commit_files(files)
    (tmp_path / "code").mkdir()
    checkout(project_of(repository, "models/taxi/mlops.yaml"), CommitId(commit), tmp_path / "code")

    assert read_all(tmp_path / "code") == {"mlops.yaml": b"x", ".gitattributes": b"* export-ignore\n"}


def test_a_submodule_is_an_empty_folder(repository: RawRepository, tmp_path: Path) -> None:
    modules = b'[submodule "m"]\n\tpath = m\n\turl = ext::sh -c "touch /tmp/x"\n'
    tree = repository.tree((FILE, ".gitmodules", repository.blob(modules)), (SUBMODULE, "m", "1" * 40))
    folder = fetch_commit(repository.path, repository.commit(tree), tmp_path / "out")

    assert list((folder / "m").iterdir()) == []


def test_programs_named_in_the_repositorys_own_configuration_do_not_run(
    repository: RawRepository, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    touch = f"touch {canary}"
    commit = repository.commit_files(FILES)
    (repository.path / "hooks").mkdir()
    for hook in ("post-checkout", "pre-auto-gc", "reference-transaction", "post-index-change"):
        (repository.path / "hooks" / hook).write_text(f"#!/bin/sh\n{touch}\n")
        (repository.path / "hooks" / hook).chmod(0o755)
    for key in (
        "core.fsmonitor", "core.sshCommand", "core.pager", "pager.ls-tree", "core.alternateRefsCommand", "core.editor",
        "filter.lfs.smudge", "filter.lfs.process", "credential.helper", "alias.ls-tree", "diff.external", "core.askPass",
        "uploadpack.packObjectsHook", "tar.umask.command",
    ):  # fmt: skip
        repository.git("config", key, touch)
    fetch_commit(repository.path, commit, tmp_path / "out")
    source = LocalSourceHost(tmp_path / "statuses")
    source.read_file(project_of(repository), CommitId(commit), "hidden.txt")
    source.heads(project_of(repository))

    assert not canary.exists()


@pytest.mark.parametrize("commit", NOT_COMMITS)
def test_what_is_no_whole_commit_id_never_reaches_git(repository: RawRepository, tmp_path: Path, commit: str) -> None:
    repository.commit_files(FILES)
    source = LocalSourceHost(tmp_path / "statuses")
    project = project_of(repository)
    with pytest.raises(BadInputError, match="is no commit id of 40 or 64"):
        fetch_commit(repository.path, commit, tmp_path / "out")
    with pytest.raises(BadInputError, match="is no commit id of 40 or 64"):
        source.read_file(project, CommitId(commit), "hidden.txt")
    with pytest.raises(BadInputError, match="is no commit id of 40 or 64"):
        source.set_status(project, CommitId(commit), state="pending", description="", run_id=RunId("x-1"))

    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "statuses") == ["x.git"]


def test_a_commit_that_is_not_there_is_named_and_leaves_nothing(repository: RawRepository, tmp_path: Path) -> None:
    tree_only = repository.tree((FILE, "a", repository.blob(b"")))
    for missing in ("1" * 40, tree_only):
        with pytest.raises(PermanentError):
            fetch_commit(repository.path, missing, tmp_path / "out" / "x")

    assert list((tmp_path / "out").iterdir()) == []


def test_a_commit_whose_content_was_lost_is_named_and_leaves_nothing(repository: RawRepository, tmp_path: Path) -> None:
    lost = repository.blob(b"lost")
    commit = repository.commit(repository.tree((FILE, "a", repository.blob(b"kept")), (FILE, "b", lost)))
    (repository.path / "objects" / lost[:2] / lost[2:]).unlink()

    with pytest.raises(PermanentError, match=r"content of 'b' is missing|did not work"):
        fetch_commit(repository.path, commit, tmp_path / "out" / "x")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_and_a_link_are_no_files_to_read(repository: RawRepository) -> None:
    commit = repository.commit_files({"folder/a": b""})
    with pytest.raises(NotFoundError, match="Add the file"):
        read_blob(repository.path, commit, "folder", limit_bytes=100)


def test_a_commit_over_the_limits_is_refused_before_a_file_is_written(
    repository: RawRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository.commit_files({f"{number}": b"x" * 100 for number in range(20)})
    for limit, value in (("_MOST_MEMBERS", 19), ("_MOST_BYTES", 1_999), ("_MOST_LISTING_BYTES", 100)):
        monkeypatch.undo()
        monkeypatch.setattr(source_module, limit, value)
        with pytest.raises(TooLargeError):
            fetch_commit(repository.path, commit, tmp_path / "out" / "x")

    assert list((tmp_path / "out").iterdir()) == []


def test_output_beyond_the_limit_is_not_read_into_memory(repository: RawRepository) -> None:
    """Forty megabytes of zeros are little in the repository; what git prints of it stops at the pipe."""
    large = repository.path.parent / "large"
    with large.open("wb") as file:
        file.truncate(40_000_000)
    one = repository.git("hash-object", "-w", str(large)).strip()
    tracemalloc.start()
    with pytest.raises(TooLargeError, match="more than 1000000 bytes"):
        git(repository.path, "cat-file", "blob", one, limit_bytes=1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 5_000_000


def test_a_git_that_does_not_end_is_stopped(repository: RawRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_module, "_SECONDS", 0.2)
    read_end, write_end = os.pipe()
    with (
        os.fdopen(read_end, "rb") as never,
        pytest.raises(TemporaryError, match="took more than"),
        git_module.git_stream(repository.path, "cat-file", "--batch", asks=never) as output,
    ):
        output.read()
    os.close(write_end)


@pytest.mark.parametrize(
    "address", ["relative.git", "-x.git", "ext::sh -c x", "file:///x.git", "https://github.com/a/b", "../x.git", ""]
)
def test_nothing_but_a_bare_repository_on_this_machine_is_taken_without_listed_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if address.endswith("x.git") and "/" not in address:
        raw_repository(tmp_path / address)

    with pytest.raises((BadInputError, RefusedError)):
        fetch_commit(address, "a" * 40, tmp_path / "out")


def test_a_file_or_a_link_in_place_of_the_repository_is_not_followed(repository: RawRepository, tmp_path: Path) -> None:
    commit = repository.commit_files(FILES)
    (tmp_path / "file.git").write_text(f"gitdir: {repository.path}\n")
    (tmp_path / "link.git").symlink_to(repository.path)

    for name in ("file.git", "link.git"):
        with pytest.raises(NotFoundError, match="no bare repository"):
            fetch_commit(tmp_path / name, commit, tmp_path / "out")


def test_a_link_is_refused_by_name(repository: RawRepository, tmp_path: Path) -> None:
    commit = repository.commit(repository.tree((LINK, "data", repository.blob(b"/etc"))))

    with pytest.raises(BadInputError, match="symbolic link, 'data'"):
        fetch_commit(repository.path, commit, tmp_path / "out")
