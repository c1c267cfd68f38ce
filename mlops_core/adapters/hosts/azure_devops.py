"""
Azure DevOps' service hook `git.push`.

It signs nothing: the hook's Basic authentication carries the secret as its password, under any user name. A push may update
several refs. Errors never become 410, which would disable the hook for good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from mlops_core.adapters.hosts.payload import (
    Json,
    branch_ref,
    commit_of,
    list_at,
    mapping_at,
    nested_text,
    read_object,
    repository_name,
    text_at,
    time_of,
)
from mlops_core.adapters.hosts.signature import password_of, verify_token
from mlops_core.domain.events import GitPush

HOST = "azure-devops"
AUTHORIZATION_HEADER = "authorization"


class AzureDevOpsWebhook:
    """Verifies and reads the deliveries of Azure DevOps."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets

    def pushes(self, headers: Mapping[str, str], body: bytes, *, received_at: datetime) -> Sequence[GitPush]:
        """Read the pushes to branches; other events are none. Raises UnauthorizedError, BadInputError."""
        verify_token(password_of(headers.get(AUTHORIZATION_HEADER)), self._secrets, header=AUTHORIZATION_HEADER)
        data = read_object(body, HOST)
        if text_at(data, "eventType") != "git.push":
            return []
        resource = mapping_at(data, "resource")
        moment = time_of(resource.get("date"), time_of(data.get("createdDate"), received_at))
        pushes = (_push(update, resource, data, moment) for update in list_at(resource, "refUpdates"))
        return [push for push in pushes if push]


def _push(update: Json, resource: Json, data: Json, moment: datetime) -> GitPush | None:
    ref, commit = branch_ref(text_at(update, "name")), commit_of(update.get("newObjectId"), "newObjectId")
    if ref is None or commit is None:
        return None
    repository = mapping_at(resource, "repository")
    project = mapping_at(repository, "project")
    commits = list_at(resource, "commits")
    message = next((nested_text(item, "comment") for item in commits if item.get("commitId") == commit), "")
    return GitPush(
        host=HOST,
        repository=repository_name(f"{text_at(project, 'name')}/{text_at(repository, 'name')}"),
        ref=ref,
        commit=commit,
        before=commit_of(update.get("oldObjectId"), "oldObjectId"),
        pushed_at=moment,
        pushed_by=(nested_text(resource, "pushedBy", "displayName"))[:200],
        message=message[:500],
        delivery_id=nested_text(data, "id")[:200],
    )
