"""
The stable address: find the deployment that serves a model now, and pass a request on to it.

A switch must drop no request. So a route is remembered for a moment only, and a request that meets a deployment which
just ended is sent again to the one that took over: scoring changes nothing, repeating it is safe.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_core.domain.errors import NotFoundError, TemporaryError
from mlops_core.domain.ids import ModelName, deployment_of_version
from mlops_core.world import World

if TYPE_CHECKING:
    import httpx

# Long enough that a busy model is not looked up for each request, short enough that nobody notices a switch.
_REMEMBERED_SECONDS = 0.5
# A deployment that died is restarted by its deployer within this time; longer would outlast callers' own patience.
_PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 0.05
# However late it is, the first failure may only mean that the remembered address is out of date.
_LEAST_TRIES = 2
# And where the champion is meanwhile elsewhere than what failed, nobody has asked it yet. A machine that is asked for many
# times what it has takes longer to a connection than from one switch to the next.
_MOST_MOVES = 5
_ANSWER_SECONDS = 60.0
# A deployment that does not even take a connection is gone; its successor is looked for while the caller still waits.
_CONNECT_SECONDS = 3.0
# Sent on as they are; everything else of a request is between the caller and the function app.
_PASSED_ON = ("content-type", "content-encoding", "accept", "x-request-id", "traceparent")
# And an answer's own, besides those of the scoring app.
_PASSED_BACK = ("content-type", "retry-after", "x-request-id")
# A deployment that is being stopped answers so at once; its successor takes the request.
_STOPPING = 503
# What its web server says of a request that was cut off at the end has no header of the scoring app.
_CUT_OFF, _OWN_HEADER = 500, "x-headrace-model-version"


@dataclass(frozen=True)
class Scored:
    """A deployment's answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class _Route:
    address: str
    until: float


class Router:
    """
    Passes scoring requests on to whoever serves the model.

    Args:
        monotonic: Seconds of a clock that never jumps.
    """

    def __init__(self, world: World, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._world = world
        self._monotonic = monotonic
        self._routes: dict[ModelName, _Route] = {}
        self._looking: dict[ModelName, asyncio.Future[str]] = {}
        self._client: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None

    def address(self, model: ModelName) -> str:
        """
        Look up where a model is served now.

        Raises:
            NotFoundError: Nothing serves this model.
            TemporaryError: Its deployment has no address at the moment.
        """
        champion = self._world.models.load(model).value.champion
        if champion is None:
            advice = "Models in service: headrace models. Push a project that trains it."
            raise NotFoundError("model in service named", model, advice=advice)
        address = self._world.deployer.address(deployment_of_version(model, champion.version))
        if address is None:
            raise TemporaryError(
                f"Version {champion.version} of model '{model}' is not answering at the moment; it is being started "
                "again. Repeat the request.",
                retry_after_seconds=2,
            )
        return address

    async def score(
        self, model: ModelName, body: bytes, headers: Mapping[str, str], *, details: bool = False
    ) -> Scored:
        """
        Pass a request on, again where a switch or a restart got in between.

        Args:
            details: Ask for the prediction's id and the model's version in the body too.
        Raises:
            NotFoundError: Nothing serves this model.
            TemporaryError: Nobody answered in time.
        """
        import httpx

        deadline = self._monotonic() + _PATIENCE_SECONDS
        passed_on = {name: value for name, value in headers.items() if name.lower() in _PASSED_ON}
        path = "/score?details=true" if details else "/score"
        for tries in itertools.count(1):
            goes_on, address = tries < _LEAST_TRIES or self._monotonic() <= deadline, ""
            try:
                address = await self._remembered(model)
                answer = await self._attempt(f"{address}{path}", body, passed_on)
            except (TemporaryError, httpx.TransportError) as error:
                self._forget(model, address)
                slow = isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout)
                if slow or not (goes_on or await self._has_moved(model, address, tries)):
                    raise _unanswered(model, error) from error
            else:
                if not _is_ending(answer):
                    return answer
                self._forget(model, address)
                if not (goes_on or await self._has_moved(model, address, tries)):
                    return answer
            await asyncio.sleep(_PAUSE_SECONDS)
        raise AssertionError  # the loop has no end of its own

    async def close(self) -> None:
        """Close the connections that this event loop holds, at its end."""
        if self._client is not None and self._client[0] is asyncio.get_running_loop():
            await self._client[1].aclose()
            self._client = None

    def _forget(self, model: ModelName, address: str) -> None:
        """Forget a route that failed; not the one that somebody found meanwhile."""
        route = self._routes.get(model)
        if route is not None and route.address == address:
            del self._routes[model]

    async def _has_moved(self, model: ModelName, failed: str, tries: int) -> bool:
        """Tell whether the model is served elsewhere than at the address that failed."""
        if tries > _MOST_MOVES:
            return False
        try:
            return await self._look_up(model) != failed
        except TemporaryError:
            return False

    async def _attempt(self, address: str, body: bytes, headers: Mapping[str, str]) -> Scored:
        answer = await self._http().post(address, content=body, headers=dict(headers))
        kept = {
            name: value
            for name, value in answer.headers.items()
            if name.startswith("x-headrace-") or name in _PASSED_BACK
        }
        return Scored(status=answer.status_code, body=answer.content, headers=kept)

    async def _remembered(self, model: ModelName) -> str:
        route = self._routes.get(model)
        if route is not None and self._monotonic() <= route.until:
            return route.address
        return await self._look_up(model)

    async def _look_up(self, model: ModelName) -> str:
        """Look up in a thread, since a store may take its time; whoever asks meanwhile shares the answer."""
        looking = self._looking.get(model)
        if looking is None or looking.get_loop() is not asyncio.get_running_loop():
            looking = asyncio.ensure_future(self._find(model))
            self._looking[model] = looking
            looking.add_done_callback(lambda _: self._looking.pop(model, None))
        return await asyncio.shield(looking)

    async def _find(self, model: ModelName) -> str:
        address = await asyncio.to_thread(self.address, model)
        self._routes[model] = _Route(address, self._monotonic() + _REMEMBERED_SECONDS)
        return address

    def _http(self) -> httpx.AsyncClient:
        import httpx

        # A client belongs to the event loop that it was first used on.
        loop = asyncio.get_running_loop()
        if self._client is None or self._client[0] is not loop:
            timeout = httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS)
            limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
            self._client = (loop, httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False))
        return self._client[1]


def _is_ending(answer: Scored) -> bool:
    """Tell whether a deployment answered so because it is being stopped."""
    if answer.status == _STOPPING:
        return "retry-after" not in answer.headers
    return answer.status == _CUT_OFF and _OWN_HEADER not in answer.headers


def _unanswered(model: ModelName, error: Exception) -> TemporaryError:
    if isinstance(error, TemporaryError):
        return error
    return TemporaryError(
        f"Model '{model}' did not answer ({type(error).__name__}). Repeat the request.", retry_after_seconds=2
    )
