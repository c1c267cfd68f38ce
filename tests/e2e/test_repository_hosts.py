"""A push at every kind of repository host, up to a live version, with the run's state shown beside the commit there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from builders import MANIFEST, PROJECT, Bench, make_bench
from fakes import START
from hosts_double import HOSTS, HostsDouble, project_at, running
from hosts_forms import Repository

from mlops_core.domain.events import GitPush
from mlops_core.domain.ids import CommitId

SHOWN = {"state", "description", "key", "context", "name", "targetUrl", "target_url", "url"}


@pytest.fixture(scope="module")
def servers() -> Iterator[HostsDouble]:
    with running() as started:
        yield started


@pytest.fixture
def double(servers: HostsDouble) -> Iterator[HostsDouble]:
    yield servers
    servers.reset()


class Remote:
    """A project's repository at a host, to commit to."""

    def __init__(self, folder: Path) -> None:
        self._work = folder / "work"
        self.bare = folder / "x.git"
        self._work.mkdir()
        (self._work / "mlops.yaml").write_bytes(MANIFEST)
        subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(self._work)], check=True)
        subprocess.run(["git", "init", "--quiet", "--bare", str(self.bare)], check=True)

    def commit(self, text: str) -> CommitId:
        (self._work / "code.py").write_text(text)
        git = ["git", "-C", str(self._work), "-c", "user.name=t", "-c", "user.email=t@example.invalid"]
        subprocess.run([*git, "add", "--all"], check=True)
        subprocess.run([*git, "commit", "--quiet", "-m", text], check=True)
        subprocess.run([*git, "push", "--quiet", str(self.bare), "HEAD:main"], check=True, capture_output=True)
        return CommitId(subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip())


def bench_at(host: str, double: HostsDouble, folder: Path, bare: Path) -> tuple[Bench, Repository]:
    shown = double.add(host, bare)
    source = double.source(host)
    bench = make_bench(folder, wrap=lambda world: replace(world, sources={host: source}))
    address = project_at(host)
    bench.app.world.projects.put(
        replace(PROJECT, host=host, repository=address.repository, clone_url=address.clone_url)
    )
    return bench, shown


@pytest.mark.parametrize("host", HOSTS)
def test_a_push_goes_live_and_each_state_is_shown_at_the_host(host: str, double: HostsDouble, tmp_path: Path) -> None:
    remote = Remote(tmp_path)
    commit = remote.commit("first")
    bench, shown = bench_at(host, double, tmp_path, remote.bare)
    pushed = GitPush(
        host=host, repository="acme/x", ref="refs/heads/main", commit=commit, before=None,
        pushed_at=START + timedelta(seconds=1), pushed_by="ada",
    )  # fmt: skip
    run_id = bench.app.intake.push(pushed)[0]
    bench.deliver(run_id)

    assert bench.state(run_id) == "live"
    statuses = [body for at, body in shown.statuses if at == commit]
    assert statuses[0]["state"] in ("pending", "running", "INPROGRESS")
    assert statuses[-1]["state"] in ("success", "succeeded", "SUCCESSFUL")
    assert all(str(run_id) in str(body) and body.keys() <= SHOWN | {"context"} for body in statuses)


@pytest.mark.parametrize("host", HOSTS)
def test_a_push_whose_webhook_was_lost_is_found_at_the_host(host: str, double: HostsDouble, tmp_path: Path) -> None:
    remote = Remote(tmp_path)
    remote.commit("first")
    bench, _ = bench_at(host, double, tmp_path, remote.bare)
    bench.app.reconciler.heads()
    commit = remote.commit("second")
    bench.clock.advance(60)
    bench.app.reconciler.heads()
    bench.drain()
    runs = bench.app.world.runs.of_project(PROJECT.name).items

    assert runs[0].trigger.commit == commit
    assert str(runs[0].state) == "building"
