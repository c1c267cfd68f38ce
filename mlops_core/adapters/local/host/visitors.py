"""
Refuse what a web page of somebody else asks of this machine.

The host listens on loopback and asks nobody for a key, but every page in a browser here can send requests to loopback,
and a name of its own may lead there. So a request must name the host by one of its own names, and come from no page of
another origin. Routes that anybody may call (signed webhooks) are not held to it: a tunnel brings them another name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::\d+)?")


def refusal(headers: Mapping[str, str], names: Sequence[str]) -> str | None:
    """
    Say why a request is refused.

    Args:
        headers: Names in lower case.
        names: What the host may be called; none means by any name.
    Returns: None where it is taken.
    """
    host = headers.get("host", "")
    found = _HOST.fullmatch(host)
    if names and (found is None or found[1].lower() not in names):
        return f"'{host[:100]}' is no name of this host. Call it by {' or '.join(names)}."
    origin = headers.get("origin")
    if origin is not None and _place(origin) != host.lower():
        return f"A page of '{origin[:100]}' may not call this host. Open it by its own address."
    return None


def _place(origin: str) -> str:
    try:
        return urlsplit(origin.lower()).netloc
    except ValueError:
        return ""
