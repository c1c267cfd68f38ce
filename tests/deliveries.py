"""Sign payloads as each repository host signs them, and make up payloads of one push."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

RECEIVED_AT = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
WEBHOOKS = Path(__file__).parents[2] / "shared" / "contracts" / "webhooks"
BEFORE, AFTER, ZEROS = "a" * 40, "b" * 40, "0" * 40
SECRET, OLD_SECRET = b"new secret \xc3\xa9", b"old secret"
SIGNING_TOKEN = b"whsec_" + base64.b64encode(bytes(range(32)))


@dataclass(frozen=True)
class Delivery:
    """What comes over the wire; header names in lower case, as handlers hand them on."""

    headers: Mapping[str, str]
    body: bytes

    def with_header(self, name: str, value: str | None) -> Delivery:
        """Set a header, or take it away."""
        others = {key: known for key, known in self.headers.items() if key != name}
        return replace(self, headers=others if value is None else {**others, name: value})


def digest(secret: bytes, body: bytes) -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def github(body: bytes, secret: bytes = SECRET, event: str = "push") -> Delivery:
    headers = {
        "content-type": "application/json",
        "user-agent": "GitHub-Hookshot/044aadd",
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "x-github-event": event,
        "x-hub-signature": f"sha1={hmac.new(secret, body, hashlib.sha1).hexdigest()}",
        "x-hub-signature-256": f"sha256={digest(secret, body)}",
    }
    return Delivery(headers, body)


def github_form(body: bytes, secret: bytes = SECRET, event: str = "push") -> Delivery:
    signed = github(urlencode({"payload": body.decode()}).encode(), secret, event)
    return signed.with_header("content-type", "application/x-www-form-urlencoded")


def gitlab(body: bytes, secret: bytes = SECRET, event: str = "Push Hook") -> Delivery:
    headers = {
        "content-type": "application/json",
        "x-gitlab-event": event,
        "x-gitlab-event-uuid": "13792a34-cac6-4fda-95a8-c58e00a3954e",
        "idempotency-key": "f5e5f430-f57b-4e6e-9fac-d9128cd7232f",
        "x-gitlab-token": secret.decode(),
    }
    return Delivery(headers, body)


def gitlab_signed(
    body: bytes, token: bytes = SIGNING_TOKEN, event: str = "Push Hook", at: datetime = RECEIVED_AT
) -> Delivery:
    seconds, delivery = str(int(at.timestamp())), "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"
    key = base64.b64decode(token.removeprefix(b"whsec_"))
    signature = base64.b64encode(
        hmac.new(key, f"{delivery}.{seconds}.".encode() + body, hashlib.sha256).digest()
    ).decode()
    headers = {
        "content-type": "application/json",
        "x-gitlab-event": event,
        "idempotency-key": delivery,
        "webhook-id": delivery,
        "webhook-timestamp": seconds,
        "webhook-signature": f"v1,{signature}",
    }
    return Delivery(headers, body)


def azure_devops(body: bytes, secret: bytes = SECRET, event: str = "git.push") -> Delivery:
    credentials = base64.b64encode(b"anyone:" + secret).decode()
    return Delivery({"content-type": "application/json; charset=utf-8", "authorization": f"Basic {credentials}"}, body)


def bitbucket(body: bytes, secret: bytes = SECRET, event: str = "repo:push") -> Delivery:
    headers = {
        "content-type": "application/json",
        "x-event-key": event,
        "x-request-uuid": "6cbbbaed-3f29-4c9f-8a4e-2ef0b5c1cf34",
        "x-hub-signature": f"sha256={digest(secret, body)}",
    }
    return Delivery(headers, body)


def bitbucket_server(body: bytes, secret: bytes = SECRET, event: str = "repo:refs_changed") -> Delivery:
    headers = {
        "content-type": "application/json; charset=utf-8",
        "x-event-key": event,
        "x-request-id": "3ab3ab4d-9b4d-4a4d-8a4e-2ef0b5c1cf34",
        "x-hub-signature": f"sha256={digest(secret, body)}",
    }
    return Delivery(headers, body)


def gitea(body: bytes, secret: bytes = SECRET, event: str = "push") -> Delivery:
    named = {
        f"x-{name}-{key}": value
        for name in ("gitea", "gogs", "github")
        for key, value in (("event", event), ("delivery", "cafe0000-0000-4000-8000-000000000000"))
    }
    signatures = {
        "x-gitea-signature": digest(secret, body),
        "x-gogs-signature": digest(secret, body),
        "x-hub-signature-256": f"sha256={digest(secret, body)}",
    }
    return Delivery({"content-type": "application/json", **named, **signatures}, body)


def gitea_form(body: bytes, secret: bytes = SECRET, event: str = "push") -> Delivery:
    """Gitea signs the JSON, and not the form around it."""
    signed = gitea(body, secret, event).with_header("content-type", "application/x-www-form-urlencoded")
    return replace(signed, body=urlencode({"payload": body.decode()}).encode())


def local(body: bytes, secret: bytes = SECRET, event: str = "") -> Delivery:
    return Delivery({"x-headrace-signature": f"sha256={digest(secret, body)}"}, body)


Sign = Callable[..., Delivery]
SIGN: dict[str, Sign] = {
    "github": github,
    "gitlab": gitlab,
    "azure-devops": azure_devops,
    "bitbucket": bitbucket,
    "bitbucket-server": bitbucket_server,
    "gitea": gitea,
    "local": local,
}
# Every way in which a host proves itself: name, host, how it signs, with the secrets that it may use.
FORMS: dict[str, tuple[str, Sign, tuple[bytes, bytes]]] = {
    **{host: (host, sign, (SECRET, OLD_SECRET)) for host, sign in SIGN.items()},
    "github form": ("github", github_form, (SECRET, OLD_SECRET)),
    "gitlab signed": (
        "gitlab",
        gitlab_signed,
        (SIGNING_TOKEN, b"whsec_" + base64.b64encode(b"another key of 32 bytes in all..")),
    ),
    "gitea form": ("gitea", gitea_form, (SECRET, OLD_SECRET)),
}


def payload(host: str, *, ref: str = "refs/heads/main", before: str = BEFORE, after: str = AFTER) -> dict[str, Any]:
    """Make up a host's payload of a push to `owner/name`, as small as it may be."""
    branch = ref.removeprefix("refs/heads/").removeprefix("refs/tags/")
    kind = "tag" if ref.startswith("refs/tags/") else "branch"
    names = {"full_name": "owner/name", "path_with_namespace": "owner/name"}
    plain = {"ref": ref, "before": before, "after": after, "repository": names}

    def end(commit: str) -> dict[str, Any] | None:
        return None if commit == ZEROS else {"type": kind, "name": branch, "target": {"hash": commit}}

    update = {"name": ref, "oldObjectId": before, "newObjectId": after}
    change = {"ref": {"id": ref}, "fromHash": before, "toHash": after, "type": "UPDATE"}
    repository = {"name": "name", "slug": "name", "project": {"name": "owner", "key": "owner"}}
    payloads: dict[str, dict[str, Any]] = {
        "github": {**plain, "deleted": after == ZEROS, "forced": False},
        "gitea": plain,
        "gitlab": {**plain, "object_kind": "tag_push" if kind == "tag" else "push", "project": names},
        "azure-devops": {"eventType": "git.push", "resource": {"refUpdates": [update], "repository": repository}},
        "bitbucket": {"push": {"changes": [{"old": end(before), "new": end(after)}]}, "repository": names},
        "bitbucket-server": {"changes": [change], "repository": repository},
        "local": {"repository": "owner/name", "pushes": [{"ref": ref, "before": before, "after": after}]},
    }
    return payloads[host]


def body_of(host: str, **options: str) -> bytes:
    """Encode a made-up payload."""
    return json.dumps(payload(host, **options)).encode()
