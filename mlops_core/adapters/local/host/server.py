"""
Run the host: the functions' web app on loopback, their loops, and the services beside them, until it is told to stop.

One host per data folder: a file lock says so, and a second one is told who holds it. Stopping lets requests, messages
and deliveries that are under way finish; what does not finish comes back at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn

from mlops_core.adapters.local import running
from mlops_core.adapters.local.effect_queue import SqliteEffectQueue
from mlops_core.adapters.local.event_bus import SqliteEventBus
from mlops_core.adapters.local.host.functions import Function, Invoker
from mlops_core.adapters.local.host.loops import QueueLoop, TimerLoop, TopicLoop
from mlops_core.adapters.local.host.visitors import LOOPBACK
from mlops_core.adapters.local.host.web import FunctionsWeb
from mlops_core.domain.errors import RefusedError

log = logging.getLogger(__name__)

_STOP_SECONDS = 10
_HIGHEST_PORT = 65_535
# A service that ends or raises is started again after this pause.
_RESTART_SECONDS = 2.0

Service = Callable[[threading.Event], None]


@dataclass(frozen=True, kw_only=True)
class HostOptions:
    """
    How a host is run.

    Attributes:
        services: Functions that run in a thread each until their event is set, and are started again when they end.
        ready: Called once the host answers, with its address.
        closing: Awaited at the end, on the event loop that the functions ran on.
    """

    folder: Path
    address: str = "127.0.0.1"
    port: int = 7071
    max_body_bytes: int = 104_857_600
    keys: Sequence[str] = ()
    topic_key: str = ""
    services: Sequence[Service] = ()
    ready: Callable[[str], None] = lambda _: None
    closing: Callable[[], Awaitable[None]] | None = None


def open_socket(address: str, port: int) -> socket.socket:
    """
    Bind the port; 0 takes a free one.

    Raises: RefusedError: Somebody else uses it, or this user may not.
    """
    # With the protocol named, asyncio sets TCP_NODELAY on connections; without, each answer waits 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        raise _refused(error, address, port) from None
    listener.listen(2048)
    return listener


def _refused(error: OSError, address: str, port: int) -> Exception:
    if error.errno == errno.EADDRINUSE:
        another = port + 1 if port < _HIGHEST_PORT else 0
        return RefusedError(
            f"Port {port} on {address} is in use by another program. Stop it, or choose another port: "
            f"headrace up --port {another}."
        )
    if error.errno == errno.EACCES:
        return RefusedError(
            f"Port {port} on {address} may not be opened by this user: those below 1024 are the system's. Choose "
            "another: headrace up --port 7071."
        )
    return error


@contextlib.contextmanager
def only_host(folder: Path) -> Iterator[None]:
    """
    Hold the data folder for this process.

    Raises: RefusedError: Another host holds it; names its process and address.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "up.lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise RefusedError(_held(folder)) from None
    try:
        yield
    finally:
        running.forget(folder)
        lock.close()


def _held(folder: Path) -> str:
    mark, address = running.controller_process(folder), running.address_of_controller(folder)
    who = f"process {mark.pid} at {address}" if mark and address else "another process that is just starting"
    return f"The data folder '{folder}' is in use by {who}. Use that one, stop it, or give another folder with --data."


class FunctionsHost:
    """
    One running host.

    Args:
        functions: What the app registered.
    """

    def __init__(
        self, functions: Sequence[Function], queue: SqliteEffectQueue, bus: SqliteEventBus, options: HostOptions
    ) -> None:
        self._functions = functions
        self._queue = queue
        self._bus = bus
        self._options = options
        self._invoker = Invoker()
        # Effects may take minutes each; with threads of their own they never keep a webhook or a prediction waiting.
        self._workers = Invoker()

    def run(self) -> None:
        """
        Serve until SIGTERM or SIGINT.

        Raises: RefusedError: The port or the data folder is in use.
        """
        with only_host(self._options.folder):
            listener = open_socket(self._options.address, self._options.port)
            address = f"http://{self._options.address}:{listener.getsockname()[1]}"
            running.note(self._options.folder, address)
            asyncio.run(self._serve(listener, address))

    async def _serve(self, listener: socket.socket, address: str) -> None:
        web = FunctionsWeb(
            self._functions,
            self._invoker,
            self._bus,
            max_body_bytes=self._options.max_body_bytes,
            keys=self._options.keys,
            names=tuple(dict.fromkeys((*LOOPBACK, self._options.address))),
            topic_key=self._options.topic_key,
        ).app()
        config = uvicorn.Config(
            web, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=_STOP_SECONDS
        )
        server = _Server(config)
        _stop_on_signals(server)
        stop, halt = asyncio.Event(), threading.Event()
        self._release_abandoned()
        # Deliveries carry the key as on Azure, where it is in the address that a subscription delivers to.
        key = {"code": self._options.topic_key} if self._options.topic_key else {}
        async with httpx.AsyncClient(base_url=address, params=key, timeout=30.0, trust_env=False) as client:
            tasks = self._start_loops(stop, client)
            threads = [self._start_service(service, halt) for service in self._options.services]
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            await self._tell_when_ready(server, serving, address)
            await serving
            stop.set()
            halt.set()
            await asyncio.wait(tasks, timeout=_STOP_SECONDS)
            await asyncio.to_thread(_join, threads)
        if self._options.closing is not None:
            await self._options.closing()
        self._invoker.close()
        self._workers.close()
        if server.should_exit and serving.exception() is not None:
            raise RuntimeError("the web server ended with an error") from serving.exception()

    def _release_abandoned(self) -> None:
        """Whatever an earlier host that was killed had leased is nobody's now."""
        self._queue.release_all()

    def _start_loops(self, stop: asyncio.Event, client: httpx.AsyncClient) -> list[asyncio.Task[None]]:
        loop = asyncio.get_running_loop()
        queue_wake, topic_wake = asyncio.Event(), asyncio.Event()
        self._queue.wake = lambda: _set_from_thread(loop, queue_wake)
        self._bus.wake = lambda: _set_from_thread(loop, topic_wake)
        tasks = [loop.create_task(_kept_going("topics", TopicLoop(self._bus, client).run, stop, topic_wake))]
        for function in self._functions:
            if function.kind == "queueTrigger":
                feeder = QueueLoop(function, self._queue, self._workers)
                tasks.append(loop.create_task(_kept_going(function.name, feeder.run, stop, queue_wake)))
            elif function.kind == "timerTrigger":
                timer = TimerLoop(function, self._invoker)
                tasks.append(loop.create_task(_kept_going(function.name, timer.run, stop, asyncio.Event())))
        return tasks

    def _start_service(self, service: Service, halt: threading.Event) -> threading.Thread:
        def run() -> None:
            while not halt.is_set():
                try:
                    service(halt)
                except Exception:
                    log.exception("service %s ended with an error and is started again", service)
                halt.wait(_RESTART_SECONDS)

        thread = threading.Thread(target=run, name=f"service-{service}", daemon=True)
        thread.start()
        return thread

    async def _tell_when_ready(self, server: uvicorn.Server, serving: asyncio.Task[None], address: str) -> None:
        # The server has no event for it, only this flag.
        while not server.started and not serving.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        if server.started:
            self._options.ready(address)


class _Server(uvicorn.Server):
    """Leaves signals alone: uvicorn raises them again after it stopped, which would end the process before its tidy-up."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing; the host has handlers of its own."""
        yield


def _stop_on_signals(server: uvicorn.Server) -> None:
    def stop() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


async def _kept_going(
    name: str,
    run: Callable[[asyncio.Event, asyncio.Event], Awaitable[None]],
    stop: asyncio.Event,
    wake: asyncio.Event,
) -> None:
    """Start a loop again when it ends with an error, such as a disk that is full for a while."""
    while not stop.is_set():
        try:
            await run(stop, wake)
        except Exception:
            log.exception("loop %s ended with an error and is started again", name)
            await asyncio.sleep(_RESTART_SECONDS)


def _set_from_thread(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    # A loop that is closing refuses; whoever would have been woken is gone.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(event.set)


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.join(_STOP_SECONDS)
