"""Compare signatures on raw bytes, in constant time: a text comparison raises where a header is not ASCII."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from mlops_core.domain.errors import UnauthorizedError

SIGNING_PREFIX = b"whsec_"
# The tolerance that the Standard Webhooks specification advises, in both directions.
_TOLERANCE_SECONDS = 300
_MOST_SIGNATURES = 10
_SECONDS = re.compile(r"[0-9]{1,12}")


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
    signature = header_bytes(given.strip())
    valid = False
    for secret in secrets:
        expected = f"{prefix}{hmac.new(secret, body, hashlib.sha256).hexdigest()}".encode()
        valid |= hmac.compare_digest(expected, signature)
    if not valid:
        raise UnauthorizedError(
            f"The signature in '{header}' does not fit the body. Set the same secret here and at the repository host."
        )


def header_bytes(text: str) -> bytes:
    """Encode a header's value for a comparison, whatever text a sender or a server made of it."""
    return text.encode("utf-8", "surrogatepass")


def verify_token(given: bytes | None, secrets: Sequence[bytes], *, header: str) -> None:
    """Check a plain secret against each of the valid ones. Raises UnauthorizedError."""
    refuse_without_secret(secrets)
    if not given:
        raise UnauthorizedError(f"The delivery does not prove who sent it: header '{header}' is missing.")
    valid = False
    for secret in secrets:
        valid |= hmac.compare_digest(secret, given)
    if not valid:
        raise UnauthorizedError(
            f"The secret in '{header}' is not the one that is set here. Set the same one here and at the repository host."
        )


def password_of(authorization: str | None) -> bytes | None:
    """
    Read the password of Basic authentication.

    Returns: None where there is none, or where the header is written in another way than an encoder writes it.
    """
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    written = header_bytes(encoded.strip())
    try:
        credentials = base64.b64decode(written, validate=True)
    except binascii.Error:
        return None
    # The last digit may hold bits that decoding drops: two texts would stand for one password.
    if base64.b64encode(credentials) != written:
        return None
    return credentials.partition(b":")[2]


def verify_standard_webhook(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes], *, received_at: datetime
) -> datetime:
    """
    Check a signature over id, time and body.

    Args:
        secrets: The signing tokens: `whsec_` and the key in base64.
    Returns: When the delivery was signed.
    Raises: UnauthorizedError: Missing, wrong, or signed more than five minutes from `received_at`.
    Source: https://www.standardwebhooks.com, the specification.
    """
    refuse_without_secret(secrets)
    delivery, seconds, given = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not delivery or not given or not _SECONDS.fullmatch(seconds):
        raise UnauthorizedError(
            "The delivery has no signature: it needs webhook-id, -timestamp and -signature headers."
        )
    content = header_bytes(f"{delivery}.{seconds}.") + body
    signatures = [header_bytes(text) for text in given.split(" ")[:_MOST_SIGNATURES]]
    valid = False
    for secret in secrets:
        expected = b"v1," + base64.b64encode(hmac.new(_signing_key(secret), content, hashlib.sha256).digest())
        for signature in signatures:
            valid |= hmac.compare_digest(expected, signature)
    if not valid:
        raise UnauthorizedError(
            "The signature in 'webhook-signature' does not fit the delivery. Set the same signing token here and at the "
            "repository host."
        )
    return _signed_at(int(seconds), received_at)


def _signing_key(secret: bytes) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(SIGNING_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise UnauthorizedError(
            "A signing token of this host is not 'whsec_' with a key in base64. Correct HEADRACE_WEBHOOK_SECRETS."
        )
    return key


def _signed_at(seconds: int, received_at: datetime) -> datetime:
    age = received_at.timestamp() - seconds
    if abs(age) > _TOLERANCE_SECONDS:
        raise UnauthorizedError(
            f"The delivery was signed {age:.0f} seconds before it came; at most {_TOLERANCE_SECONDS} are taken. "
            "Deliver it again, or set the clocks."
        )
    return datetime.fromtimestamp(seconds, UTC)


def refuse_without_secret(secrets: Sequence[bytes]) -> None:
    """Refuse everything where no secret is set: an empty one would let everybody in."""
    if not secrets or not all(secrets):
        raise UnauthorizedError("No webhook secret is set for this host: set HEADRACE_WEBHOOK_SECRETS.")
