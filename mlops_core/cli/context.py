"""What the commands share: where the controller is, how to print, and how an error ends a command."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console

from mlops_core.cli.api import Api
from mlops_core.domain.errors import HeadraceError
from mlops_core.settings import Settings, read_settings

# Where the output is no terminal, lines are as long as a wide one: names must never be cut for programs and logs.
_WIDTH = None if sys.stdout.isatty() else 180
out = Console(highlight=False, soft_wrap=True, width=_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def told_errors() -> Iterator[None]:
    """End the command with the error's sentence and exit code 1."""
    try:
        yield
    except HeadraceError as error:
        err.print(f"[bold red]✗[/bold red] {_escaped(str(error))}")
        raise typer.Exit(1) from None
    except OSError as error:
        place = f" '{error.filename}'" if error.filename else ""
        err.print(f"[bold red]✗[/bold red] {error.strerror or error}:{place}. Give a place that can be written to.")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def settings() -> Settings:
    """Read the settings; a wrong one ends the command with its sentence."""
    with told_errors():
        return read_settings()


def api() -> Api:
    """Make the client of the controller: a running one of the data folder, else the address in the settings."""
    chosen = settings()
    key = chosen.key.get_secret_value() if chosen.key else None
    return Api(address_of(chosen), key)


def address_of(chosen: Settings) -> str:
    """Find where the controller is: `headrace up` leaves its address in the data folder."""
    noted = chosen.data_folder / "up.json"
    try:
        return str(json.loads(noted.read_text())["address"])
    except (OSError, ValueError, KeyError):
        return chosen.base_url


def print_json(view: Any) -> None:
    """Print for programs."""
    sys.stdout.write(json.dumps(view, indent=2) + "\n")


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
