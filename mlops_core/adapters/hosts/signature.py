"""Compare signatures on raw bytes, in constant time: a text comparison raises where a header is not ASCII."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from mlops_core.domain.errors import UnauthorizedError


def verify_hmac(body: bytes, given: str | None, secrets: Sequence[bytes], *, header: str, prefix: str = "") -> None:
    """
    Check an HMAC-SHA256 in hexadecimal against each of the valid secrets.

    Args:
        given: The header's value.
        prefix: What stands before the digits, such as `sha256=`.
    Raises: UnauthorizedError: Missing, of another form, or wrong.
    """
    refuse_without_secret(secrets)
    if not given:
        raise UnauthorizedError(f"The delivery has no signature: header '{header}' is missing. Set the hook's secret.")
    signature = given.strip().encode("utf-8", "surrogateescape")
    valid = False
    for secret in secrets:
        expected = f"{prefix}{hmac.new(secret, body, hashlib.sha256).hexdigest()}".encode()
        valid |= hmac.compare_digest(expected, signature)
    if not valid:
        raise UnauthorizedError(
            f"The signature in '{header}' does not fit the body. Set the same secret here and at the repository host."
        )


def verify_token(given: bytes | None, secrets: Sequence[bytes], *, header: str) -> None:
    """Check a plain secret against each of the valid ones. Raises UnauthorizedError."""
    refuse_without_secret(secrets)
    if not given:
        raise UnauthorizedError(f"The delivery does not prove who sent it: header '{header}' is missing.")
    if not any(hmac.compare_digest(secret, given) for secret in secrets):
        raise UnauthorizedError(f"The secret in '{header}' is not the one that is set here.")


def refuse_without_secret(secrets: Sequence[bytes]) -> None:
    """Refuse everything where no secret is set: an empty one would let everybody in."""
    if not secrets or not all(secrets):
        raise UnauthorizedError("No webhook secret is set for this host: set HEADRACE_WEBHOOK_SECRETS.")
