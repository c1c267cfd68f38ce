"""How much of an answer is read, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import httpx
import pytest

from mlops_core.adapters.hosts.credentials import bearer
from mlops_core.adapters.hosts.gitea_api import GiteaDialect
from mlops_core.adapters.hosts.http_client import HostClient
from mlops_core.adapters.http_retry import Patience, Timing
from mlops_core.domain.errors import TemporaryError, TooLargeError


class Endless(httpx.SyncByteStream):
    """A body that goes on, a byte at a time."""

    def __init__(self) -> None:
        self.sent = 0

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(1_000_000):
            self.sent += 1
            yield b" "


@pytest.fixture
def bodies() -> list[Endless]:
    return []


def client_of(bodies: list[Endless], *, status: int, seconds_of_a_look: float) -> HostClient:
    """A client whose clock goes on by some seconds with each look at it."""

    def answer(_: httpx.Request) -> httpx.Response:
        bodies.append(Endless())
        return httpx.Response(status, stream=bodies[-1])

    looks = count()
    timing = Timing(sleep=lambda _: None, monotonic=lambda: next(looks) * seconds_of_a_look)
    client = HostClient(GiteaDialect("https://git.example.com"), bearer("t"), patience=Patience(), timing=timing)
    client.__dict__["_http"] = httpx.Client(transport=httpx.MockTransport(answer))
    return client


def test_a_host_that_drips_is_left_after_its_time(bodies: list[Endless]) -> None:
    client = client_of(bodies, status=200, seconds_of_a_look=5.0)
    with pytest.raises(TemporaryError, match="its answer took more than 20 s"):
        client.json(GiteaDialect("https://git.example.com").branches("a/x"), repository="a/x", doing="list")

    assert all(body.sent < 10 for body in bodies)


def test_a_refusal_that_drips_is_cut(bodies: list[Endless]) -> None:
    client = client_of(bodies, status=503, seconds_of_a_look=5.0)
    with pytest.raises(TemporaryError, match="it answered 503"):
        client.json(GiteaDialect("https://git.example.com").branches("a/x"), repository="a/x", doing="list")

    assert all(body.sent < 10 for body in bodies)


def test_an_endless_body_is_left_at_the_limit(bodies: list[Endless]) -> None:
    client = client_of(bodies, status=200, seconds_of_a_look=0.0)
    with pytest.raises(TooLargeError):
        client.content(
            GiteaDialect("https://git.example.com").branches("a/x"), repository="a/x", doing="read", limit_bytes=100
        )

    assert bodies[0].sent == 101
