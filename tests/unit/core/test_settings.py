"""Settings from the environment: what is wrong is told all at once, and no secret with it."""

from __future__ import annotations

import pytest

from mlops_core.domain.errors import PermanentError
from mlops_core.settings import read_settings

AZURE = {
    "HEADRACE_BACKEND": "azure",
    "HEADRACE_SUBSCRIPTION": "s",
    "HEADRACE_RESOURCE_GROUP": "g",
    "HEADRACE_LOCATION": "westeurope",
    "HEADRACE_WORKSPACE": "w",
    "HEADRACE_TOPIC_ENDPOINT": "https://t/api/events",
    "HEADRACE_REGISTRY": "r",
    "HEADRACE_SERVING_IDENTITY": "/i",
    "HEADRACE_SERVING_CLIENT_ID": "c",
    "HEADRACE_STORAGE__accountName": "account",
}


def told(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PermanentError) as error:
        read_settings()
    return str(error.value)


def test_a_laptop_needs_no_setting() -> None:
    assert read_settings().backend == "local"


def test_azure_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AZURE.items():
        monkeypatch.setenv(name, value)
    found = read_settings()
    assert (found.storage_account, found.compute, found.workspace) == ("account", "serverless", "w")


@pytest.mark.parametrize("missing", sorted(set(AZURE) - {"HEADRACE_BACKEND"}))
def test_each_setting_that_azure_needs_is_asked_for(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    text = told(monkeypatch, **{name: value for name, value in AZURE.items() if name != missing})
    assert text.count("\n") == 1
    assert f"\n{missing}: is needed with HEADRACE_BACKEND=azure" in text


def test_all_problems_come_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    text = told(
        monkeypatch,
        HEADRACE_BACKEND="aws",
        HEADRACE_SCORE_MAX_BYTES="3",
        HEADRACE_HOSTS='{"github": {"tokn": "geheim"}}',
        HEADRACE_KEY="@Microsoft.KeyVault(SecretUri=https://v/secrets/key)",
    )
    assert "HEADRACE_BACKEND: Input should be 'local' or 'azure'" in text
    assert "HEADRACE_SCORE_MAX_BYTES: Input should be greater than or equal to 1024" in text
    assert "HEADRACE_HOSTS.github.tokn: Extra inputs are not permitted" in text
    assert "HEADRACE_KEY: the Key Vault reference was not resolved" in text
    assert "geheim" not in text


def test_a_reference_that_was_not_resolved_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = told(monkeypatch, HEADRACE_WEBHOOK_SECRETS="@Microsoft.KeyVault(SecretUri=https://v/secrets/w)")
    assert text.count("HEADRACE_WEBHOOK_SECRETS") == 1


def test_a_reference_to_the_traces_place_is_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    text = told(monkeypatch, APPLICATIONINSIGHTS_CONNECTION_STRING="@Microsoft.KeyVault(SecretUri=https://v/secrets/i)")
    assert "\nAPPLICATIONINSIGHTS_CONNECTION_STRING: the Key Vault reference was not resolved" in text


def test_json_that_is_none_is_told_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    text = told(monkeypatch, HEADRACE_HOSTS='{"github": "geheim')
    assert "HEADRACE_HOSTS: Value error, is no JSON, at character 11" in text
    assert "geheim" not in text


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_WEBHOOK_SECRETS", '{"github": ["geheim", "alt"]}')
    monkeypatch.setenv("HEADRACE_HOSTS", '{"github": {"token": "geheim"}}')
    monkeypatch.setenv("HEADRACE_STORAGE", "AccountKey=geheim")
    found = read_settings()
    assert "geheim" not in repr(found)
    assert found.secrets_of_hosts() == {"github": (b"geheim", b"alt")}
