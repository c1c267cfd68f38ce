"""What is accepted as a host's options, and what a mistake is answered."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_core.adapters.hosts import build_sources, fetch_commits
from mlops_core.adapters.hosts.bitbucket_api import BitbucketDialect
from mlops_core.adapters.hosts.dialect import CommitStatus
from mlops_core.adapters.hosts.github_api import GitHubDialect
from mlops_core.adapters.hosts.gitlab_api import GitLabDialect
from mlops_core.adapters.hosts.http_client import hide_addresses
from mlops_core.adapters.hosts.options import HostOptions
from mlops_core.composition.azure import host_options
from mlops_core.domain.errors import PermanentError
from mlops_core.domain.ids import CommitId, ProjectName
from mlops_core.ports import ProjectRecord
from mlops_core.settings import read_settings

CHECKOUT = Path(__file__).parents[3]
COMMIT = CommitId("a" * 40)
PEM = "-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----"


def build(**hosts: HostOptions) -> None:
    build_sources({name.replace("_", "-"): options for name, options in hosts.items()}, run_address=str)


def test_nothing_configured_is_no_host() -> None:
    assert build_sources({}, run_address=str) == {}


def test_public_hosts_need_a_token_only() -> None:
    build(github=HostOptions(token="t"), gitlab=HostOptions(token="t\n"), bitbucket=HostOptions(token="t"))


@pytest.mark.parametrize(
    ("host", "options", "sentence"),
    [
        ("github", HostOptions(), "Host 'github' has no usable token"),
        ("github", HostOptions(token="two words"), "no usable token"),
        ("github", HostOptions(token="a\r\nb"), "no usable token"),
        ("github", HostOptions(token="ä"), "no usable token"),
        ("azure_devops", HostOptions(token="t"), "'azure-devops' has no public address"),
        ("gitea", HostOptions(token="t", base_url="http://git.example.com"), "begins with https://"),
        ("gitea", HostOptions(token="t", base_url="https://git.example.com?x=1"), "neither query nor fragment"),
        (
            "gitea",
            HostOptions(token="t", base_url="https://u:hidden@git.example.com"),
            "has a user or a password in it",
        ),
        ("gitea", HostOptions(token="t", base_url="http://u:hidden@git.example.com"), "'git.example.com'"),
        ("gitea", HostOptions(token="t", base_url="http://127.0.0.1:3000"), "begins with https://"),
        ("github", HostOptions(token="t", app_id="1", app_private_key=PEM), "an app and a token"),
        ("gitlab", HostOptions(app_id="1", app_private_key=PEM), "which alone knows apps"),
        ("github", HostOptions(app_id="1"), "only a part of an app"),
        ("github", HostOptions(app_private_key=PEM), "only a part of an app"),
        ("sourceforge", HostOptions(token="t"), "no kind of repository host 'sourceforge'. There are: azure-devops"),
    ],
)
def test_what_is_wrong_stops_the_start_with_a_sentence(host: str, options: HostOptions, sentence: str) -> None:
    with pytest.raises(PermanentError) as caught:
        build(**{host: options})

    assert sentence in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(PermanentError, match=r"(?s)'github' has no usable token.*'gitlab' has no usable token"):
        build(github=HostOptions(), gitlab=HostOptions())


def test_secrets_are_not_shown() -> None:
    assert "s3cr3t" not in repr(HostOptions(token="s3cr3t", app_private_key="s3cr3t"))


def test_a_project_of_a_host_that_is_not_configured_cannot_be_fetched() -> None:
    project = ProjectRecord(
        name=ProjectName("x"), host="gitlab", repository="a/x", clone_url="https://gitlab.com/a/x.git"
    )
    with pytest.raises(
        PermanentError, match=r"is at host 'gitlab', for which nothing is configured here. Configured: none"
    ):
        fetch_commits({})(project, COMMIT, Path("nowhere"))


@pytest.mark.parametrize(
    ("address", "api", "archives"),
    [
        ("https://github.com", "https://api.github.com", "codeload.github.com"),
        ("https://acme.ghe.com", "https://api.acme.ghe.com", "codeload.acme.ghe.com"),
        ("https://git.example.com", "https://git.example.com/api/v3", "codeload.git.example.com"),
    ],
)
def test_githubs_api_is_derived_from_its_address(address: str, api: str, archives: str) -> None:
    dialect = GitHubDialect(address)

    assert dialect.repository("acme/x").url == f"{api}/repos/acme/x"
    assert archives in dialect.archive_hosts


def test_public_bitbucket_has_its_api_and_its_archives_at_two_hosts() -> None:
    dialect = BitbucketDialect("https://bitbucket.org")

    assert dialect.repository("acme/x").url == "https://api.bitbucket.org/2.0/repositories/acme/x"
    assert dialect.archive("acme/x", COMMIT).url == f"https://bitbucket.org/acme/x/get/{COMMIT}.tar.gz"


def test_a_group_within_a_group_is_one_quoted_part_for_gitlab() -> None:
    assert GitLabDialect("https://gitlab.com").repository("a/b/x").url == "https://gitlab.com/api/v4/projects/a%2Fb%2Fx"


def test_a_long_key_of_bitbucket_is_shortened_without_meeting_another() -> None:
    dialect = BitbucketDialect("https://bitbucket.org")
    keys = set()
    for letter in "ab":
        context = "headrace/" + "long-" * 20 + letter
        status = CommitStatus(state="success", context=context, description="x", target_url="https://x.example.com")
        body = dialect.status("acme/x", COMMIT, status).body
        assert body is not None
        keys.add(body["key"])

    assert {len(key) for key in keys} == {40}
    assert len(keys) == 2


def test_the_log_of_httpx_has_no_queries_and_that_of_httpcore_no_answers() -> None:
    arguments = ("GET", "https://codeload.example.com/x?token=s3cr3t", "HTTP/1.1", 200, "OK")
    record = logging.LogRecord("httpx", logging.INFO, "", 0, 'HTTP Request: %s %s "%s %d %s"', arguments, None)
    answer = logging.LogRecord("httpcore.http11", logging.DEBUG, "", 0, "receive_response_headers.complete", (), None)

    assert hide_addresses(record)
    assert record.getMessage() == 'HTTP Request: GET https://codeload.example.com/x "HTTP/1.1 200 OK"'
    assert not hide_addresses(answer)


def test_configured_hosts_import_nothing_before_their_first_request() -> None:
    """A cold start for a webhook pays neither for the client nor for the app's signature."""
    script = (
        "import sys\n"
        "from mlops_core.adapters.hosts import build_sources\n"
        "from mlops_core.adapters.hosts.options import HostOptions\n"
        f"app = HostOptions(app_id='1', app_private_key={PEM!r})\n"
        "build_sources({'github': app, 'gitlab': HostOptions(token='t')}, run_address=str)\n"
        "assert not {'httpx', 'cryptography'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr


def test_the_setting_in_the_documents_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (CHECKOUT / "docs" / "repository-hosts.md").read_text(encoding="utf-8")
    shown = re.search(r"^    HEADRACE_HOSTS=(.*)$", page, flags=re.MULTILINE)
    assert shown is not None
    monkeypatch.setenv("HEADRACE_HOSTS", shown[1])

    assert sorted(build_sources(host_options(read_settings()), run_address=str)) == ["bitbucket", "gitea", "github"]
