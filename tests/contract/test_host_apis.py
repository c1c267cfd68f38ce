"""What only the clients of the hosts' APIs do: archives, redirects, an app's tokens, limits, secrets that stay secret."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hosts_double import HOSTS, HostsDouble, make_repository, project_at, running
from hosts_forms import LINK_SECRET, TOKEN, Call, Reply

from mlops_core.adapters.hosts import fetch_commits
from mlops_core.adapters.hosts.http_source import HttpSourceHost
from mlops_core.adapters.http_retry import Timing
from mlops_core.domain.errors import NotFoundError, PermanentError, TemporaryError, TooLargeError
from mlops_core.domain.ids import CommitId, RunId

NOON = datetime(2026, 1, 1, 0, tzinfo=UTC)
RUN = RunId("x-1")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CommitId]:
    bare, commit = make_repository(tmp_path_factory.mktemp("repository"))
    return bare, CommitId(commit)


@pytest.fixture(scope="module")
def servers() -> Iterator[HostsDouble]:
    with running() as started:
        yield started


@pytest.fixture
def double(servers: HostsDouble, repository: tuple[Path, CommitId]) -> Iterator[HostsDouble]:
    for host in HOSTS:
        servers.add(host, repository[0])
    yield servers
    servers.reset()


@pytest.fixture
def commit(repository: tuple[Path, CommitId]) -> CommitId:
    return repository[1]


def set_status(source: HttpSourceHost, host: str, commit: CommitId) -> None:
    source.set_status(project_at(host), commit, state="pending", description="received", run_id=RUN)


@pytest.mark.parametrize("host", HOSTS)
def test_the_files_of_a_commit_are_fetched_without_git(
    host: str, double: HostsDouble, commit: CommitId, tmp_path: Path
) -> None:
    source = double.source(host)
    fetch_commits({host: source})(project_at(host), commit, tmp_path)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}

    assert found == {"mlops.yaml", "sub/mlops.yaml", "sub/smoke.json", "a b#ä.txt", "run.sh"}
    assert (tmp_path / "sub/mlops.yaml").read_text() == "project: sub\n"
    assert (tmp_path / "run.sh").stat().st_mode & 0o777 == (0o755)


@pytest.mark.parametrize("host", HOSTS)
def test_an_archive_over_the_limit_is_refused_while_it_comes(host: str, double: HostsDouble, commit: CommitId) -> None:
    source = double.source(host)
    with pytest.raises(TooLargeError, match="gave more than 100 bytes, the limit"):
        source.archive(project_at(host), commit, io.BytesIO(), limit_bytes=100)


@pytest.mark.parametrize("host", HOSTS)
def test_a_commit_that_is_not_there_has_no_archive(host: str, double: HostsDouble) -> None:
    source = double.source(host)
    with pytest.raises(NotFoundError):
        source.archive(project_at(host), CommitId("0" * 39 + "1"), io.BytesIO())


@pytest.mark.parametrize("host", HOSTS)
def test_an_archive_that_breaks_off_is_fetched_again_from_its_begin(
    host: str, double: HostsDouble, commit: CommitId, tmp_path: Path
) -> None:
    broken: list[str] = []

    def half(call: Call) -> str | None:
        if any(part in call.path for part in (".tar.gz", "/archive", "/items")) or "token" in call.query:
            broken.append(call.path)
            return "half" if len(broken) < 3 else None
        return None

    double.trouble = half  # type: ignore[assignment]  # the literals are those of Trouble
    source = double.source(host)
    fetch_commits({host: source})(project_at(host), commit, tmp_path)

    assert len(broken) == 3
    assert (tmp_path / "mlops.yaml").is_file()


@pytest.mark.parametrize("host", sorted(set(HOSTS) - {"azure-devops"}))
def test_files_of_another_commit_are_refused(host: str, double: HostsDouble, commit: CommitId, tmp_path: Path) -> None:
    """A branch named like a commit may stand in for it: what the archive says of itself counts."""
    bare, other = make_repository(tmp_path, message="another")
    form = double.forms[host]
    others = double.add(host, bare)
    others.has = lambda commit: True  # type: ignore[method-assign]  # the commit is there, too
    honest = form.archived
    form.archived = lambda repo, _, *rest, **named: honest(repo, other, *rest, **named)  # type: ignore[method-assign]  # the evil
    with pytest.raises(PermanentError, match=rf"gave the files of commit '{other}' instead of '{commit}'"):
        double.source(host).archive(project_at(host), commit, io.BytesIO())


def test_a_download_is_sent_on_without_the_token(
    double: HostsDouble, commit: CommitId, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    # An application that was composed in this process has silenced it.
    caplog.set_level(logging.DEBUG, logger="httpx")
    source = double.source("github")
    source.archive(project_at("github"), commit, io.BytesIO())
    sent_on = double.calls[-1]

    assert sent_on.query == {"token": LINK_SECRET}
    assert "authorization" not in sent_on.headers
    assert "HTTP Request: GET" in caplog.text
    assert LINK_SECRET not in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    "target",
    ["https://evil.example.com/x?token=s3cr3t", "ftp://127.0.0.1/x", "http://[bad", "file:///etc/passwd"],
)
def test_a_download_goes_only_where_it_is_documented(double: HostsDouble, commit: CommitId, target: str) -> None:
    double.trouble = lambda call: Reply(302, b"", {"location": target}) if "/tarball/" in call.path else None
    with pytest.raises(PermanentError, match="none of its documented archive hosts") as caught:
        double.source("github").archive(project_at("github"), commit, io.BytesIO())

    assert "s3cr3t" not in str(caught.value)


def test_redirects_end(double: HostsDouble, commit: CommitId) -> None:
    double.trouble = lambda call: Reply(302, b"", {"location": call.path}) if "/tarball/" in call.path else None
    source = double.source("github")
    with pytest.raises(PermanentError, match="renamed"):
        source.archive(project_at("github"), commit, io.BytesIO())

    assert len([call for call in double.calls if "/tarball/" in call.path]) == 4


@pytest.mark.parametrize("host", HOSTS)
def test_a_call_that_is_no_download_follows_no_redirect(host: str, double: HostsDouble) -> None:
    double.trouble = lambda _: Reply(301, b"", {"location": "/elsewhere"})
    source = double.source(host)
    with pytest.raises(PermanentError, match="the repository was renamed, or the host's address is not the right one"):
        source.heads(project_at(host))

    assert len(double.calls) == 1


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (403, "has no right to it. It needs .*([Ss]tatus|[Ww]rite|role|read)"),
        (422, "Correct what it names"),
        (404, "Look at the name"),
    ],
)
def test_refusals_say_what_to_do_and_show_no_token(
    host: str, status: int, sentence: str, double: HostsDouble, commit: CommitId
) -> None:
    double.trouble = lambda call: Reply(status, {"message": f"no, {call.headers}"})
    source = double.source(host)
    with pytest.raises(PermanentError, match=sentence) as caught:
        set_status(source, host, commit)
    sent = [value for name, value in double.calls[0].headers.items() if name in ("authorization", "private-token")]

    assert len(double.calls) == 1
    assert TOKEN not in str(caught.value)
    assert sent[0].rpartition(" ")[2] not in str(caught.value)
    assert TOKEN not in repr(double.options(host))


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize(
    "answer", [b"<html>", b"[]", b"[1]", b'{"value": 5}', b'{"values": [{}]}', b"null", b"[" * 100_000]
)
def test_an_answer_of_another_form_is_an_error_of_ours(host: str, answer: bytes, double: HostsDouble) -> None:
    double.trouble = lambda _: Reply(200, answer)
    source = double.source(host)
    try:
        assert source.heads(project_at(host)) == {}
    except PermanentError as error:
        assert "Is" in str(error)  # noqa: PT017 - an empty list is an answer too


@pytest.mark.parametrize("host", HOSTS)
def test_an_empty_repository_is_told_from_content_that_the_token_cannot_see(host: str, double: HostsDouble) -> None:
    answers = [Reply(409, {"message": "Git Repository is empty."}), None, Reply(404, {"message": "Not Found"}), None]
    double.trouble = lambda _: answers.pop(0)
    source = double.source(host)

    assert source.heads(project_at(host)) == {}
    with pytest.raises(NotFoundError, match="the token may not see it"):
        source.heads(project_at(host))


def test_a_list_of_branches_that_goes_on_elsewhere_is_not_followed(double: HostsDouble) -> None:
    double.trouble = lambda _: Reply(200, {"values": [], "next": "https://evil.example.com/2.0"})
    source = double.source("bitbucket")
    with pytest.raises(PermanentError, match="at another address"):
        source.heads(project_at("bitbucket"))


def test_githubs_limits_are_no_missing_right(double: HostsDouble) -> None:
    reset = str(int((NOON + timedelta(minutes=20)).timestamp()))
    answers = {
        1_200.0: Reply(403, {}, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}),
        90.0: Reply(403, {}, {"retry-after": "90"}),
        60.0: Reply(403, {"message": "You have exceeded a secondary rate limit."}),
        45.0: Reply(429, {}, {"retry-after": "Thu, 01 Jan 2026 00:00:45 GMT"}),
    }
    for seconds, answer in answers.items():
        double.trouble = lambda _, answer=answer: answer  # type: ignore[misc]  # mypy has no type for a default
        source = double.source("github", timing=Timing(sleep=lambda _: None, now=lambda: NOON))
        with pytest.raises(TemporaryError) as caught:
            source.heads(project_at("github"))
        assert caught.value.retry_after_seconds == seconds


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def seconds(self) -> float:
        return self.now.timestamp()

    @property
    def timing(self) -> Timing:
        return Timing(sleep=lambda _: None, now=lambda: self.now)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(double: HostsDouble, key: rsa.RSAPrivateKey, clock: Clock) -> HttpSourceHost:
    """GitHub, asked by an app."""
    double.github.app_key = key  # type: ignore[assignment]  # the key itself, to verify with
    double.github.app_seconds = clock.seconds
    double.github.expires_at = "2026-01-01T01:00:00Z"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    return double.source(
        "github", timing=clock.timing, token="", app_id="4711", app_private_key=pem.replace("\n", "\\n")
    )


def test_an_app_asks_for_one_token_and_keeps_it(app: HttpSourceHost, double: HostsDouble, clock: Clock) -> None:
    for _ in range(3):
        assert app.heads(project_at("github"))
    clock.now += timedelta(minutes=54)
    assert app.heads(project_at("github"))

    assert len(double.github.made_tokens) == 1


def test_an_apps_token_is_replaced_before_it_ends(app: HttpSourceHost, double: HostsDouble, clock: Clock) -> None:
    assert app.heads(project_at("github"))
    clock.now += timedelta(minutes=56)
    double.github.expires_at = "2026-01-01T02:00:00Z"
    for _ in range(2):
        assert app.heads(project_at("github"))

    assert len(double.github.made_tokens) == 2


def test_a_token_that_was_withdrawn_is_replaced_at_once(app: HttpSourceHost, double: HostsDouble) -> None:
    assert app.heads(project_at("github"))
    double.github.made_tokens.clear()
    double.github.made_tokens["taken"] = ""

    assert app.heads(project_at("github"))


def test_an_app_that_is_not_installed_says_so(app: HttpSourceHost, double: HostsDouble) -> None:
    double.github.installed = False
    with pytest.raises(PermanentError, match=r"The GitHub App '4711' is not installed at 'acme/x'. Install it there"):
        app.heads(project_at("github"))


def test_a_key_of_another_app_is_named_as_the_reason(app: HttpSourceHost, double: HostsDouble) -> None:
    double.github.app_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)  # type: ignore[assignment]  # another
    with pytest.raises(PermanentError, match=r"did not take the token.*app id and private key"):
        app.heads(project_at("github"))


def test_an_apps_own_requests_are_within_the_three_tries(app: HttpSourceHost, double: HostsDouble) -> None:
    double.trouble = lambda call: Reply(503, {}) if call.path.endswith("/installation") else None
    with pytest.raises(TemporaryError):
        app.heads(project_at("github"))

    assert len(double.calls) == 3


@pytest.mark.parametrize(
    ("host", "call", "what"),
    [
        ("github", Call("POST", "/repos/acme/x/statuses/{sha}", {}, {}, {"state": "failed"}), "'state' may not be"),
        (
            "github",
            Call("POST", "/repos/acme/x/statuses/{sha}", {}, {}, {"state": "failure", "descripton": "x"}),
            "unknown keys",
        ),
        ("github", Call("POST", "/repos/acme/x/statuses/{sha}", {}, {}, {"context": "x"}), "missing keys"),
        ("github", Call("GET", "/repos/acme/x/branches", {"perpage": "1"}, {}, None), "unknown query"),
        ("github", Call("PUT", "/repos/acme/x/branches", {}, {}, None), "no such operation"),
        ("azure-devops", Call("GET", "/acme/_apis/git/repositories/x", {}, {}, None), "missing query"),
    ],
)
def test_the_double_refuses_what_is_not_documented(
    host: str, call: Call, what: str, double: HostsDouble, commit: CommitId
) -> None:
    """Negative controls: a double that takes everything proves nothing."""
    path = double.forms[host].prefix + call.path.replace("{sha}", commit)
    reply = double.answer(replace(call, path=path, headers={"content-type": "application/json"}))

    assert reply.status == 400
    assert what in double.violations.pop()


def test_a_name_of_a_repository_that_would_leave_its_path_is_refused(double: HostsDouble) -> None:
    for host in HOSTS:
        source = double.source(host)
        for name in ("acme", "acme/..", "../x", "acme/x/../../y", "/x", "acme/"):
            with pytest.raises(PermanentError, match="is no name of a"):
                source.heads(replace(project_at(host), repository=name))
    assert urlsplit(double.base).hostname == "127.0.0.1"
    assert double.calls == []
