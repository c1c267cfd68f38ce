"""
The process around the app: socket, signals, the end.

The socket is bound here and not by uvicorn, so that a port in use is one sentence and a free port (`--port 0`) can be
told to a supervisor before the first request. SIGTERM: not ready, requests in flight finish within the deadline, then
exit code 0.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from mlops_core.serving.app import ScoringApp
from mlops_core.serving.digest import UndigestibleError, tree_digest
from mlops_core.serving.errors import ModelLoadError, ServingError
from mlops_core.serving.fetch import Identity, fetch
from mlops_core.serving.model_dir import lay_out
from mlops_core.serving.options import Options
from mlops_core.serving.scorers import Scorer, load_mlflow
from mlops_core.serving.script import load_script

_BACKLOG = 2048
_LOAD_FAILED = 3
# Past the deadline for draining, so long is left for an orderly end.
_LAST_RESORT_SECONDS = 1.0


class AddressError(ServingError):
    """The address cannot be listened on."""


def load_scorer(options: Options) -> Scorer:
    """
    Fetch the model where it is not here, compare the digest, then load it.

    Raises:
        ModelLoadError: It cannot be fetched, the digest differs, or the model cannot be loaded.
    """
    if options.manifest:
        identity = Identity.here(options.identity)
        fetch(options.manifest, options.manifest_digest, Path(options.fetch_to), identity.token)
    model = Path(options.model).resolve() if options.model else None
    if model is not None and not model.exists():
        message = f"No model is at '{model}'. Give --model the folder that holds it."
        raise ModelLoadError(message)
    if options.digest:
        _compare_digest(model, options.digest)
    if options.code:
        return load_script(Path(options.code), _model_dir(options, model))
    if model is None:
        message = "No model was named. Give --model PATH."
        raise ModelLoadError(message)
    return load_mlflow(model, batching=options.batching, refuse_extra=options.extra_columns == "refuse")


def _model_dir(options: Options, model: Path | None) -> Path | None:
    if options.model_root:
        return Path(options.model_root).resolve()
    return lay_out(model, options.model_folder, options.model_links) if model is not None else None


def _compare_digest(model: Path | None, wanted: str) -> None:
    if model is None:
        message = f"The digest '{wanted}' was given, but no model to compare it with. Give --model."
        raise ModelLoadError(message)
    try:
        found = tree_digest(model)
    except UndigestibleError as error:
        raise ModelLoadError(str(error)) from error
    if found != wanted:
        message = f"The model in '{model}' has the digest '{found}', not '{wanted}'. Fetch it again; it was not loaded."
        raise ModelLoadError(message)


def listen(options: Options) -> socket.socket:
    """
    Open (or inherit) the listening socket.

    Raises:
        AddressError: The port is taken or the address is not ours.
    """
    if options.fd >= 0:
        return socket.socket(fileno=options.fd)
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY; without, each answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
        message = (
            f"Port {options.port} on {options.host} {reason}. Give another with --port, or --port 0 for a free one."
        )
        raise AddressError(message) from error
    return listener


def write_port(listener: socket.socket, path: str) -> int:
    """Write the socket's port into a file, whole or not at all; no path, no file."""
    port = int(listener.getsockname()[1])
    if path:
        target = Path(path)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "w") as stream:
            stream.write(f"{port}\n")
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(target)
    return port


class _Server(uvicorn.Server):
    """uvicorn with our idea of an end: the app says so first, the deadline holds in every version, the code is 0."""

    def __init__(self, config: uvicorn.Config, app: ScoringApp, drain_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_seconds = drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Stop taking requests. A second Ctrl-C ends at once; a supervisor may repeat SIGTERM, and cuts nobody off."""
        if not self.should_exit:
            self.end()
        elif sig == signal.SIGINT:
            self.force_exit = True

    def end(self) -> None:
        """End once what is in flight is answered, or the deadline is over."""
        self._app.stop_taking()
        self.should_exit = True
        deadline = threading.Timer(self._drain_seconds, self._force)
        deadline.daemon = True
        deadline.start()

    def _force(self) -> None:
        self.force_exit = True
        # From Python 3.12 on, asyncio waits for open connections whatever uvicorn wants; a model that hangs holds one.
        last_resort = threading.Timer(_LAST_RESORT_SECONDS, os._exit, [0])
        last_resort.daemon = True
        last_resort.start()


def serve(options: Options, listener: socket.socket) -> int:
    """
    Serve until a signal or a failed load.

    Returns:
        The exit code: 0 after a signal, 3 when the model was not loaded.
    """
    outcome = [0]
    holder: dict[str, Any] = {}

    def fail() -> None:
        outcome[0] = _LOAD_FAILED
        timer = threading.Timer(options.linger_seconds, lambda: setattr(holder["server"], "should_exit", True))
        timer.daemon = True
        timer.start()

    app = ScoringApp(options, lambda: load_scorer(options), on_load_failure=fail)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="on", server_header=False, date_header=False
    )
    server = _Server(config, app, options.drain_seconds)
    holder["server"] = server
    server.run(sockets=[listener])
    return outcome[0]
