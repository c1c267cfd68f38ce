"""What all tests share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import azurite
import builders
from builders import Bench, make_bench


@pytest.fixture(autouse=True)
def _closed_databases() -> Iterator[None]:
    """Close what the test opened."""
    yield
    while builders.OPEN:
        builders.OPEN.pop().close()
    while azurite.OPEN:
        azurite.OPEN.pop().close()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An application over a fresh SQLite file."""
    return make_bench(tmp_path)


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[azurite.Azurite]:
    """A real storage account on loopback, one for the session: tests choose names of their own in it."""
    with azurite.running(tmp_path_factory.mktemp("azurite")) as account:
        yield account
