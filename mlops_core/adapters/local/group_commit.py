"""
Joins what many threads want to write at the same moment into one transaction: one sync of the disk for all of them.

Whoever comes while nobody writes, writes at once; those who come meanwhile wait, and the first of them then writes for
all. So a single writer pays nothing, and under a flood the number of transactions stays that which the disk can take.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from mlops_core.domain.errors import TemporaryError

Item = TypeVar("Item")


class GroupCommit(Generic[Item]):
    """
    Groups writes.

    Args:
        write: Writes items in one transaction: all of them, or none.
    """

    def __init__(self, write: Callable[[Sequence[Item]], None]) -> None:
        self._write = write
        self._guard = threading.Lock()
        self._waiting: list[_Wish[Item]] = []
        self._is_led = False

    def submit(self, item: Item) -> None:
        """Return once the item is written. Raises TemporaryError: It, and all of its group, was not."""
        wish = _Wish(item)
        with self._guard:
            self._waiting.append(wish)
            leads, self._is_led = not self._is_led, True
        if not leads:
            wish.turn.wait()
        if not wish.is_over:
            self._lead()
        if wish.error is not None:
            # Each gets an error of its own: a shared one would collect the traces of all threads.
            raise TemporaryError(str(wish.error)) from wish.error

    def _lead(self) -> None:
        """Write for all who wait now, then let the first of those who came meanwhile do the same."""
        with self._guard:
            group, self._waiting = self._waiting, []
        error: Exception | None = None
        try:
            self._write([wish.item for wish in group])
        except Exception as raised:  # noqa: BLE001 - whatever it is, the group must hear of it and not wait for ever
            error = raised
        for wish in group:
            wish.is_over, wish.error = True, error
        with self._guard:
            following = self._waiting[:1]
            self._is_led = bool(following)
        for wish in (*following, *group):
            wish.turn.set()


class _Wish(Generic[Item]):
    """An item, and whether it is its thread's turn: because it is written, or because the thread is to write."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.turn = threading.Event()
        self.is_over = False
        self.error: Exception | None = None
