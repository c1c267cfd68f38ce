"""
The local topics, who subscribes to them, and the news about deployments.

On Azure these are the custom topic, the workspace's system topic and the resource group's; names of functions are those
that `function_app.py` registers.
"""

from __future__ import annotations

import logging
import uuid
from datetime import UTC, datetime

from mlops_core.adapters.local.deployment_folders import DeploymentFolders
from mlops_core.adapters.local.event_bus import SqliteEventBus, Subscription
from mlops_core.ports import DeploymentStatus

log = logging.getLogger(__name__)

TOPICS = ("headrace", "azureml", "deployments")
SUBSCRIPTIONS = (
    Subscription("git-push", "headrace", "take_git_push", ("Headrace.GitPush",)),
    Subscription("workspace", "azureml", "take_ml_event"),
    Subscription("deployments", "deployments", "take_deployment_event"),
)


class DeploymentNews:
    """Turns what the watcher sees into events for the controller."""

    def __init__(self, bus: SqliteEventBus, folders: DeploymentFolders) -> None:
        self._bus = bus
        self._folders = folders

    def tell(self, status: DeploymentStatus) -> None:
        """Tell that a deployment changed; one that was deleted meanwhile interests nobody."""
        folder = self._folders.folder(status.name)
        if self._folders.state(folder) is None:
            return
        request = self._folders.request(folder)
        event = {
            "id": uuid.uuid4().hex,
            "topic": "/topics/deployments",
            "subject": f"deployments/{status.name}",
            "eventType": "Headrace.DeploymentChanged",
            "eventTime": datetime.now(UTC).isoformat(),
            "data": {"model": request.model, "version": request.version, "state": status.state},
            "dataVersion": "1",
            "metadataVersion": "1",
        }
        self._bus.accept("deployments", [event])
