"""One layer repeats calls of the storage account: at most three times, and never longer than a function may wait."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mlops_core.adapters.azure.storage_calls import repeated
from mlops_core.domain.errors import PermanentError, TemporaryError


class Calls:
    """A call that raises one error after the other, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.made = 0
        self.pauses: list[float] = []

    def __call__(self) -> str:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    def repeated(self) -> str:
        call: Callable[[], str] = self
        return repeated("reading 'x'", call, self.pauses.append)


def busy(seconds: float | None = None) -> TemporaryError:
    return TemporaryError("busy", retry_after_seconds=seconds)


def test_two_hiccups_are_borne() -> None:
    calls = Calls(busy(), busy())

    assert calls.repeated() == "done"
    assert (calls.made, len(calls.pauses)) == (3, 2)
    assert sum(calls.pauses) < 1.2


def test_a_third_is_the_callers() -> None:
    calls = Calls(busy(), busy(), busy())

    with pytest.raises(TemporaryError):
        calls.repeated()
    assert calls.made == 3


def test_as_long_as_azure_asks_is_waited_at_least() -> None:
    calls = Calls(busy(2))
    calls.repeated()

    assert 2 <= calls.pauses[0] < 2.5


def test_a_longer_wait_than_a_function_has_is_the_callers() -> None:
    calls = Calls(busy(30))

    with pytest.raises(TemporaryError) as refused:
        calls.repeated()
    assert (calls.made, calls.pauses, refused.value.retry_after_seconds) == (1, [], 30)


def test_what_repeating_does_not_help_is_not_repeated() -> None:
    calls = Calls(PermanentError("no right"))

    with pytest.raises(PermanentError):
        calls.repeated()
    assert calls.made == 1
