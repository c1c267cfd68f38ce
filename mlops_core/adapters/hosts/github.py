"""
GitHub's webhook: `push` events of repositories and organisations, as JSON or as a form.

The signature covers no time of the delivery, so an old one verifies for ever: a push is known by its repository, ref and
commit, and a repeated one starts nothing.
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
    time_of,
)
from mlops_core.adapters.hosts.signature import verify_hmac
from mlops_core.domain.errors import BadInputError
from mlops_core.domain.events import GitPush

HOST = "github"
SIGNATURE_HEADER = "x-hub-signature-256"
EVENT_HEADER = "x-github-event"
DELIVERY_HEADER = "x-github-delivery"


class GitHubWebhook:
    """Verifies and reads GitHub's deliveries."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets

    def pushes(self, headers: Mapping[str, str], body: bytes, *, received_at: datetime) -> Sequence[GitPush]:
        """Read the push to a branch; other events are none. Raises UnauthorizedError, BadInputError."""
        verify_hmac(body, headers.get(SIGNATURE_HEADER), self._secrets, header=SIGNATURE_HEADER, prefix="sha256=")
        event = headers.get(EVENT_HEADER)
        if not event:
            raise BadInputError(f"The delivery does not say its event: header '{EVENT_HEADER}' is missing.")
        if "x-gitea-event" in headers:
            raise BadInputError("The delivery comes from Gitea. Point its hook at the address that ends in '/gitea'.")
        data = read_object(form_payload(body, HOST) if is_form(headers) else body, HOST)
        if event != "push":
            return []
        push = _push(data, headers, received_at)
        return [push] if push else []


def _push(data: Json, headers: Mapping[str, str], received_at: datetime) -> GitPush | None:
    ref, commit = branch_ref(text_at(data, "ref")), commit_of(data.get("after"), "after")
    if ref is None or commit is None or data.get("deleted") is True:
        return None
    before = commit_of(data.get("before"), "before")
    repository = mapping_at(data, "repository")
    commits = list_at(data, "commits")
    # A forced push drops commits that are not listed; a new branch has nothing that its files could be compared with.
    complete = before is not None and data.get("forced") is False
    return GitPush(
        host=HOST,
        repository=repository_name(text_at(repository, "full_name")),
        ref=ref,
        commit=commit,
        before=before,
        pushed_at=time_of(repository.get("pushed_at"), received_at),
        pushed_by=nested_text(data, "pusher", "name")[:200],
        message=nested_text(data, "head_commit", "message")[:500],
        changed=changed_files(commits, complete=complete),
        delivery_id=delivery_of(headers, DELIVERY_HEADER),
    )
