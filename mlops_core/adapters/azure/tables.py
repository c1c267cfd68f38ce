"""
Table storage: clients, keys, rows, and the limits that are kept before Azure would refuse.

A record's JSON is divided among text properties, so nothing needs a second place to be kept. Every write is a create or
an update that names the etag it read, never an upsert. A write carries a token: where the answer was lost and the SDK
repeated it, the refusal of the repeat is told from somebody else's write by reading the token back.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlops_core.adapters.azure.failures import RETRIES, azure_calls
from mlops_core.domain.errors import PermanentError, TemporaryError
from mlops_core.domain.limits import checked_row, pieces

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.data.tables import TableClient, TableServiceClient

Row = dict[str, Any]
Operation = tuple[str, Row] | tuple[str, Row, Mapping[str, Any]]

SCHEMA = 1
"""Of the rows that this version writes. It reads all up to it; one that is newer waits for an upgrade of the reader."""
# Not allowed in keys, besides control characters; the percent sign since it marks those that were replaced.
# https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model
_FORBIDDEN = frozenset("/\\#?%")
_KEY_LETTERS = 512
_TRANSACTION = 100
_LATEST = 10**16
_ASCII_CONTROL, _DELETE, _LAST_CONTROL = 0x1F, 0x7F, 0x9F


@dataclass(frozen=True, kw_only=True)
class StorageAccount:
    """
    Where tables, queues and blobs are: an account with an identity, or a connection string, as Azurite needs it.

    Attributes:
        client: Further arguments of every client.
    """

    connection_string: str | None = field(default=None, repr=False)
    account: str | None = None
    credential: TokenCredential | None = None
    client: Mapping[str, Any] = field(default_factory=dict)

    def endpoint(self, service: str) -> str:
        """Give the address of `table`, `queue` or `blob`."""
        return f"https://{self.account}.{service}.core.windows.net"


class Tables:
    """The tables of one account, made when they are first written to."""

    def __init__(self, account: StorageAccount, *, prefix: str = "headrace") -> None:
        """
        Remember the account.

        Args:
            prefix: Of the tables' names, letters and digits only.
        """
        self._account = account
        self._prefix = prefix
        self._lock = threading.Lock()
        self._service: TableServiceClient | None = None
        self._clients: dict[str, TableClient] = {}
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="tables")

    def table(self, name: str) -> TableClient:
        """Give the client of a table."""
        with self._lock:
            if self._service is None:
                self._service = self._connect()
            if name not in self._clients:
                self._clients[name] = self._service.get_table_client(f"{self._prefix}{name}")
            return self._clients[name]

    def _connect(self) -> TableServiceClient:
        from azure.data.tables import TableServiceClient

        account = self._account
        if account.connection_string is not None:
            return TableServiceClient.from_connection_string(account.connection_string, **RETRIES, **account.client)
        return TableServiceClient(
            endpoint=account.endpoint("table"), credential=account.credential, **RETRIES, **account.client
        )

    def get(self, table: str, partition: str, row: str) -> Row | None:
        """Read a row; None where there is none, or no table yet."""
        from azure.core.exceptions import ResourceNotFoundError

        with azure_calls(f"reading '{partition}' of table '{table}'"):
            try:
                found = self.table(table).get_entity(partition, row)
            except ResourceNotFoundError:
                return None
            return _with_etag(found)

    def query(
        self, table: str, condition: str, parameters: Mapping[str, object], *, limit: int | None = None
    ) -> list[Row]:
        """Read the rows that meet a condition, in the order of their keys, at most `limit`."""
        from azure.core.exceptions import ResourceNotFoundError

        found: list[Row] = []
        with azure_calls(f"listing rows of table '{table}'"):
            try:
                options = {"results_per_page": limit} if limit is not None else {}
                for entity in self.table(table).query_entities(condition, parameters=dict(parameters), **options):
                    found.append(_with_etag(entity))
                    if limit is not None and len(found) == limit:
                        break
            except ResourceNotFoundError:
                return []
        return found

    def write(self, table: str, operations: Sequence[Operation]) -> list[Mapping[str, Any]]:
        """
        Do all operations or none: they must be of one partition.

        Raises:
            ConflictError: A row to create is there, or one to update is not as it was read.
            TemporaryError, PermanentError.
        """
        if len(operations) > _TRANSACTION:
            raise PermanentError(f"A transaction of table '{table}' has {len(operations)} rows; at most 100 are taken.")
        for operation in operations:
            check_keys(operation[1])
        with azure_calls(f"writing to table '{table}'"), _conflicts():
            return self._write(table, operations)

    def _write(self, table: str, operations: Sequence[Operation]) -> list[Mapping[str, Any]]:
        from azure.core.exceptions import HttpResponseError

        client = self.table(table)
        try:
            return list(client.submit_transaction(list(operations)))
        except HttpResponseError as error:
            if "TableNotFound" not in _code(error):
                raise
        self._make(table)
        return list(client.submit_transaction(list(operations)))

    def _make(self, table: str) -> None:
        from azure.core.exceptions import ResourceExistsError

        try:
            self.table(table).create_table()
        except ResourceExistsError:
            return

    def create_if_absent(self, table: str, rows: Sequence[Row]) -> None:
        """Create rows of one partition that nobody ever changes; those that are there are as they would be."""
        try:
            self.write(table, [("create", row) for row in rows])
        except ConflictError:
            if len(rows) > 1:
                for row in rows:
                    self.create_if_absent(table, [row])

    def delete(self, table: str, partition: str, rows: Sequence[str]) -> None:
        """Delete rows; absent ones are left alone."""
        from azure.core.exceptions import ResourceNotFoundError

        for row in rows:
            with azure_calls(f"deleting from table '{table}'"):
                try:
                    self.table(table).delete_entity(partition, row)
                except ResourceNotFoundError:
                    continue

    def together(self, *calls: Callable[[], object]) -> None:
        """Make calls side by side; the first failure is raised when all are done."""
        futures = [self._pool.submit(call) for call in calls[1:]]
        failures: list[BaseException] = []
        try:
            calls[0]()
        finally:
            failures += [error for future in futures if (error := future.exception()) is not None]
        if failures:
            raise failures[0]


class ConflictError(Exception):
    """A row to create is there already, or a row to update is not as it was read."""


@contextmanager
def _conflicts() -> Iterator[None]:
    from azure.core.exceptions import HttpResponseError

    try:
        yield
    except HttpResponseError as error:
        if "EntityAlreadyExists" in _code(error) or "UpdateConditionNotSatisfied" in _code(error):
            raise ConflictError(_code(error)) from error
        if "ResourceNotFound" in _code(error):
            raise ConflictError("a row to update is not there") from error
        raise


def _code(error: Any) -> str:
    """Read Azure's own name of a refusal."""
    code = getattr(error, "error_code", None)
    return f"{getattr(code, 'value', code) or ''} {error.message if hasattr(error, 'message') else ''}"


def _with_etag(entity: Any) -> Row:
    return {**entity, "etag": entity.metadata.get("etag", "")}


def key(text: str) -> str:
    """Write a text as a key: characters that keys may not have are replaced by their number, reversibly."""
    return "".join(f"%{ord(letter):04x}" if _is_forbidden(letter) else letter for letter in text)


def _is_forbidden(letter: str) -> bool:
    number = ord(letter)
    return letter in _FORBIDDEN or number <= _ASCII_CONTROL or _DELETE <= number <= _LAST_CONTROL


def check_keys(row: Row) -> None:
    """Refuse what Azure would refuse. Raises PermanentError."""
    for name in ("PartitionKey", "RowKey"):
        text = str(row[name])
        if len(text) > _KEY_LETTERS or any(_is_forbidden(letter) and letter != "%" for letter in text):
            raise PermanentError(f"'{text[:100]}' cannot be a key: at most 512 letters, without / \\ # ? and controls.")


def with_body(row: Row, record_id: str, body: str) -> Row:
    """Put a record's JSON into a row, divided among as many text properties as it takes. Raises TooLargeError."""
    parts = pieces(checked_row(record_id, body))
    return {
        **row,
        "schema": SCHEMA,
        "parts": len(parts),
        **{f"body{number}": part for number, part in enumerate(parts)},
    }


def body_of(row: Row) -> str:
    """
    Read a record's JSON out of a row.

    Raises: TemporaryError: A newer version of Headrace wrote it; an instance of that version can read it.
    """
    if row.get("schema", SCHEMA) > SCHEMA:
        raise TemporaryError(
            f"Row '{row['PartitionKey']}' has schema {row['schema']}, this version of Headrace reads up to {SCHEMA}. "
            "An upgrade is under way; the delivery is repeated.",
            retry_after_seconds=30,
        )
    return "".join(str(row[f"body{number}"]) for number in range(int(row["parts"])))


def newest_first(moment: datetime) -> str:
    """Write a time so that later ones sort before earlier ones: microseconds, counted down, in 16 digits."""
    return f"{_LATEST - round(moment.timestamp() * 1_000_000):016d}"


def token() -> str:
    """Make up a token for one write."""
    return uuid.uuid4().hex
