"""The table of commands."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from typing import Annotated

import typer

from mlops_core.cli import asking, projects, steering
from mlops_core.cli.azure import azure
from mlops_core.cli.context import out
from mlops_core.cli.demo import demo
from mlops_core.cli.doctor import doctor
from mlops_core.cli.down import down
from mlops_core.cli.up import up

app = typer.Typer(
    name="headrace",
    help="From a git push to a watched prediction service.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

COMMANDS: tuple[Callable[..., None], ...] = (
    up,
    down,
    demo,
    doctor,
    projects.add,
    projects.init,
    projects.validate,
    projects.schema,
    asking.projects,
    asking.runs,
    asking.show,
    asking.logs,
    asking.models,
    asking.deployments,
    asking.predict,
    steering.retrain,
    steering.approve,
    steering.reject,
    steering.cancel,
    steering.rollback,
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(projects.pipeline, name="pipeline")
app.add_typer(steering.dead_letters, name="dead-letters")
app.add_typer(azure, name="azure")


def _say_version(wanted: bool) -> None:
    if wanted:
        out.print(f"headrace {importlib.metadata.version('headrace')} (Python {platform.python_version()})")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Print the version and end.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    app()
