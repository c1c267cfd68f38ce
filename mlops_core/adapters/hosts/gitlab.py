"""
GitLab's webhook: `Push Hook` of projects and groups, and pushes among system hooks.

A hook proves itself by its secret token, in plain text, or by a signing token (`whsec_...`), which signs body and time. Each
kind of secret is only ever used in its own way; a delivery with a signature never falls back to the plain token where
a signing token is set.
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
    list_at,
    mapping_at,
    nested_text,
    read_object,
    repository_name,
    text_at,
)
from mlops_core.adapters.hosts.signature import (
    SIGNING_PREFIX,
    header_bytes,
    refuse_without_secret,
    verify_standard_webhook,
    verify_token,
)
from mlops_core.domain.errors import UnauthorizedError
from mlops_core.domain.events import GitPush

HOST = "gitlab"
TOKEN_HEADER = "x-gitlab-token"  # noqa: S105 - a header's name
SIGNATURE_HEADER = "webhook-signature"
DELIVERY_HEADERS = ("idempotency-key", "x-gitlab-event-uuid", "webhook-id")


class GitLabWebhook:
    """Verifies and reads GitLab's deliveries."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets
        self._signing = [secret for secret in secrets if secret.startswith(SIGNING_PREFIX)]
        self._tokens = [secret for secret in secrets if not secret.startswith(SIGNING_PREFIX)]

    def pushes(self, headers: Mapping[str, str], body: bytes, *, received_at: datetime) -> Sequence[GitPush]:
        """Read the push to a branch; other events are none. Raises UnauthorizedError, BadInputError."""
        pushed_at = self._verify(headers, body, received_at)
        data = read_object(body, HOST)
        # A system hook names the event only in `event_name`.
        if (data.get("object_kind") or data.get("event_name")) != "push":
            return []
        push = _push(data, headers, pushed_at)
        return [push] if push else []

    def _verify(self, headers: Mapping[str, str], body: bytes, received_at: datetime) -> datetime:
        """Return the best time of the push: GitLab tells none but that of a signed delivery."""
        refuse_without_secret(self._secrets)
        if self._signing and SIGNATURE_HEADER in headers:
            return verify_standard_webhook(headers, body, self._signing, received_at=received_at)
        if not self._tokens:
            raise UnauthorizedError(f"The delivery has no signature: header '{SIGNATURE_HEADER}' is missing.")
        verify_token(header_bytes(headers.get(TOKEN_HEADER, "")), self._tokens, header=TOKEN_HEADER)
        return received_at


def _push(data: Json, headers: Mapping[str, str], pushed_at: datetime) -> GitPush | None:
    ref, commit = branch_ref(text_at(data, "ref")), commit_of(data.get("after"), "after")
    if ref is None or commit is None:
        return None
    before = commit_of(data.get("before"), "before")
    commits = list_at(data, "commits")
    # At most 20 commits are listed; the count tells of all.
    complete = before is not None and data.get("total_commits_count") == len(commits)
    message = next((nested_text(item, "message") for item in commits if item.get("id") == data["after"]), "")
    return GitPush(
        host=HOST,
        repository=repository_name(text_at(mapping_at(data, "project"), "path_with_namespace")),
        ref=ref,
        commit=commit,
        before=before,
        pushed_at=pushed_at,
        pushed_by=(nested_text(data, "user_username") or nested_text(data, "user_name"))[:200],
        message=message[:500],
        changed=changed_files(commits, complete=complete),
        delivery_id=next((found for name in DELIVERY_HEADERS if (found := delivery_of(headers, name))), ""),
    )
