"""Many writers share a transaction; each is told what became of its own item, and none waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlops_core.adapters.local.group_commit import GroupCommit
from mlops_core.domain.errors import TemporaryError


class Disk:
    """Writes groups; the first write waits until the test lets it go on, so that others come meanwhile."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.first_has_begun, self.go_on = threading.Event(), threading.Event()
        self.full = False

    def write(self, items: Sequence[int]) -> None:
        if not self.groups:
            self.groups.append(list(items))
            self.first_has_begun.set()
            assert self.go_on.wait(10)
        else:
            self.groups.append(list(items))
        if self.full:
            raise TemporaryError("the disk is full")


def gathered(disk: Disk, commit: GroupCommit[int], count: int) -> list[Exception | None]:
    """Submit one item, and the others while it is being written. Returns what each was told."""

    def submit(number: int) -> Exception | None:
        try:
            commit.submit(number)
        except TemporaryError as error:
            return error
        return None

    with ThreadPoolExecutor(count) as threads:
        first = threads.submit(submit, 0)
        assert disk.first_has_begun.wait(10)
        others = [threads.submit(submit, number) for number in range(1, count)]
        while len(commit._waiting) < count - 1:
            threading.Event().wait(0.001)
        disk.go_on.set()
        return [first.result(10), *(other.result(10) for other in others)]


def test_those_who_come_while_one_writes_are_written_together() -> None:
    disk = Disk()
    told = gathered(disk, GroupCommit(disk.write), 20)

    assert told == [None] * 20
    assert [sorted(group) for group in disk.groups] == [[0], list(range(1, 20))]


def test_all_of_a_group_that_was_not_written_are_told_each_with_an_error_of_its_own() -> None:
    disk = Disk()
    disk.full = True
    told = gathered(disk, GroupCommit(disk.write), 8)

    assert {str(error) for error in told} == {"the disk is full"}
    assert len({id(error) for error in told}) == 8


def test_after_a_group_that_failed_the_next_is_written() -> None:
    disk = Disk()
    commit = GroupCommit(disk.write)
    disk.full = True
    gathered(disk, commit, 3)
    disk.full = False
    commit.submit(99)

    assert disk.groups[-1] == [99]


def test_an_error_that_nobody_foresaw_frees_those_who_wait_too() -> None:
    def write(_: Sequence[int]) -> None:
        raise ValueError("a bug")

    commit = GroupCommit(write)
    for number in range(3):
        with pytest.raises(TemporaryError, match="a bug"):
            commit.submit(number)


def test_of_very_many_writers_every_item_is_written_once() -> None:
    written: list[int] = []
    commit = GroupCommit[int](written.extend)
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(commit.submit, range(2_000)))

    assert sorted(written) == list(range(2_000))
