"""The controller's own topic: Event Grid, through its genuine client."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlops_core.adapters.azure.failures import RETRIES, azure_calls

if TYPE_CHECKING:
    from azure.core.credentials import AzureKeyCredential, TokenCredential
    from azure.eventgrid import EventGridPublisherClient

_DATA_VERSION = "1"


class EventGridBus:
    """The `EventBus` of the Azure backend. Event Grid has an event for good once it answered."""

    def __init__(
        self,
        endpoint: str,
        credential: TokenCredential | AzureKeyCredential,
        client: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Remember the topic.

        Args:
            endpoint: Of the topic, such as https://headrace.westeurope-1.eventgrid.azure.net/api/events.
            client: Further options of each call.
        """
        self._endpoint = endpoint
        self._credential = credential
        self._options = dict(client or {})

    @functools.cached_property
    def _client(self) -> EventGridPublisherClient:
        from azure.eventgrid import EventGridPublisherClient

        return EventGridPublisherClient(self._endpoint, self._credential)

    def publish(
        self, *, event_id: str, event_type: str, subject: str, data: Mapping[str, object], at: datetime
    ) -> None:
        """Publish one event. Raises TemporaryError, PermanentError."""
        from azure.eventgrid import EventGridEvent

        event = EventGridEvent(
            id=event_id,
            subject=subject,
            event_type=event_type,
            event_time=at,
            data=dict(data),
            data_version=_DATA_VERSION,
        )
        with azure_calls(f"publishing '{event_type}' to the topic"):
            # Of options that are given to the client itself nothing arrives: for a topic it makes another one without them.
            self._client.send(event, **RETRIES, **self._options)
