"""Commands that ask: projects, runs, show, logs, models, predict."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from mlops_core.cli import story
from mlops_core.cli.api import AbsentError, Api
from mlops_core.cli.context import api, err, out, print_json, told_errors
from mlops_core.domain.errors import BadInputError, RefusedError

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
_FOLLOW_SECONDS = 0.5


def projects(*, as_json: Json = False) -> None:
    """List the repositories that this controller builds."""
    with told_errors():
        view = api().get("/projects")
        if as_json:
            print_json(view)
        elif view["projects"]:
            out.print(story.projects_table(view["projects"]))
        else:
            out.print("No project yet. Add one: headrace add PATH")


def runs(
    *,
    project: Annotated[str | None, typer.Argument(help="Only this project's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    with told_errors():
        view = api().get("/runs", project=project, limit=limit)
        if as_json:
            print_json(view)
        elif view["runs"]:
            out.print(story.runs_table(view["runs"]))
        else:
            out.print("No run yet. Push: git push headrace main")


def show(
    run_id: Annotated[str, typer.Argument(help="A run, or the beginning of its id.")], *, as_json: Json = False
) -> None:
    """Tell a run's story: each state, event, gate with its numbers, and decision."""
    with told_errors():
        client = api()
        view = client.get(f"/runs/{find_run(client, run_id)}")
        if as_json:
            print_json(view)
        else:
            story.show_story(out, view, client.base_url)


def logs(
    run_id: Annotated[str, typer.Argument(help="A run, or the beginning of its id.")],
    *,
    stage: Annotated[str | None, typer.Option(help="build or train. Default: the newest that there is.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
) -> None:
    """Print the log of a run's jobs."""
    with told_errors():
        client = api()
        full_id = find_run(client, run_id)
        if follow:
            follow_to_the_end(client, full_id)
            return
        out.print(_log(client, full_id, stage), markup=False, end="")


def models(
    *, model: Annotated[str | None, typer.Argument(help="Show this model's versions.")] = None, as_json: Json = False
) -> None:
    """List the models in service, or the versions of one."""
    with told_errors():
        client = api()
        view = client.get(f"/models/{quote(model, safe='')}/versions") if model else client.get("/models")
        if as_json:
            print_json(view)
        elif model:
            out.print(story.versions_table(view["versions"]))
        elif view["models"]:
            out.print(story.models_table(view["models"], client.base_url))
        else:
            out.print("No model is in service yet. Push a project: git push headrace main")


def deployments(*, as_json: Json = False) -> None:
    """List the deployments of all versions: what they say of themselves, and which of them no model needs."""
    with told_errors():
        view = api().get("/deployments")
        if as_json:
            print_json(view)
        elif view["deployments"]:
            out.print(story.deployments_table(view["deployments"]))
        else:
            out.print("No version is deployed yet. Push a project: git push headrace main")


def predict(
    model: Annotated[str, typer.Argument(help="Name of a model in service.")],
    file: Annotated[Path, typer.Argument(help="JSON file with the request's body, or - for standard input.")],
    *,
    as_json: Json = False,
) -> None:
    """Ask a model for predictions, at its stable address."""
    with told_errors():
        predictions, headers = api().score(model, _body(file))
        if not as_json:
            err.print(f"[dim]version {headers.get('x-headrace-model-version', 'unknown')}[/dim]")
        print_json(predictions)


def find_run(client: Api, beginning: str) -> str:
    """
    Complete the beginning of a run's id.

    Raises: BadInputError: No run of the newest ones begins so, or several do.
    """
    found = [run["run_id"] for run in client.get("/runs", limit=200)["runs"]]
    if beginning in found:
        return beginning
    matches = [run_id for run_id in found if run_id.startswith(beginning)]
    if len(matches) > 1:
        raise BadInputError(f"'{beginning}' begins {len(matches)} runs: {', '.join(matches[:5])}. Give more letters.")
    if not matches:
        # An old one, by its whole id; who gave its beginning is told that there is none.
        return str(client.get(f"/runs/{quote(beginning, safe='')}")["run_id"])
    return str(matches[0])


def follow_run(client: Api, run_id: str) -> dict[str, Any]:
    """Print a run's progress until it ends or waits for a person. Returns the last look at it."""
    after = ""
    while True:
        view = client.get(f"/runs/{run_id}/progress", after=after)
        for line in view["lines"]:
            style = "bold" if line["kind"] == "state" else "dim" if line["kind"] in ("log", "took") else ""
            out.print(("" if line["kind"] == "state" else "  ") + line["text"], style=style, markup=False)
        if view["ended"] or view["state"] == "awaiting_approval":
            return view
        if view["next"] == after:
            time.sleep(_FOLLOW_SECONDS)
        after = view["next"]


def follow_to_the_end(client: Api, run_id: str) -> None:
    """Follow a run; one that ends badly ends the command with its reason and exit code 1."""
    view = follow_run(client, run_id)
    if view["ended"] and not view["ok"]:
        raise RefusedError(f"run {run_id} ended {view['state']}: {view['reason']}")


def _log(client: Api, run_id: str, stage: str | None) -> str:
    if stage is not None:
        return client.get_text(f"/runs/{run_id}/logs/{stage}")
    try:
        return client.get_text(f"/runs/{run_id}/logs/train")
    except AbsentError:
        return client.get_text(f"/runs/{run_id}/logs/build")


def _body(file: Path) -> bytes:
    if str(file) == "-":
        return typer.get_binary_stream("stdin").read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadInputError(f"'{file}' cannot be read: {error.strerror}. Give a JSON file with the request.") from None
