"""The controller's identity: one credential in a process, made when it is first needed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from mlops_core.adapters.azure.failures import azure_calls

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential

_lock = threading.Lock()
_made: dict[str, TokenCredential] = {}


def credential(client_id: str | None = None) -> TokenCredential:
    """
    Give the process' credential.

    On Azure it is the function app's managed identity, elsewhere what `DefaultAzureCredential` finds (`az login`).

    Args:
        client_id: Of a user-assigned identity; None for the one that the environment names.
    """
    key = client_id or ""
    with _lock:
        if key not in _made:
            # 0.4 s of import: only who talks to Azure pays it.
            from azure.identity import DefaultAzureCredential

            options = {"managed_identity_client_id": client_id} if client_id else {}
            _made[key] = DefaultAzureCredential(exclude_interactive_browser_credential=True, **options)
        return _made[key]


class LazyCredential:
    """The process' credential, made when the first token is asked for: composing an application is no reason yet."""

    def __init__(self, client_id: str | None = None) -> None:
        self._client_id = client_id

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Get a token."""
        return credential(self._client_id).get_token(*scopes, **options)


def token_of(source: TokenCredential, scope: str) -> str:
    """Get a bearer token; azure-identity keeps it until shortly before it ends. Raises PermanentError."""
    with azure_calls(f"getting a token for '{scope}'"):
        return str(source.get_token(scope).token)
