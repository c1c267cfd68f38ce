"""Commands that steer: retrain, approve, reject, cancel, rollback, dead letters. Each records who asked and why."""

from __future__ import annotations

import uuid
from typing import Annotated
from urllib.parse import quote

import typer
from rich.markup import escape

from mlops_core.cli import lists
from mlops_core.cli.api import person
from mlops_core.cli.asking import Json, find_run
from mlops_core.cli.context import api, out, print_json, say, terminal_width, told_errors
from mlops_core.cli.following import follow_to_the_end

Reason = Annotated[str, typer.Option("--reason", "-m", help="Why; it is recorded.")]
Watch = Annotated[bool, typer.Option("--follow/--no-follow", "-f", help="Watch the run until it ends.")]
RunArgument = Annotated[str, typer.Argument(help="A run, or the beginning of its id.")]

dead_letters = typer.Typer(no_args_is_help=True, help="What could not be taken: list, show, replay.")


def retrain(
    project: Annotated[str | None, typer.Argument(help="The project. Not needed with --resume.")] = None,
    *,
    reason: Reason = "",
    rebuild: Annotated[bool, typer.Option(help="Build and test again first.")] = True,
    reuse: Annotated[bool, typer.Option(help="Take over steps that did not change, as a push does.")] = False,
    resume: Annotated[str | None, typer.Option(help="Go on from the failed step of this run.")] = None,
    follow: Watch = False,
) -> None:
    """Train a project's newest commit again, every step anew; or go on from a failed run's failed step."""
    with told_errors():
        client = api()
        wish = {"request_id": uuid.uuid4().hex, "by": person(), "reason": reason}
        body: dict[str, object] = {**wish, "rebuild": rebuild, "reuse": reuse}
        if resume is not None:
            full_id = find_run(client, resume)
            body["resume"] = full_id
            project = project or str(client.get(f"/runs/{full_id}")["project"])
        if project is None:
            raise typer.BadParameter("Give a project, or --resume RUN. Projects: headrace projects.")
        run = client.post(f"/projects/{project}/retrain", body)
        out.print(f"run [bold]{run['run_id']}[/bold] started")
        if follow:
            follow_to_the_end(client, run["run_id"])
        else:
            out.print(f"[dim]watch it: headrace logs {run['run_id']} --follow[/dim]")


def approve(
    run_id: RunArgument,
    *,
    reason: Reason = "",
    waive: Annotated[bool, typer.Option("--waive", help="Override the gates that rejected it.")] = False,
) -> None:
    """Let a release go on, or override its failed gates."""
    _decide(run_id, "waive" if waive else "approve", reason)


def reject(run_id: RunArgument, *, reason: Reason = "") -> None:
    """Stop a release that waits for approval."""
    _decide(run_id, "reject", reason)


def cancel(run_id: RunArgument, *, reason: Reason = "") -> None:
    """Stop a run and its jobs."""
    _decide(run_id, "cancel", reason)


def rollback(
    model: Annotated[str, typer.Argument(help="Name of a model in service.")],
    *,
    to: Annotated[str, typer.Option("--to", help="A certain version that was in service once.")] = "",
    reason: Reason = "",
    follow: Watch = True,
) -> None:
    """Bring the version before the champion back into service; again for the one before that."""
    with told_errors():
        client = api()
        body = {"request_id": uuid.uuid4().hex, "by": person(), "reason": reason, "version": to.removeprefix("v")}
        run = client.post(f"/models/{quote(model, safe='')}/rollback", body)
        out.print(f"run [bold]{run['run_id']}[/bold]: back to version {run['version']}")
        if follow:
            follow_to_the_end(client, run["run_id"])


@dead_letters.command("list")
def list_letters(*, as_json: Json = False) -> None:
    """List what could not be taken, newest first."""
    with told_errors():
        view = api().get("/dead-letters")
        if as_json:
            print_json(view)
        elif view["dead_letters"]:
            say(lists.letters(view["dead_letters"], terminal_width()))
        else:
            out.print("No dead letters.")


@dead_letters.command("show")
def show_letter(letter_id: Annotated[str, typer.Argument(help="Its id.")], *, as_json: Json = False) -> None:
    """Print a dead letter whole, with and without --json as JSON."""
    del as_json
    with told_errors():
        print_json(api().get(f"/dead-letters/{letter_id}"))


@dead_letters.command("replay")
def replay_letter(letter_id: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Take a dead letter again, after its cause was mended."""
    with told_errors():
        api().post(f"/dead-letters/{letter_id}/replay", {"by": person()})
        out.print(f"{letter_id} was taken again")


def _decide(run_id: str, wish: str, reason: str) -> None:
    with told_errors():
        client = api()
        full_id = find_run(client, run_id)
        run = client.post(f"/runs/{full_id}/decisions/{wish}", {"by": person(), "reason": reason})
        out.print(f"run [bold]{full_id}[/bold] is now [bold]{run['state']}[/bold]: {escape(run['reason'])}")
        if not run["ended"]:
            out.print(f"[dim]watch it: headrace logs {full_id} --follow[/dim]")
