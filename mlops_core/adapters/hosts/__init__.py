"""
Repository hosts. In: webhooks, one module per host, which verifies a delivery and reads the pushes in it. Out: their APIs,
one `..._api` module per host, which says what to ask, and one client for all.

Which host's name in the address stands for which webhook is the table below, and nowhere else; `sources.py` has that of the
APIs. It is only imported where a host is configured: a cold start for a webhook needs none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mlops_core.adapters.hosts.azure_devops import AzureDevOpsWebhook
from mlops_core.adapters.hosts.bitbucket import BitbucketServerWebhook, BitbucketWebhook
from mlops_core.adapters.hosts.gitea import GiteaWebhook
from mlops_core.adapters.hosts.github import GitHubWebhook
from mlops_core.adapters.hosts.gitlab import GitLabWebhook
from mlops_core.adapters.hosts.local import LocalWebhook
from mlops_core.adapters.hosts.options import HostOptions
from mlops_core.domain.errors import PermanentError
from mlops_core.domain.ids import CommitId, RunId
from mlops_core.ports import ProjectRecord, PushVerifier

if TYPE_CHECKING:
    from mlops_core.adapters.hosts.http_source import HttpSourceHost
    from mlops_core.adapters.http_retry import Patience, Timing


class _Webhook(Protocol):
    """How a verifier is made."""

    def __call__(self, secrets: Sequence[bytes]) -> PushVerifier: ...


WEBHOOKS: Mapping[str, _Webhook] = {
    "github": GitHubWebhook,
    "gitlab": GitLabWebhook,
    "azure-devops": AzureDevOpsWebhook,
    "bitbucket": BitbucketWebhook,
    "bitbucket-server": BitbucketServerWebhook,
    "gitea": GiteaWebhook,
    "local": LocalWebhook,
}


def build_verifiers(secrets: Mapping[str, Sequence[bytes]]) -> dict[str, PushVerifier]:
    """
    Make a verifier for every host that is known here.

    Args:
        secrets: By host's name, all that are valid now: two during a rotation.
    Returns: By host's name; a host without a secret refuses every delivery.
    """
    return {host: webhook(tuple(secrets.get(host, ()))) for host, webhook in WEBHOOKS.items()}


def fetch_commits(sources: Mapping[str, HttpSourceHost]) -> Callable[[ProjectRecord, CommitId, Path], None]:
    """
    Give the function that puts the files of a project's commit into an empty folder, fetched without git.

    The function raises PermanentError for a project of a host that is not configured, and what `fetch_into` raises.
    """

    def fetch(project: ProjectRecord, commit: CommitId, folder: Path) -> None:
        from mlops_core.adapters.hosts.archive import fetch_into

        source = sources.get(project.host)
        if source is None:
            raise PermanentError(
                f"Project '{project.name}' is at host '{project.host}', for which nothing is configured here. "
                f"Configured: {', '.join(sorted(sources)) or 'none'}."
            )
        fetch_into(source, project, commit, folder)

    return fetch


def build_sources(
    options: Mapping[str, HostOptions],
    *,
    run_address: Callable[[RunId], str],
    patience: Patience | None = None,
    timing: Timing | None = None,
    plain_http: bool = False,
) -> dict[str, HttpSourceHost]:
    """
    Make a client for every host that is configured.

    Args:
        options: By host's name, one of those of `build_verifiers` without `local`.
        run_address: Where a run is shown, for the links beside commits.
        plain_http: Lets http through to loopback; only for tests.
    Returns: By host's name. Each is a `SourceHost`, and gives archives of commits (`SourceArchive`).
    Raises: PermanentError: Names every host whose options are not as they must be.
    """
    if not options:
        return {}
    from mlops_core.adapters.hosts.sources import make_source
    from mlops_core.adapters.http_retry import Patience, Timing

    made: dict[str, HttpSourceHost] = {}
    problems: list[str] = []
    for host, wanted in options.items():
        try:
            made[host] = make_source(
                host,
                wanted,
                run_address=run_address,
                patience=patience or Patience(),
                timing=timing or Timing(),
                plain_http=plain_http,
            )
        except PermanentError as error:
            problems.append(str(error))
    if problems:
        raise PermanentError(
            "Repository hosts are not set up as they must be (HEADRACE_HOSTS):\n" + "\n".join(problems)
        )
    return made
