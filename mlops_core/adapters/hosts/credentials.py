"""What proves to a host who asks, as headers; never shown in a text, an error or an address."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Protocol


class Credential(Protocol):
    """Gives headers. Its secrets are for whoever has to blacken a text."""

    def headers(self, repository: str) -> Mapping[str, str]:
        """Give the headers for requests about a repository."""
        ...

    def refused(self, repository: str) -> bool:
        """Hear that the host did not take them. Returns: Whether others can be had now."""
        ...

    def secrets(self) -> Sequence[str]:
        """List what must not appear in any text."""
        ...


class TokenHeader:
    """A token that stays as it is."""

    def __init__(self, header: str, value: str, token: str) -> None:
        self._headers = {header: value}
        self._secrets = (token, value.rpartition(" ")[2])

    def headers(self, repository: str) -> Mapping[str, str]:  # noqa: ARG002 - the same for all
        """Give the header."""
        return self._headers

    def refused(self, repository: str) -> bool:  # noqa: ARG002 - the same for all
        """Know no other."""
        return False

    def secrets(self) -> Sequence[str]:
        """List the token, also as it is sent."""
        return self._secrets


def bearer(token: str, *, scheme: str = "Bearer") -> TokenHeader:
    """Send a token in `Authorization`."""
    return TokenHeader("authorization", f"{scheme} {token}", token)


def basic(user: str, token: str) -> TokenHeader:
    """Send a token as a password (RFC 7617)."""
    return TokenHeader("authorization", f"Basic {base64.b64encode(f'{user}:{token}'.encode()).decode()}", token)
