"""`headrace up`: serve the very functions of `function_app.py` on this machine, with all that they need beside them."""

from __future__ import annotations

import importlib
import logging
import logging.handlers
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mlops_core.cli.context import out, settings, told_errors
from mlops_core.settings import Settings

if TYPE_CHECKING:
    from mlops_core.composition.local import LocalParts

DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder that holds all of it. Default: HEADRACE_DATA, else ~/.headrace.")
]
_LOG_BYTES = 10_000_000


def up(
    *,
    data: DataOption = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 7071,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log to the terminal too.")] = False,
) -> None:
    """Run the controller on this machine: functions, queue, timers, topics, MLflow, deployments."""
    chosen = settings()
    if data is not None:
        chosen = chosen.model_copy(update={"data": data})
    with told_errors():
        serve(chosen, port=port, verbose=verbose, ready=_say_ready)


def serve(chosen: Settings, *, port: int, verbose: bool, ready: Callable[[str], None]) -> None:
    """
    Serve until SIGTERM or SIGINT.

    Raises: RefusedError: The port or the data folder is in use.
    """
    from mlops_core import bootstrap
    from mlops_core.adapters.local.host.functions import read_functions
    from mlops_core.adapters.local.host.server import FunctionsHost, HostOptions
    from mlops_core.adapters.local.room import watch_room
    from mlops_core.adapters.local.secret_files import TOPIC_KEY, kept_secret
    from mlops_core.cli.down import unfinished_jobs

    set_up_logging(chosen.data_folder, verbose=verbose)
    bootstrap.configure(chosen)
    parts = bootstrap.local_parts()
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    function_app = importlib.import_module("function_app")
    options = HostOptions(
        folder=chosen.data_folder,
        port=port,
        max_body_bytes=max(chosen.webhook_max_bytes, chosen.score_max_bytes) + 1,
        topic_key=kept_secret(chosen.data_folder, TOPIC_KEY),
        services=(
            _mlflow(parts),
            parts.registry_watcher.watch,
            parts.deployment_watcher.watch,
            lambda stop: watch_room(chosen.data_folder, _say_of_disk, stop),
        ),
        ready=ready,
        closing=parts.application.router.close,
    )
    FunctionsHost(read_functions(function_app.app), parts.queue, parts.bus, options).run()
    # Jobs outlive the controller, and log to MLflow as they go on; 'headrace down' ends all of it.
    if not unfinished_jobs(chosen.data_folder):
        parts.mlflow.stop()


def _mlflow(parts: LocalParts) -> Callable[[threading.Event], None]:
    def watch(stop: threading.Event) -> None:
        parts.mlflow.start()
        parts.mlflow.watch(stop)

    return watch


def set_up_logging(folder: Path, *, verbose: bool) -> None:
    """Log to the data folder, ten megabytes at the most and one file before it; to the terminal where asked."""
    folder.mkdir(parents=True, exist_ok=True)
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    file = LogFile(folder / "headrace.log", maxBytes=_LOG_BYTES, backupCount=1)
    file.setFormatter(FieldsFormatter(formatter))
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(file)
    for noisy in ("httpx", "httpcore", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if verbose:
        terminal = logging.StreamHandler()
        terminal.setFormatter(FieldsFormatter(formatter))
        root.addHandler(terminal)


class LogFile(logging.handlers.RotatingFileHandler):
    """A log that loses lines while the disk is full; the trace of each would bury the sentence that says so."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Pass over a line that cannot be written for want of room; report anything else."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class FieldsFormatter(logging.Formatter):
    """Appends the fields of a record, such as `run_id=...`, to its message."""

    _KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Write the record in one line, a trace below it."""
        fields = {key: value for key, value in vars(record).items() if key not in self._KNOWN}
        text = self._inner.format(record)
        head, line_end, trace = text.partition("\n")
        shown = " ".join(f"{key}={value}" for key, value in fields.items())
        return f"{head} {shown}".rstrip() + line_end + trace


def _say_of_disk(text: str) -> None:
    out.print(f"[bold yellow]![/bold yellow] {escape(text)}")


def _say_ready(address: str) -> None:
    out.print(f"[bold green]Headrace is up[/bold green] at {address}  (Ctrl-C stops it; jobs and models go on)")
    out.print("Add a project:  headrace add PATH     then:  git push headrace main")
