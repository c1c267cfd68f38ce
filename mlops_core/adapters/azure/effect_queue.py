"""Hints that an effect is pending, on Queue storage. The Functions host takes them, and tries each five times."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mlops_core.adapters.azure.storage_calls import NO_RETRIES, repeated
from mlops_core.adapters.azure.tables import StorageAccount
from mlops_core.domain.errors import TooLargeError

if TYPE_CHECKING:
    from azure.storage.queue import QueueClient

QUEUE = "headrace-effects"
# Of a message after base64: 64 KiB. https://learn.microsoft.com/azure/storage/queues/scalability-targets
_MESSAGE_BYTES = 48 * 1024
_LONGEST_DELAY_SECONDS = 7 * 24 * 3600
_FOR_EVER = -1


class StorageEffectQueue:
    """The `EffectQueue` of the Azure backend."""

    def __init__(self, account: StorageAccount, *, name: str = QUEUE) -> None:
        self._account = account
        self._name = name
        self._lock = threading.Lock()
        self._client: QueueClient | None = None

    def put(self, message: str, *, delay_seconds: float = 0) -> None:
        """Add a message. Raises TooLargeError, TemporaryError, PermanentError."""
        size = len(message.encode())
        if size > _MESSAGE_BYTES:
            raise TooLargeError(f"A message of the effect queue has {size} bytes; at most {_MESSAGE_BYTES} are taken.")
        delay = min(max(0, round(delay_seconds)), _LONGEST_DELAY_SECONDS)
        # A message that was put and whose answer was lost is put twice: it is a hint.
        doing = f"putting a message on queue '{self._name}'"
        repeated(doing, lambda: self._send(message, delay), self._account.pause)

    def _send(self, message: str, delay: int) -> None:
        from azure.core.exceptions import ResourceNotFoundError

        client = self.client()
        try:
            client.send_message(message, visibility_timeout=delay or None, time_to_live=_FOR_EVER)
        except ResourceNotFoundError:
            self._make(client)
            client.send_message(message, visibility_timeout=delay or None, time_to_live=_FOR_EVER)

    def _make(self, client: QueueClient) -> None:
        from azure.core.exceptions import ResourceExistsError

        try:
            client.create_queue()
        except ResourceExistsError:
            return

    def client(self) -> QueueClient:
        """Give the queue's client. Messages are written in base64, which is what the Functions host reads."""
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> QueueClient:
        from azure.storage.queue import QueueClient, TextBase64DecodePolicy, TextBase64EncodePolicy

        account = self._account
        policies = {
            "message_encode_policy": TextBase64EncodePolicy(),
            "message_decode_policy": TextBase64DecodePolicy(),
        }
        if account.connection_string is not None:
            return QueueClient.from_connection_string(
                account.connection_string, self._name, **policies, **NO_RETRIES, **account.client
            )
        return QueueClient(
            account.endpoint("queue"),
            self._name,
            credential=account.credential,
            **policies,
            **NO_RETRIES,
            **account.client,
        )
