"""What runs in the double's container groups: the real scoring app, and the endpoint that gives it tokens."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from arm_double import Answer, Request, refuse


def scoring_app(environment: Mapping[str, str], port_file: Path) -> list[str]:
    """Start the real app; what a container has at its root, it has in its folder."""
    folder = port_file.parent / "var"
    here = lambda name: environment[f"HEADRACE_SERVING_{name}"].replace("/var/headrace", str(folder))
    command = [sys.executable, "-m", "mlops_core.serving", "--host", "127.0.0.1", "--port", "0"]
    command += ["--port-file", str(port_file), "--fetch-to", str(folder), "--model", here("MODEL")]
    command += ["--linger-seconds", "0.2"]
    return command + (["--code", here("CODE")] if "HEADRACE_SERVING_CODE" in environment else [])


def identity(request: Request) -> Answer | None:
    """Be the endpoint that hands out a container's tokens."""
    if request.path != "/identity":
        return None
    if request.headers.get("x-identity-header") != "s" or "client_id" not in request.query:
        return refuse(400, "BadRequest", "who are you?")
    now = int(time.time())
    claims = {"aud": "https://storage.azure.com", "iss": "https://sts.windows.net/t/", "oid": "o", "tid": "t"}
    parts = [{"alg": "none", "typ": "JWT"}, {**claims, "iat": now - 60, "nbf": now - 60, "exp": now + 3600}]
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return Answer(200, {"access_token": f"{head}.{body}.eA"})
