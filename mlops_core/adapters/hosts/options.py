"""What the operator says of a repository host: where it is, and what proves who asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from mlops_core.domain.errors import PermanentError

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, kw_only=True)
class HostOptions:
    """
    One repository host.

    Attributes:
        token: A token with the rights of docs/repository-hosts.md; empty where an app is used.
        user: Bitbucket Cloud's e-mail address of an API token, which is sent as a password; empty for access tokens.
        app_id: GitHub only: id or client id of an app; goes with its private key.
        app_private_key: GitHub only: the app's key in PEM, RSA.
        base_url: Address of the host as people open it, without a slash at the end; empty for the public one. Azure
            DevOps needs it, with the organisation: `https://dev.azure.com/ORGANISATION`.
        archive_hosts: More hosts (`name` or `name:port`) to which a download of an archive may be sent on, such as the
            object storage of a self-hosted Gitea. They never get the token.
    """

    token: str = field(default="", repr=False)
    user: str = ""
    app_id: str = ""
    app_private_key: str = field(default="", repr=False)
    base_url: str = ""
    archive_hosts: tuple[str, ...] = ()


def checked_address(host: str, address: str, *, plain_http: bool) -> str:
    """
    Check the address of a host.

    Args:
        plain_http: Lets http through on loopback, as tests need it.
    Returns: It without a slash at the end.
    Raises: PermanentError: It is no address that a token may be sent to.
    """
    parts = urlsplit(address)
    secure = parts.scheme == "https" or (plain_http and parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not secure or not parts.hostname or parts.query or parts.fragment:
        raise PermanentError(
            f"The address of host '{host}' is '{_without_password(address)}'. Give one that begins with https:// and "
            "has neither query nor fragment."
        )
    if "@" in parts.netloc:
        raise PermanentError(f"The address of host '{host}' has a user or a password in it. Give a token instead.")
    return address.rstrip("/")


def checked_secret(host: str, name: str, value: str) -> str:
    """Check what goes into a header: no line break or blank within, since it would end the header."""
    secret = value.strip()
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise PermanentError(f"Host '{host}' has no usable {name}: it must be one word of printable ASCII characters.")
    return secret


def _without_password(address: str) -> str:
    return address.rpartition("@")[2][:200]
