"""
The only reader of environment variables: one frozen object, read once by the composition root.

Every variable starts with `HEADRACE_`. A value that is missing or malformed stops the start, with all problems in one
message that names key, value and what is allowed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mlops_core.domain.errors import PermanentError

# What Azure's platform puts in the place of a reference that it could not resolve is the reference itself.
_REFERENCE = "@Microsoft.KeyVault("
NEEDED_ON_AZURE = (
    "subscription", "resource_group", "location", "workspace", "topic_endpoint", "registry", "serving_identity",
    "serving_client_id",
)  # fmt: skip
"""The fields without which the Azure backend does not start; it also needs one of the two that name a storage account."""
_INSIGHTS = "APPLICATIONINSIGHTS_CONNECTION_STRING"


def _json(value: object) -> object:
    """Read a setting that is JSON here, so that what is wrong with it is told beside everything else."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        # The position only: the text may hold secrets.
        place = f"at character {error.pos}" if isinstance(error, json.JSONDecodeError) else "somewhere"
        raise ValueError(f'is no JSON, {place}. Write an object, such as {{"github": ...}}.') from None


_JSON = BeforeValidator(_json)


class HostSettings(BaseModel):
    """What proves the controller to a repository host."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    token: SecretStr = SecretStr("")
    user: str = ""
    app_id: str = ""
    app_private_key: SecretStr = SecretStr("")
    base_url: str = ""
    archive_hosts: tuple[str, ...] = ()


class Settings(BaseSettings):
    """What the operator decides."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_", frozen=True, extra="ignore", hide_input_in_errors=True, populate_by_name=True
    )

    backend: Literal["local", "azure"] = "local"
    """Which adapters stand behind the ports."""

    data: Path = Path("~/.headrace")
    """Local backend: the folder that holds all of it. `~` is the home of whoever runs Headrace."""

    base_url: str = "http://127.0.0.1:7071"
    """Where the function app is reached, without a slash at the end: jobs and hooks of the local backend tell it what
    happened, and commit statuses link to it."""

    webhook_secrets: Annotated[dict[str, tuple[SecretStr, ...]], NoDecode, _JSON] = Field(default_factory=dict)
    """Per repository host, the secrets of its webhooks as JSON, such as {"github": ["new", "old"]}. Two are valid at
    once during a rotation. The local backend makes its own for host 'local'."""

    key: SecretStr | None = None
    """Function key that the command line sends, where the controller asks for one."""

    hosts: Annotated[dict[str, HostSettings], NoDecode, _JSON] = Field(default_factory=dict)
    """Per repository host, the controller's rights there as JSON, such as {"github": {"token": "..."}}. Needed to fetch
    commits and to show their status; see docs/repository-hosts.md."""

    webhook_max_bytes: int = Field(26_214_400, ge=1_024)
    """Largest webhook body in bytes that is read; GitHub sends up to 25 MiB."""

    score_max_bytes: int = Field(10_485_760, ge=1_024)
    """Largest scoring request in bytes."""

    resend_after_seconds: float = Field(60.0, gt=0)
    """Age in seconds of a pending effect after which reconciling puts its message again."""

    jobs_at_once: int | None = Field(None, ge=1)
    """Local backend: builds, and trainings, that work at the same time; more wait for their turn in the order in which
    they came. None: as many as half of the cores, at least one."""

    client_id: str | None = None
    """Azure: client id of the controller's own managed identity. None for the one that the environment names."""

    storage: SecretStr | None = None
    """Azure: connection string of the storage account, for Azurite. On Azure there is none: see the next one."""

    storage_account: str | None = Field(None, validation_alias="HEADRACE_STORAGE__accountName")
    """Azure: name of the storage account of runs, models and effects, opened with the controller's identity. The queue
    trigger reads it too. Needed, unless `HEADRACE_STORAGE` is there."""

    subscription: str | None = None
    """Azure: id of the subscription of everything below."""

    resource_group: str | None = None
    """Azure: where container groups and scoring images are made."""

    location: str | None = None
    """Azure: region of the container groups, such as westeurope."""

    workspace: str | None = None
    """Azure: name of the Azure ML workspace."""

    workspace_resource_group: str | None = None
    """Azure: its resource group, where that is another one."""

    compute: str = "serverless"
    """Azure: compute of jobs whose project names none."""

    topic_endpoint: str | None = None
    """Azure: endpoint of the Event Grid topic of the controller's events."""

    topic_key: SecretStr | None = None
    """Azure: key of the topic, where it takes no identity."""

    registry: str | None = None
    """Azure: name of the container registry of scoring images, such as crheadrace."""

    serving_identity: str | None = None
    """Azure: resource id of the identity that scoring containers run as."""

    serving_client_id: str | None = None
    """Azure: client id of the same identity."""

    serving_subnet: str | None = None
    """Azure: resource id of a delegated subnet for scoring containers, which then have private addresses only. The
    function app must reach it. None or empty: public addresses."""

    log_analytics_id: str | None = None
    """Azure: id of the Log Analytics workspace that gets the containers' output."""

    log_analytics_key: SecretStr | None = None
    """Azure: key of that Log Analytics workspace."""

    insights: SecretStr | None = Field(None, validation_alias=_INSIGHTS)
    """Azure: connection string of Application Insights, which gets one trace per run. None tells nobody."""

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
    problems = _unresolved(process_environment())
    try:
        found = Settings()
    except ValidationError as error:
        found = None
        for detail in error.errors(include_url=False, include_input=False):
            name = _name_of(detail["loc"])
            if not any(problem.startswith(f"{name}:") for problem in problems):
                problems.append(f"{name}: {detail['msg']}")
    if found is not None and found.backend == "azure":
        problems += _missing_on_azure(found)
    if found is None or problems:
        raise PermanentError("Settings are not as they must be:\n" + "\n".join(problems)) from None
    return found


def _name_of(place: tuple[int | str, ...]) -> str:
    first, *rest = (str(part) for part in place)
    name = first if first.startswith("HEADRACE_") or first == _INSIGHTS else f"HEADRACE_{first.upper()}"
    return ".".join([name, *rest])


def _unresolved(environment: dict[str, str]) -> list[str]:
    """Find Key Vault references that the platform could not resolve: their text is no secret."""
    return [
        f"{name}: the Key Vault reference was not resolved. See that the secret exists and that the controller's identity "
        "has the role 'Key Vault Secrets User'."
        for name, value in sorted(environment.items())
        if (name.startswith("HEADRACE_") or name == _INSIGHTS) and value.startswith(_REFERENCE)
    ]


def _missing_on_azure(found: Settings) -> list[str]:
    problems = [
        f"HEADRACE_{name.upper()}: is needed with HEADRACE_BACKEND=azure; infra/modules/functions.bicep sets it."
        for name in NEEDED_ON_AZURE
        if not getattr(found, name)
    ]
    if found.storage is None and found.storage_account is None:
        problems.append(
            "HEADRACE_STORAGE__accountName: is needed with HEADRACE_BACKEND=azure (or HEADRACE_STORAGE, a connection "
            "string, for Azurite)."
        )
    return problems
