"""
The only reader of environment variables: one frozen object, read once by the composition root.

Every variable starts with `HEADRACE_`. A value that is missing or malformed stops the start, with all problems in one
message that names key, value and what is allowed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mlops_core.domain.errors import PermanentError


class Settings(BaseSettings):
    """What the operator decides."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_", frozen=True, extra="ignore", hide_input_in_errors=True)

    backend: Literal["local"] = "local"
    """Which adapters stand behind the ports."""

    data: Path = Path("~/.headrace")
    """Local backend: the folder that holds all of it. `~` is the home of whoever runs Headrace."""

    base_url: str = "http://127.0.0.1:7071"
    """Where the function app is reached, without a slash at the end: jobs and hooks of the local backend tell it what
    happened, and commit statuses link to it."""

    webhook_secrets: dict[str, tuple[SecretStr, ...]] = Field(default_factory=dict)
    """Per repository host, the secrets of its webhooks as JSON, such as {"github": ["new", "old"]}. Two are valid at
    once during a rotation. The local backend makes its own for host 'local'."""

    key: SecretStr | None = None
    """Function key that the command line sends, where the controller asks for one."""

    webhook_max_bytes: int = Field(26_214_400, ge=1_024)
    """Largest webhook body in bytes that is read; GitHub sends up to 25 MiB."""

    score_max_bytes: int = Field(10_485_760, ge=1_024)
    """Largest scoring request in bytes."""

    resend_after_seconds: float = Field(60.0, gt=0)
    """Age in seconds of a pending effect after which reconciling puts its message again."""

    @property
    def data_folder(self) -> Path:
        """The data folder with the home filled in."""
        return self.data.expanduser().absolute()

    def secrets_of_hosts(self) -> dict[str, tuple[bytes, ...]]:
        """Read the webhook secrets as bytes, as signatures need them."""
        return {
            host: tuple(secret.get_secret_value().encode() for secret in secrets)
            for host, secrets in self.webhook_secrets.items()
        }


def process_environment() -> dict[str, str]:
    """Copy this process' environment, for those who hand an allow-list of it to processes that they start."""
    return dict(os.environ)  # noqa: TID251 - the one place


def read_settings() -> Settings:
    """
    Read the settings from the environment.

    Raises: PermanentError: Names every variable that is not as it must be.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = [
            f"HEADRACE_{'_'.join(str(part) for part in detail['loc']).upper()}: {detail['msg']}"
            for detail in error.errors(include_url=False, include_input=False)
        ]
        raise PermanentError("Settings are not as they must be:\n" + "\n".join(problems)) from None
