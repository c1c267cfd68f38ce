"""What the commands share: where the controller is, how to print, and how an error ends a command."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from contextvars import ContextVar
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from mlops_core.cli.api import Api
from mlops_core.domain.errors import HeadraceError
from mlops_core.settings import Settings, read_settings

# Where the output is no terminal, lines are as long as a wide one: names must never be cut for programs and logs.
_WIDTH = None if sys.stdout.isatty() else 180
out = Console(highlight=False, soft_wrap=True, width=_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)

_FULL = "Free some space, or choose a folder on another disk: --data FOLDER, or HEADRACE_DATA."
_OPEN: ContextVar[ExitStack] = ContextVar("connections of the command")


@contextmanager
def told_errors() -> Iterator[None]:
    """End the command with the error's sentence and exit code 1; connections that it opened are closed."""
    try:
        with ExitStack() as opened:
            opened.callback(_OPEN.reset, _OPEN.set(opened))
            yield
    except HeadraceError as error:
        tell_problem(str(error))
        raise typer.Exit(1) from None
    except OSError as error:
        place = f"'{error.filename}': " if error.filename else ""
        advice = _FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Give a place that can be written to."
        tell_problem(f"{place}{error.strerror or error}. {advice}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def tell_problem(text: str) -> None:
    """Print one thing that is wrong, with its mark."""
    err.print(f"[bold red]✗[/bold red] {_escaped(text)}")


def settings() -> Settings:
    """Read the settings; a wrong one ends the command with its sentence."""
    with told_errors():
        return read_settings()


def api() -> Api:
    """Make the client of the controller: a running one of the data folder, else the address in the settings."""
    chosen = settings()
    key = chosen.key.get_secret_value() if chosen.key else None
    client = Api(address_of(chosen), key)
    return _OPEN.get().enter_context(closing(client))


def address_of(chosen: Settings) -> str:
    """Find where the controller is: `headrace up` leaves its address in the data folder."""
    from mlops_core.adapters.local.running import address_of_controller

    return address_of_controller(chosen.data_folder) or chosen.base_url


def say(lines: Iterable[Text]) -> None:
    """Print lines that were laid out for the terminal."""
    for line in lines:
        out.print(line)


def terminal_width() -> int | None:
    """Say how wide the terminal is; None where the output goes to a file or a program, which cut nothing."""
    return out.width if sys.stdout.isatty() else None


def print_json(view: Any) -> None:
    """Print for programs."""
    sys.stdout.write(json.dumps(view, indent=2) + "\n")


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
