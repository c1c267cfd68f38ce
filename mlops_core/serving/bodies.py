"""
A request's body: within the limit, of the declared kind, unpacked where it came as gzip.

Every limit holds before the bytes are kept: a long body is refused by its announced length or as soon as it is over, a
small one that unpacks to a large one at the limit too.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mlops_core.serving.errors import BadBodyError, BodyTooLargeError, ContentTypeError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_JSON_TYPES = (b"application/json", b"text/json")
_GZIP = (b"gzip", b"x-gzip")
_GZIP_WINDOW = 31  # zlib's number for "with the header and the checksum of gzip"


async def read_body(scope: MutableMapping[str, Any], receive: Receive, *, limit: int, needs_json: bool) -> bytes:
    """
    Take the body of a request.

    Args:
        limit: Bytes that it may have, unpacked.
        needs_json: Whether another declared type than JSON is refused, and an empty body.
    Raises:
        BodyTooLargeError: It has more bytes.
        ContentTypeError: It is declared as something else, or packed in another way than gzip.
        BadBodyError: It is empty, is no gzip, or its client went away.
    """
    is_packed = False
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            sentence = f"The body has {int(value)} bytes, and {limit} are allowed. Send fewer rows at a time."
            raise BodyTooLargeError(sentence)
        if name == b"content-type" and needs_json and value.partition(b";")[0].strip().lower() not in _JSON_TYPES:
            text = value.decode("latin-1")
            raise ContentTypeError(f"The body is declared as '{text}'. Send JSON with Content-Type: application/json.")
        if name == b"content-encoding" and value.strip().lower() not in (b"identity", b""):
            is_packed = _is_gzip(value)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
    else:
        body = await _rest_of_body(message, receive, limit)
    if len(body) > limit:
        raise _too_large(limit)
    if is_packed:
        body = _unpacked(body, limit)
    if not body and needs_json:
        raise BadBodyError("The body is empty. Send JSON, as the example at /schema shows.")
    return body


def _is_gzip(declared: bytes) -> bool:
    if declared.strip().lower() in _GZIP:
        return True
    text = declared.decode("latin-1")
    raise ContentTypeError(f"The body is declared as packed by '{text}'. Send it as it is, or as gzip.")


def _unpacked(body: bytes, limit: int) -> bytes:
    unpacking = zlib.decompressobj(_GZIP_WINDOW)
    try:
        content = unpacking.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadBodyError(f"The body is declared as gzip and is none: {error}.") from error
    if len(content) > limit:
        raise _too_large(limit)
    if not unpacking.eof:
        raise BadBodyError("The gzip in the body ends too early. Send all of it.")
    return content


async def _rest_of_body(message: MutableMapping[str, Any], receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise BadBodyError("The client went away before the body's end.")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"The body has more than {limit} bytes. Send fewer rows at a time.")
