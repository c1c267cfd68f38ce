"""The laptop's own bare repositories: the webhook that their `post-receive` hook sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from mlops_core.adapters.hosts.payload import (
    branch_ref,
    commit_of,
    file_names,
    list_at,
    nested_text,
    read_object,
    repository_name,
    text_at,
    time_of,
)
from mlops_core.adapters.hosts.signature import verify_hmac
from mlops_core.domain.events import GitPush

HOST = "local"
SIGNATURE_HEADER = "x-headrace-signature"


class LocalWebhook:
    """Verifies and reads the hook's deliveries."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets

    def pushes(self, headers: Mapping[str, str], body: bytes, *, received_at: datetime) -> Sequence[GitPush]:
        """Read the pushes to branches. Raises UnauthorizedError, BadInputError."""
        verify_hmac(body, headers.get(SIGNATURE_HEADER), self._secrets, header=SIGNATURE_HEADER, prefix="sha256=")
        data = read_object(body, HOST)
        repository = repository_name(text_at(data, "repository"))
        pushes = []
        for push in list_at(data, "pushes"):
            ref = branch_ref(text_at(push, "ref"))
            commit = commit_of(push.get("after"), "after")
            if ref is None or commit is None:
                continue
            pushes.append(
                GitPush(
                    host=HOST,
                    repository=repository,
                    ref=ref,
                    commit=commit,
                    before=commit_of(push.get("before"), "before"),
                    pushed_at=time_of(push.get("pushed_at"), received_at),
                    pushed_by=nested_text(push, "pushed_by")[:200],
                    message=nested_text(push, "message")[:500],
                    changed=file_names(push.get("changed")),
                )
            )
        return pushes
