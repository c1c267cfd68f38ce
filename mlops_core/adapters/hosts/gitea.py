"""
Gitea's webhook, and Forgejo's, which has kept the same headers.

A delivery also looks like GitHub's. Its own signature is bare digits, and where the hook sends a form it covers the
JSON in the form's field and not the body, so the field is unpacked (and nothing parsed) before it is verified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from mlops_core.adapters.hosts.payload import (
    Json,
    branch_ref,
    changed_files,
    commit_of,
    delivery_of,
    form_payload,
    is_form,
    list_at,
    mapping_at,
    nested_text,
    read_object,
    repository_name,
    text_at,
)
from mlops_core.adapters.hosts.signature import verify_hmac
from mlops_core.domain.errors import BadInputError
from mlops_core.domain.events import GitPush

HOST = "gitea"
SIGNATURE_HEADER = "x-gitea-signature"
EVENT_HEADER = "x-gitea-event"
DELIVERY_HEADER = "x-gitea-delivery"


class GiteaWebhook:
    """Verifies and reads Gitea's deliveries."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets

    def pushes(self, headers: Mapping[str, str], body: bytes, *, received_at: datetime) -> Sequence[GitPush]:
        """Read the push to a branch; other events are none. Raises UnauthorizedError, BadInputError."""
        content = form_payload(body, HOST) if is_form(headers) else body
        verify_hmac(content, headers.get(SIGNATURE_HEADER), self._secrets, header=SIGNATURE_HEADER)
        event = headers.get(EVENT_HEADER)
        if not event:
            raise BadInputError(f"The delivery does not say its event: header '{EVENT_HEADER}' is missing.")
        data = read_object(content, HOST)
        if event != "push":
            return []
        push = _push(data, headers, received_at)
        return [push] if push else []


def _push(data: Json, headers: Mapping[str, str], received_at: datetime) -> GitPush | None:
    ref, commit = branch_ref(text_at(data, "ref")), commit_of(data.get("after"), "after")
    if ref is None or commit is None:
        return None
    before = commit_of(data.get("before"), "before")
    commits = list_at(data, "commits")
    # Few commits are listed (five, where the server is not told otherwise); old versions do not say how many there were.
    complete = before is not None and data.get("total_commits") == len(commits)
    message = next((nested_text(item, "message") for item in commits if item.get("id") == data["after"]), "")
    return GitPush(
        host=HOST,
        repository=repository_name(text_at(mapping_at(data, "repository"), "full_name")),
        ref=ref,
        commit=commit,
        before=before,
        pushed_at=received_at,
        pushed_by=(nested_text(data, "pusher", "login") or nested_text(data, "pusher", "username"))[:200],
        message=message[:500],
        changed=changed_files(commits, complete=complete),
        delivery_id=delivery_of(headers, DELIVERY_HEADER),
    )
