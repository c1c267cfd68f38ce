"""What all tests share."""

from __future__ import annotations

import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import azurite
import builders
from builders import Bench, make_bench

from mlops_core.adapters.azure.insights import FieldsInMessage

pytest.register_assert_rewrite("job_runner_contract", "registry_contract")


@pytest.fixture(autouse=True)
def _closed_databases() -> Iterator[None]:
    """Close what the test opened."""
    yield
    while builders.OPEN:
        builders.OPEN.pop().close()
    while azurite.OPEN:
        azurite.OPEN.pop().close()


# What tests of the Azure backend set for their whole process, for as long as it lives.
OF_A_CLOUD = ("AZUREML_CURRENT_CLOUD", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
HIDDEN: dict[str, str] = {}


def _is_of_a_cloud(item: pytest.Item) -> bool:
    return "azure" in item.nodeid or "cloud" in item.nodeid


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Hide from other tests, and from the processes that they start, what those of the Azure backend set for all."""
    if _is_of_a_cloud(item):
        os.environ.update(HIDDEN)  # noqa: TID251 - of the whole process
        HIDDEN.clear()
    else:
        HIDDEN.update({name: os.environ.pop(name) for name in OF_A_CLOUD if name in os.environ})  # noqa: TID251 - as above


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """
    Let go of the connections of Azure's clients with the test that had them, whatever it shared.

    The application on Azure lives as long as its process and closes nothing; left to chance, the sockets of one test are
    collected, and complained of, in the middle of another.
    """
    yield
    if _is_of_a_cloud(item):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()


@pytest.fixture(autouse=True)
def _kept_logging() -> Iterator[None]:
    """Undo what composing an application sets for the whole process: levels of loggers, and filters of handlers."""
    named = [logging.getLogger(name) for name in ("httpx", "uvicorn", "azure")]
    levels = [logger.level for logger in named]
    yield
    for logger, level in zip(named, levels, strict=True):
        logger.setLevel(level)
    # Pytest's own handlers hang on the root logger, and live as long as the session.
    for handler in logging.getLogger().handlers:
        handler.filters = [known for known in handler.filters if not isinstance(known, FieldsInMessage)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An application over a fresh SQLite file."""
    return make_bench(tmp_path)


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[azurite.Azurite]:
    """A real storage account on loopback, one for the session: tests choose names of their own in it."""
    with azurite.running(tmp_path_factory.mktemp("azurite")) as account:
        yield account
