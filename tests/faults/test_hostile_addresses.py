"""Test 21: hostile clone addresses connect to nothing that is not allowed, and run nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from git_servers import GitHost, Trap, git_host
from hostile_addresses import LISTED, hostile_addresses
from repositories import RawRepository, raw_repository

from mlops_core.adapters.local.source_host import LocalSourceHost
from mlops_core.domain.errors import HeadraceError, PermanentError, RefusedError, TooLargeError
from mlops_core.domain.ids import CommitId, ProjectName
from mlops_core.jobs import source as source_module
from mlops_core.jobs.addresses import LocalRepository, RemoteRepository, clone_address
from mlops_core.jobs.git import fetch_remote
from mlops_core.jobs.source import fetch_commit
from mlops_core.ports import ProjectRecord

COMMIT = "a" * 40
REDIRECTS = (301, 302, 303, 307, 308)


@pytest.fixture
def trap() -> Iterator[Trap]:
    made = Trap()
    yield made
    made.close()


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def served(tmp_path: Path) -> RawRepository:
    (tmp_path / "served").mkdir()
    return raw_repository(tmp_path / "served" / "x.git")


@pytest.fixture
def host(tmp_path: Path, served: RawRepository) -> Iterator[GitHost]:
    with git_host(served.path.parent, tmp_path) as started:
        yield started


_seen: list[str] = []
_watching: list[bool] = []
_NOTICED = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "socket.getaddrinfo")


def _notice(event: str, _arguments: tuple[object, ...]) -> None:
    if _watching and event in _NOTICED:
        _seen.append(event)


@cache
def _install() -> None:
    """An audit hook stays for ever, so one is enough."""
    sys.addaudithook(_notice)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Notice every process that this one starts and every connection that it asks for."""
    _install()
    _seen.clear()
    _watching.append(True)
    try:
        yield _seen
    finally:
        _watching.clear()


def test_there_are_two_hundred_hostile_addresses_of_every_kind(canary: Path) -> None:
    made = hostile_addresses(1, canary)

    assert len(made) >= 200
    assert len({address for _, address in made}) == len(made)
    assert len({kind for kind, _ in made}) == 10


def test_no_hostile_address_starts_a_process_or_asks_for_a_connection(
    trap: Trap, canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    raw_repository(tmp_path / "x.git")
    source = LocalSourceHost(tmp_path / "statuses")
    taken: list[str] = []
    with watched() as seen:
        for _, address in hostile_addresses(trap.port, canary):
            project = ProjectRecord(ProjectName("x"), "local", "x", address)
            for ask in (
                lambda: fetch_commit(address, COMMIT, tmp_path / "out", hosts=[LISTED]),  # noqa: B023 - called at once
                lambda: source.read_file(project, CommitId(COMMIT), "mlops.yaml"),  # noqa: B023 - called at once
                lambda: source.heads(project),  # noqa: B023 - called at once
            ):
                try:
                    ask()
                except HeadraceError:
                    continue
                taken.append(address)

    assert (taken, seen, trap.connections) == ([], [], 0)
    assert not canary.exists()
    assert not (tmp_path / "out").exists()


def test_errors_show_a_hostile_address_in_one_line_and_without_its_password(canary: Path) -> None:
    for _, address in hostile_addresses(1, canary):
        with pytest.raises(HeadraceError) as caught:
            clone_address(address, hosts=[LISTED])
        text = str(caught.value)
        assert text.isprintable()
        assert text.isascii() or address.startswith("/")
        assert "secret" not in text
        assert len(text) < 400


def test_git_itself_connects_to_nothing_and_runs_nothing_where_the_decision_is_left_out(
    trap: Trap, canary: Path, tmp_path: Path
) -> None:
    """The second wall: whatever is no https reaches neither a program nor a socket, even as git's own argument."""
    samples = [
        address for _, address in hostile_addresses(trap.port, canary)
        if "\0" not in address and not address.lower().startswith("https:")
    ]  # fmt: skip
    for number, address in enumerate(samples):
        with pytest.raises(PermanentError):
            fetch_remote(RemoteRepository(address), COMMIT, tmp_path / f"{number}.git", limit_bytes=1_000_000)

    assert len(samples) > 100
    assert trap.connections == 0
    assert not canary.exists()


def test_without_these_walls_the_same_addresses_reach_the_trap_and_the_canary(
    trap: Trap, canary: Path, tmp_path: Path
) -> None:
    """The negative control: git as it comes."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_ALLOW_PROTOCOL": "ext:http:git"}  # noqa: TID251 - of the test's own git
    for address in (f"http://127.0.0.1:{trap.port}/a/b", f"git://127.0.0.1:{trap.port}/a/b", f"ext::touch {canary}"):
        subprocess.run(["git", "ls-remote", address], cwd=tmp_path, env=environment, capture_output=True, timeout=60)

    assert trap.connections >= 2
    assert canary.exists()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (f"https://{LISTED}/a/b.git", f"https://{LISTED}/a/b.git"),
        ("HTTPS://Code.Example.com:443/a/B", f"https://{LISTED}/a/B"),
        (f"https://{LISTED}/acme/Fare%20%26%20Price/_git/x", f"https://{LISTED}/acme/Fare%20%26%20Price/_git/x"),
        (f"https://{LISTED}/~me/gr%C3%BCn", f"https://{LISTED}/~me/gr%C3%BCn"),
        ("https://git.acme.test:8443/scm/a/b.git", "https://git.acme.test:8443/scm/a/b.git"),
    ],
)
def test_genuine_addresses_of_listed_hosts_are_allowed(text: str, url: str) -> None:
    assert clone_address(text, hosts=[LISTED, "git.acme.test:8443"]) == RemoteRepository(url)


def test_a_registered_repository_on_this_machine_is_allowed(served: RawRepository) -> None:
    assert clone_address(str(served.path)) == LocalRepository(served.path)


def test_a_host_that_nobody_listed_is_refused_with_its_name() -> None:
    with pytest.raises(RefusedError, match=r"Nothing is fetched from 'github.com': .*\(code.example.com\)"):
        clone_address("https://github.com/a/b", hosts=[LISTED])


def test_one_commit_is_fetched_by_its_id_from_a_listed_host(
    host: GitHost, served: RawRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(monkeypatch, host)
    commit = served.commit_files({"a/b.txt": b"x", ".gitattributes": b"* export-ignore\n"})
    folder = fetch_commit(f"https://{host.name}/x.git", commit, tmp_path / "out" / "x", hosts=[host.name])

    assert (folder / "a/b.txt").read_bytes() == b"x"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x"]
    with pytest.raises(PermanentError):
        fetch_commit(f"https://{host.name}/x.git", COMMIT, tmp_path / "other", hosts=[host.name])


def trust(monkeypatch: pytest.MonkeyPatch, host: GitHost) -> None:
    """Let the fetching of sources know the certificate of the test's own host."""

    def fetch(address: RemoteRepository, commit: str, repository: Path, *, limit_bytes: int) -> None:
        fetch_remote(address, commit, repository, limit_bytes=limit_bytes, authority=host.certificate)

    monkeypatch.setattr(source_module, "fetch_remote", fetch)


def test_a_host_whose_certificate_is_not_trusted_gets_no_request(
    host: GitHost, served: RawRepository, tmp_path: Path
) -> None:
    commit = served.commit_files({"a": b"x"})
    with pytest.raises(PermanentError, match="certificate"):
        fetch_commit(f"https://{host.name}/x.git", commit, tmp_path / "out", hosts=[host.name])

    assert host.asked == []


def test_a_listed_host_cannot_send_git_on_to_another_address(
    host: GitHost, trap: Trap, canary: Path, served: RawRepository, tmp_path: Path
) -> None:
    targets = (
        f"http://127.0.0.1:{trap.port}/x.git", f"https://127.0.0.1:{trap.port}/x.git", f"git://127.0.0.1:{trap.port}/x.git",
        f"//127.0.0.1:{trap.port}/x.git", f"file://{served.path}", f"ext::touch {canary}",
        "/x.git/info/refs?service=git-upload-pack",
    )  # fmt: skip
    commit = served.commit_files({"a": b"x"})
    host.redirects |= {f"status-{status}": (status, targets[0]) for status in REDIRECTS}
    host.redirects |= {f"target-{i}": (302, target) for i, target in enumerate(targets)}
    for name in host.redirects:
        repository = tmp_path / f"{name}.git"
        address = clone_address(f"https://{host.name}/{name}", hosts=[host.name])
        assert isinstance(address, RemoteRepository)
        with pytest.raises(PermanentError, match="did not work"):
            fetch_remote(address, commit, repository, limit_bytes=1_000_000, authority=host.certificate)

    assert len(host.asked) == len(host.redirects)
    assert trap.connections == 0
    assert not canary.exists()


def test_submodules_and_large_files_are_not_fetched_from_where_a_commit_says(
    host: GitHost, trap: Trap, served: RawRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(monkeypatch, host)
    elsewhere = f"http://127.0.0.1:{trap.port}/x"
    tree = served.tree(
        ("100644", ".gitattributes", served.blob(b"*.bin filter=lfs diff=lfs merge=lfs -text\n")),
        ("100644", ".gitmodules", served.blob(f'[submodule "m"]\n\tpath = m\n\turl = {elsewhere}\n'.encode())),
        ("100644", ".lfsconfig", served.blob(f"[lfs]\n\turl = {elsewhere}\n".encode())),
        ("160000", "m", "1" * 40),
        ("100644", "w.bin", served.blob(b"version https://git-lfs.github.com/spec/v1\n")),
    )
    commit = served.commit(tree)
    folder = fetch_commit(f"https://{host.name}/x.git", commit, tmp_path / "out", hosts=[host.name])

    assert (folder / "w.bin").read_bytes().startswith(b"version")
    assert trap.connections == 0


def test_a_fetch_beyond_the_limit_is_refused(host: GitHost, served: RawRepository, tmp_path: Path) -> None:
    commit = served.commit_files({"data": os.urandom(3_000_000)})
    address = RemoteRepository(f"https://{host.name}/x.git")
    with pytest.raises(TooLargeError, match="more than 1000000 bytes"):
        fetch_remote(address, commit, tmp_path / "y.git", limit_bytes=1_000_000, authority=host.certificate)
