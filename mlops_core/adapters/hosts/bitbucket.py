"""
Webhooks of Bitbucket Cloud (`repo:push`) and of Bitbucket Server and Data Center (`repo:refs_changed`).

Both put an HMAC-SHA256 under `X-Hub-Signature`, the name that GitHub uses for its old SHA-1. A push may change several
refs. Neither lists the files that were changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from mlops_core.adapters.hosts.payload import (
    Json,
    branch_ref,
    commit_of,
    delivery_of,
    list_at,
    mapping_at,
    nested_text,
    read_object,
    repository_name,
    text_at,
    time_of,
)
from mlops_core.adapters.hosts.signature import verify_hmac
from mlops_core.domain.errors import BadInputError
from mlops_core.domain.events import GitPush

CLOUD = "bitbucket"
SERVER = "bitbucket-server"
SIGNATURE_HEADER = "x-hub-signature"
EVENT_HEADER = "x-event-key"
CLOUD_DELIVERY_HEADER = "x-request-uuid"
SERVER_DELIVERY_HEADER = "x-request-id"


class BitbucketWebhook:
    """Verifies and reads the deliveries of Bitbucket Cloud."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets

    def pushes(self, headers: Mapping[str, str], body: bytes, *, received_at: datetime) -> Sequence[GitPush]:
        """Read the pushes to branches; other events are none. Raises UnauthorizedError, BadInputError."""
        event = _verified_event(headers, body, self._secrets)
        data = read_object(body, CLOUD)
        if event != "repo:push":
            return []
        changes = list_at(mapping_at(data, "push"), "changes")
        pushes = (_cloud_push(change, data, headers, received_at) for change in changes)
        return [push for push in pushes if push]


class BitbucketServerWebhook:
    """Verifies and reads the deliveries of Bitbucket Server and Data Center."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets

    def pushes(self, headers: Mapping[str, str], body: bytes, *, received_at: datetime) -> Sequence[GitPush]:
        """Read the pushes to branches; other events are none. Raises UnauthorizedError, BadInputError."""
        event = _verified_event(headers, body, self._secrets)
        data = read_object(body, SERVER)
        if event != "repo:refs_changed":
            return []
        moment = time_of(data.get("date"), received_at)
        pushes = (_server_push(change, data, headers, moment) for change in list_at(data, "changes"))
        return [push for push in pushes if push]


def _verified_event(headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes]) -> str:
    verify_hmac(body, headers.get(SIGNATURE_HEADER), secrets, header=SIGNATURE_HEADER, prefix="sha256=")
    event = headers.get(EVENT_HEADER)
    if not event:
        raise BadInputError(f"The delivery does not say its event: header '{EVENT_HEADER}' is missing.")
    return event


def _cloud_push(change: Json, data: Json, headers: Mapping[str, str], received_at: datetime) -> GitPush | None:
    if change.get("new") is None:
        return None
    new = mapping_at(change, "new")
    if text_at(new, "type") != "branch":
        return None
    ref = branch_ref(f"refs/heads/{text_at(new, 'name')}")
    commit = commit_of(mapping_at(new, "target").get("hash"), "new.target.hash")
    if ref is None or commit is None:
        return None
    before = None
    if change.get("old") is not None:
        before = commit_of(mapping_at(change, "old", "target").get("hash"), "old.target.hash")
    return GitPush(
        host=CLOUD,
        repository=repository_name(text_at(mapping_at(data, "repository"), "full_name")),
        ref=ref,
        commit=commit,
        before=before,
        pushed_at=received_at,
        pushed_by=(nested_text(data, "actor", "nickname") or nested_text(data, "actor", "display_name"))[:200],
        message=nested_text(new, "target", "message")[:500],
        delivery_id=delivery_of(headers, CLOUD_DELIVERY_HEADER),
    )


def _server_push(change: Json, data: Json, headers: Mapping[str, str], moment: datetime) -> GitPush | None:
    ref, commit = branch_ref(text_at(mapping_at(change, "ref"), "id")), commit_of(change.get("toHash"), "toHash")
    if ref is None or commit is None or change.get("type") == "DELETE":
        return None
    repository = mapping_at(data, "repository")
    project = mapping_at(repository, "project")
    return GitPush(
        host=SERVER,
        repository=repository_name(f"{text_at(project, 'key')}/{text_at(repository, 'slug')}"),
        ref=ref,
        commit=commit,
        before=commit_of(change.get("fromHash"), "fromHash"),
        pushed_at=moment,
        pushed_by=nested_text(data, "actor", "name")[:200],
        message=nested_text(data, "toCommit", "message")[:500],
        delivery_id=delivery_of(headers, SERVER_DELIVERY_HEADER),
    )
