"""The Azure ML workspace: where it is, and its client, which is made when it is first needed."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlops_core.adapters.azure.credential import token_of
from mlops_core.adapters.azure.failures import RETRIES, azure_calls
from mlops_core.adapters.mlflow_api import MlflowApi
from mlops_core.domain.errors import PermanentError

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.credentials import TokenCredential

_SCOPE = "https://ml.azure.com/.default"
_SERVERLESS = "serverless"


@dataclass(frozen=True, kw_only=True)
class WorkspaceOptions:
    """
    Which workspace.

    Attributes:
        compute: Where jobs run that name no compute; `serverless` needs nothing to be made beforehand.
        client: Further arguments of `MLClient`, such as another cloud.
    """

    subscription: str
    resource_group: str
    workspace: str
    compute: str = _SERVERLESS
    client: Mapping[str, Any] = field(default_factory=dict)

    @property
    def resource_id(self) -> str:
        """The workspace's id for the resource manager."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.workspace}"
        )


class Workspace:
    """One Azure ML workspace, with clients that all adapters of it share."""

    def __init__(self, options: WorkspaceOptions, credential: TokenCredential) -> None:
        self.options = options
        self._credential = credential

    @functools.cached_property
    def client(self) -> MLClient:
        """The genuine client. Its import takes seconds: only calls that need it get here."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from azure.ai.ml import MLClient

            # It tells of its own experimental classes at each use.
            logging.getLogger("azure.ai.ml._utils._experimental").setLevel(logging.ERROR)
            return MLClient(
                self._credential,
                self.options.subscription,
                self.options.resource_group,
                self.options.workspace,
                show_progress=False,
                enable_telemetry=False,
                **RETRIES,
                **self.options.client,
            )

    @functools.cached_property
    def mlflow(self) -> MlflowApi:
        """The workspace's own MLflow REST API, which has what azure-ai-ml has no call for: metrics."""
        advice = "The workspace's tracking service may be down for a moment; the controller tries again."
        return MlflowApi(
            lambda: self._tracking_address, token=lambda: token_of(self._credential, _SCOPE), advice=advice
        )

    @functools.cached_property
    def _tracking_address(self) -> str:
        with azure_calls(f"reading workspace '{self.options.workspace}'"):
            found = self.client.workspaces.get(self.options.workspace)
        # azureml://westeurope.api.azureml.ms/mlflow/v1.0/subscriptions/... is what the MLflow plug-in takes.
        return str(found.mlflow_tracking_uri).replace("azureml://", "https://", 1).rstrip("/")

    def find_datastore(self, name: str) -> tuple[str, str]:
        """
        Say where a blob datastore of the workspace is.

        Returns: The account's address and the container.
        Raises: NotFoundError, PermanentError: It is no blob storage. TemporaryError.
        """
        with azure_calls(f"reading datastore '{name}'"):
            found = self.client.datastores.get(name)
        account, container = getattr(found, "account_name", None), getattr(found, "container_name", None)
        if not account or not container:
            raise PermanentError(f"Datastore '{name}' is no blob storage, so the model in it cannot be served.")
        endpoint = getattr(found, "endpoint", None) or "core.windows.net"
        return f"https://{account}.blob.{endpoint}", str(container)
