"""
Clients of the repository hosts' APIs, from what the operator says of each: which host's name stands for which dialect and
which way of proving who asks is the table below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mlops_core.adapters.hosts import bitbucket_api, gitea_api, github_api, gitlab_api
from mlops_core.adapters.hosts.azure_devops_api import AzureDevOpsDialect
from mlops_core.adapters.hosts.bitbucket_api import BitbucketDialect
from mlops_core.adapters.hosts.bitbucket_server_api import BitbucketServerDialect
from mlops_core.adapters.hosts.credentials import Credential, TokenHeader, basic, bearer
from mlops_core.adapters.hosts.dialect import Dialect
from mlops_core.adapters.hosts.gitea_api import GiteaDialect
from mlops_core.adapters.hosts.github_api import GitHubDialect
from mlops_core.adapters.hosts.github_app import GitHubAppCredential
from mlops_core.adapters.hosts.gitlab_api import GitLabDialect
from mlops_core.adapters.hosts.http_client import HostClient
from mlops_core.adapters.hosts.http_source import HttpSourceHost
from mlops_core.adapters.hosts.options import HostOptions, checked_address, checked_secret
from mlops_core.adapters.http_retry import Patience, Timing
from mlops_core.domain.errors import PermanentError
from mlops_core.domain.ids import RunId


@dataclass(frozen=True)
class _Kind:
    """What is told of a kind of host: its dialect, its public address if there is one, how its token is sent."""

    dialect: Callable[[str], Dialect]
    public: str
    token: Callable[[HostOptions, str], Credential]


def _gitlab_token(_: HostOptions, token: str) -> Credential:
    return TokenHeader("private-token", token, token)


def _bitbucket_token(options: HostOptions, token: str) -> Credential:
    return basic(options.user, token) if options.user else bearer(token)


KINDS: Mapping[str, _Kind] = {
    "github": _Kind(GitHubDialect, github_api.PUBLIC, lambda _, token: bearer(token)),
    "gitlab": _Kind(GitLabDialect, gitlab_api.PUBLIC, _gitlab_token),
    "azure-devops": _Kind(AzureDevOpsDialect, "", lambda _, token: basic("", token)),
    "bitbucket": _Kind(BitbucketDialect, bitbucket_api.PUBLIC, _bitbucket_token),
    "bitbucket-server": _Kind(BitbucketServerDialect, "", lambda _, token: bearer(token)),
    "gitea": _Kind(GiteaDialect, gitea_api.PUBLIC, lambda _, token: bearer(token, scheme="token")),
}


def make_source(
    host: str,
    options: HostOptions,
    *,
    run_address: Callable[[RunId], str],
    patience: Patience,
    timing: Timing,
    plain_http: bool,
) -> HttpSourceHost:
    """Make the client of one host. Raises PermanentError where the options are not as they must be."""
    kind = KINDS.get(host)
    if kind is None:
        raise PermanentError(f"There is no kind of repository host '{host}'. There are: {', '.join(sorted(KINDS))}.")
    if not (options.base_url or kind.public):
        raise PermanentError(
            f"Host '{host}' has no public address: give its own as base_url (docs/repository-hosts.md)."
        )
    address = checked_address(host, options.base_url or kind.public, plain_http=plain_http)
    dialect = kind.dialect(address)
    dialect.archive_hosts = (*dialect.archive_hosts, *options.archive_hosts)
    credential = _credential(host, kind, options, address, timing)
    client = HostClient(dialect, credential, patience=patience, timing=timing, plain_http=plain_http)
    if isinstance(credential, GitHubAppCredential):
        credential.send = client.send_once
    return HttpSourceHost(dialect, client, run_address=run_address)


def _credential(host: str, kind: _Kind, options: HostOptions, address: str, timing: Timing) -> Credential:
    app = bool(options.app_id or options.app_private_key)
    if not app:
        return kind.token(options, checked_secret(host, "token", options.token))
    if host != "github" or options.token:
        raise PermanentError(
            f"Host '{host}' has an app and a token, or is not GitHub, which alone knows apps. Give one."
        )
    if not options.app_id or "-----BEGIN" not in options.app_private_key:
        raise PermanentError(f"Host '{host}' has only a part of an app. Give its id and its private key in PEM.")
    app_id = checked_secret(host, "app id", options.app_id)
    return GitHubAppCredential(app_id, options.app_private_key, api=github_api.api_address(address), now=timing.now)
