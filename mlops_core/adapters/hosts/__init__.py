"""
Webhooks of repository hosts: one module per host, which verifies a delivery and reads the pushes in it.

Which host's name in the address stands for which class is the table below, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from mlops_core.adapters.hosts.azure_devops import AzureDevOpsWebhook
from mlops_core.adapters.hosts.bitbucket import BitbucketServerWebhook, BitbucketWebhook
from mlops_core.adapters.hosts.gitea import GiteaWebhook
from mlops_core.adapters.hosts.github import GitHubWebhook
from mlops_core.adapters.hosts.gitlab import GitLabWebhook
from mlops_core.adapters.hosts.local import LocalWebhook
from mlops_core.ports import PushVerifier


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
