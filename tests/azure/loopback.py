"""Azure's public names on loopback: a credential, and the cloud that azure-ai-ml is told of."""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import azurite
import pytest
from aml_double import AzureMlDouble
from tls import Certificate, make_certificate

from mlops_core.adapters.azure.workspace import Workspace, WorkspaceOptions

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
DOMAIN = "core.localhost"
CLOUD = "loopback"
PLAIN = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}  # noqa: TID251 - real processes


class LoopbackCredential:
    """Tokens in the form that the clients look into; nobody on loopback checks a signature."""

    def get_token(self, *scopes: str, **_: Any) -> Any:
        from azure.core.credentials import AccessToken

        audience = scopes[0].removesuffix("/.default").rstrip("/")
        now = int(time.time())
        claims = {"aud": audience, "iss": "https://sts.windows.net/t/", "oid": "o", "tid": "t"}
        parts = [{"alg": "none", "typ": "JWT"}, {**claims, "iat": now - 60, "nbf": now - 60, "exp": now + 3600}]
        head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
        return AccessToken(f"{head}.{body}.eA", int(time.time()) + 3600)


def cloud_of(double: AzureMlDouble, account: azurite.Azurite) -> dict[str, Any]:
    """Arguments of `MLClient` that point it at the double."""
    port = account.blob.split(":")[2].split("/")[0]
    metadata = {
        "azure_portal": "https://portal.azure.com/",
        "resource_manager": f"{double.address}/",
        "active_directory": "https://login.microsoftonline.com/",
        "aml_resource_id": "https://ml.azure.com/",
        "storage_endpoint": f"{DOMAIN}:{port}",
        "registry_discovery_endpoint": f"{double.address}/",
    }
    return {"cloud": CLOUD, "cloud_metadata": metadata}


def workspace_of(double: AzureMlDouble, account: azurite.Azurite) -> Workspace:
    """The adapters' own workspace object, pointed at the double."""
    options = WorkspaceOptions(
        subscription=SUBSCRIPTION, resource_group="group", workspace="workspace", client=cloud_of(double, account)
    )
    return Workspace(options, LoopbackCredential())


@contextmanager
def trusted_certificate(folder: Path) -> Iterator[Certificate]:
    """Make a certificate that this process' clients trust, and resolve the names in it, until the block ends."""
    made = make_certificate(folder, f"{azurite.ACCOUNT}.blob.{DOMAIN}")
    patch = pytest.MonkeyPatch()
    patch.setenv("REQUESTS_CA_BUNDLE", str(made.certificate))
    patch.setenv("SSL_CERT_FILE", str(made.certificate))
    real = socket.getaddrinfo

    def resolve(host: Any, *others: Any, **named: Any) -> Any:
        known = isinstance(host, str) and host.endswith(f".{DOMAIN}")
        return real("127.0.0.1" if known else host, *others, **named)

    # azure-ai-ml uploads data to https://ACCOUNT.blob.DOMAIN, a name that no name server knows here.
    patch.setattr(socket, "getaddrinfo", resolve)
    outer = _known_clouds().pop(CLOUD, None)
    try:
        yield made
    finally:
        _known_clouds().pop(CLOUD, None)
        if outer is not None:
            _known_clouds()[CLOUD] = outer
        patch.undo()


def _known_clouds() -> dict[str, Any]:
    """
    Find what azure-ai-ml remembers of clouds, once it is imported.

    It keeps the first cloud of a name for as long as the process lives, so one that is made within another must hide that.
    """
    module = sys.modules.get("azure.ai.ml._azure_environments")
    return {} if module is None else module._environments
