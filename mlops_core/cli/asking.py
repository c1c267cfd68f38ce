"""Commands that ask: projects, runs, show, logs, models, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from mlops_core.cli import lists, story
from mlops_core.cli.api import AbsentError, Api
from mlops_core.cli.context import api, err, out, print_json, say, terminal_width, told_errors
from mlops_core.cli.following import follow_to_the_end
from mlops_core.domain.errors import BadInputError

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
RunToRead = Annotated[str, typer.Argument(help="A run, the beginning of its id, or a project: its newest run.")]
_MOST_RUNS = 200
_STAGES = ("build", "train", "serve")


def projects(*, as_json: Json = False) -> None:
    """List the repositories that this controller builds."""
    with told_errors():
        view = api().get("/projects")
        if as_json:
            print_json(view)
        elif view["projects"]:
            say(lists.projects(view["projects"], terminal_width()))
        else:
            out.print("No project yet. Add one: headrace add PATH")


def runs(
    *,
    project: Annotated[str | None, typer.Argument(help="Only this project's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=_MOST_RUNS, help="How many, of the newest.")] = 20,
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    with told_errors():
        view = api().get("/runs", project=project, limit=limit)
        if as_json:
            print_json(view)
        elif view["runs"]:
            say(lists.runs(view["runs"], terminal_width()))
            if view["cursor"]:
                of = f"{project} " if project else ""
                out.print(f"[dim]older ones: headrace runs {of}--limit {min(limit * 5, _MOST_RUNS)}[/dim]")
        else:
            out.print("No run yet. Push: git push headrace main")


def show(run_id: RunToRead, *, as_json: Json = False) -> None:
    """Tell a run's story: each state, event, gate with its numbers, and decision."""
    with told_errors():
        client = api()
        view = client.get(f"/runs/{find_run(client, run_id, newest_of_project=True)}")
        if as_json:
            print_json(view)
        else:
            say(story.tell(view, client.base_url, terminal_width()))


def logs(
    run_id: RunToRead,
    *,
    stage: Annotated[
        str | None,
        typer.Option(
            help="build, train, or serve: what a deployed version prints. Default: the newest of the first two."
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run ends: states, and what the steps print.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for programs; with --follow, one per line.")
    ] = False,
) -> None:
    """Print the log of a run's jobs."""
    with told_errors():
        client = api()
        full_id = find_run(client, run_id, newest_of_project=True)
        if stage is not None and stage not in _STAGES:
            raise BadInputError(f"There is no log of stage '{stage}'. Stages with a log: {', '.join(_STAGES)}.")
        if follow and stage == "serve":
            raise BadInputError("What a deployed version prints is not followed. Leave --follow out.")
        if follow:
            follow_to_the_end(client, full_id, stage=stage, as_json=as_json)
            return
        stage, log, left_out = _log(client, full_id, stage)
        if as_json:
            print_json({"run_id": full_id, "stage": stage, "log": log, "left_out_bytes": left_out})
            return
        if left_out:
            err.print(f"[dim]the first {left_out:,} bytes are left out[/dim]")
        out.out(log, end="" if log.endswith("\n") else "\n", highlight=False)


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
            say(lists.versions(view["versions"], client.get(f"/models/{quote(model, safe='')}"), terminal_width()))
        elif view["models"]:
            say(lists.models(view["models"], client.base_url, terminal_width()))
        else:
            out.print("No model is in service yet. Push a project: git push headrace main")


def deployments(*, as_json: Json = False) -> None:
    """List the deployments of all versions: what they say of themselves, and which of them no model needs."""
    with told_errors():
        view = api().get("/deployments")
        if as_json:
            print_json(view)
        elif view["deployments"]:
            say(lists.deployments(view["deployments"], terminal_width()))
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


def find_run(client: Api, beginning: str, *, newest_of_project: bool = False) -> str:
    """
    Complete the beginning of a run's id.

    Args:
        newest_of_project: Take the name of a project for its newest run. Not for decisions: they are about a certain run.
    Raises: BadInputError: No run of the newest ones begins so, or several do.
    """
    newest = client.get("/runs", limit=_MOST_RUNS)["runs"]
    found = [run["run_id"] for run in newest]
    if beginning in found:
        return beginning
    of_project = [run["run_id"] for run in newest if run["project"] == beginning]
    if newest_of_project and of_project:
        return str(of_project[0])
    matches = [run_id for run_id in found if run_id.startswith(beginning)]
    if len(matches) > 1:
        raise BadInputError(f"'{beginning}' begins {len(matches)} runs: {', '.join(matches[:5])}. Give more letters.")
    if not matches:
        # An old one, by its whole id; who gave its beginning is told that there is none.
        return str(client.get(f"/runs/{quote(beginning, safe='')}")["run_id"])
    return str(matches[0])


def _log(client: Api, run_id: str, stage: str | None) -> tuple[str, str, int]:
    """Read a stage's log, by default the newest that there is; gives the stage, and how much was left out, too."""
    if stage is not None:
        return stage, *client.log(run_id, stage)
    try:
        return "train", *client.log(run_id, "train")
    except AbsentError:
        return "build", *client.log(run_id, "build")


def _body(file: Path) -> bytes:
    if str(file) == "-":
        return typer.get_binary_stream("stdin").read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadInputError(f"'{file}' cannot be read: {error.strerror}. Give a JSON file with the request.") from None
