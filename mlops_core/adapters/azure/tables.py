"""
Table storage: the account, clients, reads and writes.

Every write is a create, or an update or delete that names the etag it read, never an upsert. A write carries a token:
where the answer was lost and the call was repeated, the refusal of the repeat is told from somebody else's write by
reading the token back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from mlops_core.adapters.azure.rows import Operation, Row, check_transaction
from mlops_core.adapters.azure.storage_calls import NO_RETRIES, repeated

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.data.tables import TableClient, TableServiceClient

S = TypeVar("S")
T = TypeVar("T")

# Azure gives no more in one answer, and refuses to be asked for more.
_PAGE_ROWS = 1_000


@dataclass(frozen=True, kw_only=True)
class StorageAccount:
    """
    Where tables, queues and blobs are: an account with an identity, or a connection string, as Azurite needs it.

    Attributes:
        client: Further arguments of every client.
        pause: Waits so many seconds before a call is repeated.
    """

    connection_string: str | None = field(default=None, repr=False)
    account: str | None = None
    credential: TokenCredential | None = None
    client: Mapping[str, Any] = field(default_factory=dict)
    pause: Callable[[float], None] = time.sleep

    def endpoint(self, service: str) -> str:
        """Give the address of `table`, `queue` or `blob`."""
        return f"https://{self.account}.{service}.core.windows.net"


class ConflictError(Exception):
    """A row to create is there already, or a row to update or delete is not as it was read."""


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
            return TableServiceClient.from_connection_string(account.connection_string, **NO_RETRIES, **account.client)
        return TableServiceClient(
            endpoint=account.endpoint("table"), credential=account.credential, **NO_RETRIES, **account.client
        )

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown()
        with self._lock:
            if self._service is not None:
                self._service.close()

    def _repeated(self, doing: str, call: Callable[[], T]) -> T:
        return repeated(doing, call, self._account.pause)

    def get(self, table: str, partition: str, row: str, *, only: Sequence[str] | None = None) -> Row | None:
        """Read a row, or only some properties; None where there is none, or no table yet."""
        return self._repeated(
            f"reading '{partition}' of table '{table}'", lambda: self._get(table, partition, row, only)
        )

    def _get(self, table: str, partition: str, row: str, only: Sequence[str] | None) -> Row | None:
        from azure.core.exceptions import ResourceNotFoundError

        options = {"select": list(only)} if only is not None else {}
        try:
            return _with_etag(self.table(table).get_entity(partition, row, **options))
        except ResourceNotFoundError:
            return None

    def query(
        self, table: str, condition: str, parameters: Mapping[str, object], *, limit: int | None = None
    ) -> list[Row]:
        """Read the rows that meet a condition, in the order of their keys, at most `limit`."""
        return self._repeated(
            f"listing rows of table '{table}'", lambda: self._query(table, condition, parameters, limit)
        )

    def _query(self, table: str, condition: str, parameters: Mapping[str, object], limit: int | None) -> list[Row]:
        from azure.core.exceptions import ResourceNotFoundError

        found: list[Row] = []
        options = {"results_per_page": min(limit, _PAGE_ROWS)} if limit is not None else {}
        try:
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
            ConflictError: A row to create is there, or one to change is not as it was read. Or the call was repeated,
                and the first try, whose answer was lost, did it.
            TooLargeError: Azure would refuse it.
            TemporaryError, PermanentError.
        """
        check_transaction(table, operations)

        def call() -> list[Mapping[str, Any]]:
            with _conflicts():
                return self._write(table, operations)

        return self._repeated(f"writing to table '{table}'", call)

    def _write(self, table: str, operations: Sequence[Operation]) -> list[Mapping[str, Any]]:
        from azure.core.exceptions import HttpResponseError

        client = self.table(table)
        try:
            return _submit(client, operations)
        except HttpResponseError as error:
            if "TableNotFound" not in _code(error):
                raise
        self._make(table)
        return _submit(client, operations)

    def _make(self, table: str) -> None:
        from azure.core.exceptions import ResourceExistsError

        try:
            self.table(table).create_table()
        except ResourceExistsError:
            return

    def create_if_absent(self, table: str, row: Row) -> None:
        """Create a row that nobody ever changes: one that is there is as it would be."""
        try:
            self.write(table, [("create", row)])
        except ConflictError:
            return

    def update(self, table: str, row: Row, etag: str) -> None:
        """Put a row in the place of the one that was read with this etag. Raises ConflictError."""
        self.write(table, [("update", row, {"mode": "replace", **unchanged(etag)})])

    def delete(self, table: str, row: Row) -> bool:
        """Delete a row as it was read; False where it is gone, or somebody changed it."""
        keys = {"PartitionKey": row["PartitionKey"], "RowKey": row["RowKey"]}
        try:
            self.write(table, [("delete", keys, unchanged(row["etag"]))])
        except ConflictError:
            return False
        return True

    def together(self, *calls: Callable[[], object]) -> None:
        """Make calls side by side; the first failure is raised when all are done."""
        self.each(lambda call: call(), calls)

    def each(self, call: Callable[[S], T], items: Iterable[S]) -> list[T]:
        """Make a call for each item, side by side; the first failure is raised when all are done."""
        rest = list(items)
        if not rest:
            return []
        futures = [self._pool.submit(call, item) for item in rest[1:]]
        try:
            first = call(rest[0])
        finally:
            failures = [error for future in futures if (error := future.exception()) is not None]
        if failures:
            raise failures[0]
        return [first, *(future.result() for future in futures)]


def _submit(client: TableClient, operations: Sequence[Operation]) -> list[Mapping[str, Any]]:
    """Do one operation by itself, which costs half of what a transaction of one does, and several in a transaction."""
    if len(operations) > 1:
        return list(client.submit_transaction(list(operations)))
    kind, row, *conditions = operations[0]
    call = getattr(client, f"{kind}_entity")
    return [call(row, **(conditions[0] if conditions else {})) or {}]


def unchanged(etag: str) -> dict[str, Any]:
    """Demand that a row is still as it was read."""
    from azure.core import MatchConditions

    return {"etag": etag, "match_condition": MatchConditions.IfNotModified}


@contextmanager
def _conflicts() -> Iterator[None]:
    from azure.core.exceptions import HttpResponseError

    try:
        yield
    except HttpResponseError as error:
        code = _code(error)
        if "EntityAlreadyExists" in code or "UpdateConditionNotSatisfied" in code:
            raise ConflictError(code) from error
        if "ResourceNotFound" in code:
            raise ConflictError("a row to change is not there") from error
        raise


def _code(error: Any) -> str:
    """Read Azure's own name of a refusal, which some calls give as an attribute and some only in the text."""
    code = getattr(error, "error_code", None)
    return f"{getattr(code, 'value', code) or ''} {error}"


def _with_etag(entity: Any) -> Row:
    return {**entity, "etag": entity.metadata.get("etag", ""), "changed_at": entity.metadata.get("timestamp")}
