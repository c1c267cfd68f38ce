"""The calls to Container Instances: one container group per deployment, found by name and by tag."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

from mlops_core.adapters.azure.container_group import CONTAINER, DEPLOYMENT_TAG, OWNER_TAG, ContainerOptions, group_of
from mlops_core.adapters.azure.container_refusals import refusal_of
from mlops_core.adapters.azure.container_states import judge
from mlops_core.adapters.azure.failures import RETRIES, azure_calls
from mlops_core.domain.errors import HeadraceError, NotFoundError, PermanentError, TemporaryError
from mlops_core.domain.ids import DeploymentName
from mlops_core.ports import DeploymentRequest

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.mgmt.containerinstance import ContainerInstanceManagementClient

log = logging.getLogger(__name__)

_LOG_LINES = 60
_GOING_SECONDS = 10.0


class ContainerGroups:
    """The container groups of one Headrace in one resource group."""

    def __init__(self, options: ContainerOptions, credential: TokenCredential) -> None:
        self._options = options
        self._credential = credential

    @functools.cached_property
    def _client(self) -> ContainerInstanceManagementClient:
        """The genuine client; its import takes a while, so only calls that need it get here."""
        from azure.mgmt.containerinstance import ContainerInstanceManagementClient

        given = {**RETRIES, **self._options.client}
        return ContainerInstanceManagementClient(self._credential, self._options.subscription, **given)

    def find(self, name: DeploymentName) -> Any:
        """
        Read a deployment's group; None where there is none, or one that is somebody else's.

        Raises: TemporaryError, PermanentError.
        """
        group = self._read(name)
        return group if group is not None and self._is_ours(group) else None

    def _read(self, name: DeploymentName) -> Any:
        try:
            with azure_calls(f"reading container group '{group_of(name)}'"):
                return self._client.container_groups.get(self._options.resource_group, group_of(name))
        except NotFoundError:
            return None

    def names(self) -> list[DeploymentName]:
        """List the deployments whose groups are ours, by their tags."""
        with azure_calls(f"listing the container groups of '{self._options.resource_group}'"):
            groups = list(self._client.container_groups.list_by_resource_group(self._options.resource_group))
        tags = [group.tags or {} for group in groups]
        ours = [each for each in tags if each.get(OWNER_TAG) == self._options.owner and each.get(DEPLOYMENT_TAG)]
        return sorted(DeploymentName(each[DEPLOYMENT_TAG]) for each in ours)

    def exists(self, name: DeploymentName) -> bool:
        """
        Tell whether a deployment has its group.

        Raises:
            PermanentError: A group of this name is somebody else's.
            TemporaryError: It is still being deleted.
        """
        group = self._read(name)
        if group is None:
            return False
        if not self._is_ours(group):
            raise PermanentError(
                f"Container group '{group.name}' is there, but is not Headrace's: its tag '{OWNER_TAG}' is not "
                f"'{self._options.owner}'. Delete it, or give Headrace a resource group of its own."
            )
        if judge(group).state == "absent":
            raise TemporaryError(
                f"Container group '{group.name}' is still being deleted. It is made again after that.",
                retry_after_seconds=_GOING_SECONDS,
            )
        return True

    def _is_ours(self, group: Any) -> bool:
        return bool((group.tags or {}).get(OWNER_TAG) == self._options.owner)

    def put(self, request: DeploymentRequest, group: Any) -> None:
        """
        Put a group that is not there, in one try: a second one might meet the group that the first one made.

        Raises: PermanentError, TemporaryError: With what Azure does not like about it, and the next step.
        """
        from azure.core.exceptions import HttpResponseError

        name = group_of(request.name)
        once = dict.fromkeys(("retry_total", "retry_connect", "retry_read", "retry_status"), 0)
        try:
            with azure_calls(f"creating container group '{name}'"):
                self._client.container_groups.begin_create_or_update(
                    self._options.resource_group, name, group, polling=False, headers={"If-None-Match": "*"}, **once
                )
        except HeadraceError as error:
            cause = error.__cause__
            refusal = refusal_of(cause, request, self._options) if isinstance(cause, HttpResponseError) else None
            if refusal is None:
                raise
            if refusal.exists:
                return  # another process was first, with the same request
            raise refusal.error from cause

    def delete(self, name: DeploymentName) -> bool:
        """
        Begin to delete a group; tell whether there was one.

        One of this name that is somebody else's stays: the run that could not have it tidies up after itself too.
        """
        group = self._read(name)
        if group is None or judge(group).state == "absent":
            return False
        if not self._is_ours(group):
            log.warning("container group is not Headrace's and stays", extra={"group": group.name, "deployment": name})
            return False
        try:
            with azure_calls(f"deleting container group '{group_of(name)}'"):
                # Not waited for: the poller that comes back is let go.
                self._client.container_groups.begin_delete(self._options.resource_group, group_of(name), polling=False)
        except NotFoundError:
            return False
        return True

    def log_tail(self, name: DeploymentName, *, lines: int = _LOG_LINES) -> str:
        """Read the last lines of a container; a log that cannot be had is no reason to say nothing else."""
        try:
            with azure_calls(f"reading the log of container group '{group_of(name)}'"):
                logs = self._client.containers.list_logs(
                    self._options.resource_group, group_of(name), CONTAINER, tail=lines
                )
        except HeadraceError as error:
            log.warning("log of a deployment could not be read", extra={"deployment": name, "error": str(error)})
            return ""
        return str(logs.content or "")
