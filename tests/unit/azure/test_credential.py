"""The controller's identity: one credential in a process, made when it is needed, and what its failures mean."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import azure.identity
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError

from mlops_core.adapters.azure import credential as module
from mlops_core.adapters.azure.credential import LazyCredential, token_of
from mlops_core.adapters.azure.failures import azure_calls
from mlops_core.domain.errors import PermanentError, TemporaryError


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The credentials that were made, by their options."""
    found: list[dict[str, Any]] = []

    class Counted:
        def __init__(self, **options: Any) -> None:
            found.append(options)

        def get_token(self, *scopes: str, **_: Any) -> Any:
            return SimpleNamespace(token=f"token for {scopes[0]}", expires_on=0)

    monkeypatch.setattr(azure.identity, "DefaultAzureCredential", Counted)
    monkeypatch.setattr(module, "_made", {})
    return found


def test_composing_makes_no_credential_and_all_adapters_share_one(made: list[dict[str, Any]]) -> None:
    adapters = [LazyCredential("c") for _ in range(20)]
    assert made == []

    with ThreadPoolExecutor(8) as threads:
        tokens = set(threads.map(lambda each: token_of(each, "s"), adapters))

    assert tokens == {"token for s"}
    assert [options["managed_identity_client_id"] for options in made] == ["c"]


def test_nobody_is_asked_to_sign_in_with_a_browser(made: list[dict[str, Any]]) -> None:
    LazyCredential().get_token("s")

    assert made == [{"exclude_interactive_browser_credential": True}]


def test_an_identity_that_is_away_for_a_moment_fails_nothing_for_good() -> None:
    with pytest.raises(TemporaryError, match="identity got no token") as away, azure_calls("submitting job 'x'"):
        raise CredentialUnavailableError(message="no response from the endpoint")
    assert "no response from the endpoint" in str(away.value)


def test_a_refused_identity_is_told_with_where_its_rights_are() -> None:
    refused = ClientAuthenticationError(message="AuthorizationFailed")
    refused.status_code = 401
    with pytest.raises(PermanentError, match="'Rights' in docs/azure") as told, azure_calls("submitting job 'x'"):
        raise refused
    assert str(told.value).startswith("Submitting job 'x' was refused")
