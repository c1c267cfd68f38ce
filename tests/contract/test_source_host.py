"""What every `SourceHost` must do, over a real bare repository. An adapter joins by a class with a `place`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hosts_double import HOSTS, HostsDouble, make_repository, project_at, running

from mlops_core.adapters.local.source_host import LocalSourceHost
from mlops_core.domain.errors import BadInputError, NotFoundError, PermanentError, TooLargeError
from mlops_core.domain.ids import CommitId, RunId
from mlops_core.ports import ProjectRecord, SourceHost

RUN = RunId("x-0123456789ab")
OTHER = CommitId("0" * 39 + "1")


@dataclass(frozen=True)
class Place:
    """A repository at a host, with a way to see which states are shown beside a commit."""

    source: SourceHost
    project: ProjectRecord
    commit: CommitId
    git_dir: Path
    shown: Callable[[], list[str]]
    named: Callable[[], list[str]]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A bare repository that tests only read, or copy."""
    return make_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def repository(template: tuple[Path, str], tmp_path: Path) -> tuple[Path, CommitId]:
    bare = tmp_path / "x.git"
    subprocess.run(["cp", "-r", str(template[0]), str(bare)], check=True)
    return bare, CommitId(template[1])


class SourceHostContract:
    """The suite."""

    def test_a_file_is_read_as_it_is(self, place: Place) -> None:
        assert place.source.read_file(place.project, place.commit, "mlops.yaml") == b"project: x\n"

    def test_a_file_with_an_odd_name_is_read(self, place: Place) -> None:
        assert place.source.read_file(place.project, place.commit, "a b#ä.txt") == b"odd"

    def test_a_file_is_looked_for_beside_the_manifest(self, place: Place) -> None:
        project = replace(place.project, manifest="sub/mlops.yaml")

        assert place.source.read_file(project, place.commit, "sub/mlops.yaml") == b"project: sub\n"
        assert place.source.read_file(project, place.commit, "smoke.json") == b"{}"

    def test_a_file_that_is_not_there_is_not_found(self, place: Place) -> None:
        with pytest.raises(NotFoundError, match=r"no file in commit .* named 'nothing.txt'. Add the file"):
            place.source.read_file(place.project, place.commit, "nothing.txt")

    def test_a_commit_that_is_not_there_is_not_found(self, place: Place) -> None:
        with pytest.raises(NotFoundError):
            place.source.read_file(place.project, OTHER, "mlops.yaml")

    def test_a_file_over_the_limit_is_refused(self, place: Place) -> None:
        assert place.source.read_file(place.project, place.commit, "mlops.yaml", limit_bytes=11)
        with pytest.raises(TooLargeError):
            place.source.read_file(place.project, place.commit, "mlops.yaml", limit_bytes=10)

    @pytest.mark.parametrize("path", ["../x", "/etc/passwd", "sub/../../x", "a\0b"])
    def test_a_path_out_of_the_repository_is_refused(self, place: Place, path: str) -> None:
        with pytest.raises(BadInputError, match="is no path inside a repository"):
            place.source.read_file(place.project, place.commit, path)

    def test_the_head_of_a_branch_is_its_newest_commit(self, place: Place) -> None:
        assert place.source.head(place.project, "main") == place.commit
        assert place.source.head(place.project, "feature/main-3") == place.commit

    @pytest.mark.parametrize("branch", ["mai", "feature", "feature/main-", "nothing", 'odd"name'])
    def test_a_branch_that_is_not_there_has_no_head(self, place: Place, branch: str) -> None:
        assert place.source.head(place.project, branch) is None

    def test_the_heads_are_those_of_all_branches(self, place: Place) -> None:
        branches = ["main", *(f"feature/main-{number}" for number in range(4))]

        assert dict(place.source.heads(place.project)) == dict.fromkeys(branches, place.commit)

    def test_a_repository_without_branches_has_no_heads(self, place: Place) -> None:
        for branch in place.source.heads(place.project):
            subprocess.run(
                ["git", f"--git-dir={place.git_dir}", "update-ref", "-d", f"refs/heads/{branch}"], check=True
            )

        assert dict(place.source.heads(place.project)) == {}
        assert place.source.head(place.project, "main") is None

    def test_the_newest_status_is_shown(self, place: Place) -> None:
        for state in ("pending", "pending", "success", "failure"):
            place.source.set_status(
                place.project, place.commit, state=state, description=f"it is {state}: " + "x" * 600, run_id=RUN
            )
            assert place.shown()[-1] == state

    def test_a_status_may_be_set_twice(self, place: Place) -> None:
        for _ in range(2):
            place.source.set_status(place.project, place.commit, state="pending", description="received", run_id=RUN)

        assert set(place.shown()) == {"pending"}

    def test_the_status_of_a_stage_stands_beside_that_of_the_run(self, place: Place) -> None:
        told = {"state": "success", "description": "passed", "run_id": RUN}
        place.source.set_status(place.project, place.commit, state="pending", description="training", run_id=RUN)
        place.source.set_status(place.project, place.commit, **told, stage="build")  # type: ignore[arg-type] - as they are

        assert len(set(place.named())) == 2


class TestLocalSourceHost(SourceHostContract):
    @pytest.fixture
    def place(self, tmp_path: Path, repository: tuple[Path, CommitId]) -> Place:
        git_dir, commit = repository
        record = tmp_path / "statuses" / "x" / f"{commit}.json"
        return Place(
            source=LocalSourceHost(tmp_path / "statuses"),
            project=replace(project_at("local"), clone_url=str(git_dir)),
            commit=commit,
            git_dir=git_dir,
            shown=lambda: [json.loads(record.read_text())["state"]],
            named=lambda: [path.name for path in record.parent.iterdir()],
        )


STATES = {
    "pending": "pending", "running": "pending", "INPROGRESS": "pending",
    "success": "success", "succeeded": "success", "SUCCESSFUL": "success",
    "failure": "failure", "failed": "failure", "FAILED": "failure",
}  # fmt: skip


@pytest.fixture(scope="module")
def servers() -> Iterator[HostsDouble]:
    with running() as started:
        yield started


@pytest.fixture
def double(servers: HostsDouble) -> Iterator[HostsDouble]:
    yield servers
    servers.reset()


@pytest.mark.parametrize("host", HOSTS)
class TestHttpSourceHost(SourceHostContract):
    @pytest.fixture
    def place(self, host: str, double: HostsDouble, repository: tuple[Path, CommitId]) -> Place:
        git_dir, commit = repository
        at_host = double.add(host, git_dir)
        source = double.source(host)
        return Place(
            source=source,
            project=project_at(host),
            commit=commit,
            git_dir=git_dir,
            shown=lambda: [STATES[body["state"]] for at, body in at_host.statuses if at == commit],
            named=lambda: [
                str(body.get("context") or body.get("key") or body.get("name")) for _, body in at_host.statuses
            ],
        )

    def test_a_status_links_to_its_run_under_a_name_of_the_project(
        self, host: str, place: Place, double: HostsDouble
    ) -> None:
        place.source.set_status(place.project, place.commit, state="success", description="live", run_id=RUN)
        body = next(call.body for call in double.calls if call.method == "POST")

        assert f"https://headrace.example.com/runs/{RUN}" in (
            body.get("target_url"),
            body.get("url"),
            body.get("targetUrl"),
        )
        assert "headrace" in json.dumps(body)
        assert (
            "x" in (str(body.get(key)).rpartition("/")[2] for key in ("context", "name", "key"))
            or host == "azure-devops"
        )

    def test_a_repository_that_the_token_cannot_see_is_told_from_a_missing_file(self, host: str, place: Place) -> None:
        elsewhere = replace(place.project, repository="acme/hidden")
        asks: list[Callable[[], object]] = [
            lambda: place.source.read_file(elsewhere, place.commit, "mlops.yaml"),
            lambda: place.source.head(elsewhere, "main"),
            lambda: place.source.heads(elsewhere),
        ]
        for ask in asks:
            with pytest.raises(NotFoundError, match=r"does not exist, or the token may not see it.* needs .*[Rr]ead"):
                ask()

    def test_a_wrong_token_is_named_as_the_reason_and_never_shown(
        self, host: str, place: Place, double: HostsDouble
    ) -> None:
        source = double.source(host, token="wr0ng-t0k3n")
        with pytest.raises(PermanentError, match="did not take the token") as caught:
            source.heads(place.project)

        assert "wr0ng" not in str(caught.value)
