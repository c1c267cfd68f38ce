"""Commands about repositories: add, init, validate, schema, and running one pipeline file."""

from __future__ import annotations

import os
import shlex
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mlops_core.cli.checking import faults_of
from mlops_core.cli.context import err, out, print_json, settings, tell_problem, told_errors
from mlops_core.cli.up import DataOption
from mlops_core.domain.errors import BadInputError, RefusedError
from mlops_core.pipelines.results import counted
from mlops_core.settings import process_environment

if TYPE_CHECKING:
    from mlops_core.pipelines.plan import PipelinePlan
    from mlops_core.pipelines.runner import PipelineRun
    from mlops_core.ports import ProjectRecord

pipeline = typer.Typer(no_args_is_help=True, help="Run one Azure ML v2 pipeline file on this machine.")

PathArgument = Annotated[Path, typer.Argument(help="The repository.")]
ManifestOption = Annotated[str, typer.Option("--file", help="Path of mlops.yaml in it.")]


def add(path: PathArgument = Path(), *, manifest: ManifestOption = "mlops.yaml", data: DataOption = None) -> None:
    """Allow a repository: makes its bare twin, and adds the remote 'headrace' to push to."""
    from mlops_core.adapters.local.database import Database
    from mlops_core.adapters.local.project_store import SqliteProjectStore
    from mlops_core.adapters.local.repositories import add_repository, hindrances
    from mlops_core.adapters.local.running import address_of_controller

    folder = (data or settings().data_folder).expanduser().absolute()
    with told_errors():
        path, manifest = _folder_and_manifest(path, manifest)
        database = Database(folder / "headrace.db")
        store = SqliteProjectStore(database)
        try:
            record = add_repository(folder, path, manifest, check=lambda wanted: refuse_takeover(store.all(), wanted))
            known = [other for other in store.all() if other.name == record.name]
            store.put(replace(known[0], model=record.model) if known else record)
        finally:
            database.close()
        out.print(f"project [bold]{record.name}[/bold] added. Deliver it:  git push headrace {record.default_branch}")
        for hindrance in hindrances(record, path):
            out.print(f"[yellow]![/yellow] {escape(hindrance)}")
        if address_of_controller(folder) is None:
            out.print("Start the controller first, in another terminal:  headrace up")


def _folder_and_manifest(path: Path, manifest: str) -> tuple[Path, str]:
    """Take the path of an `mlops.yaml` itself, too."""
    return (path.parent, path.name) if path.is_file() else (path, manifest)


def refuse_takeover(known: Sequence[ProjectRecord], wanted: ProjectRecord) -> None:
    """
    See that a project takes neither another's name nor its model, and keeps its own name.

    Raises: RefusedError: It does; names the other one.
    """
    from mlops_core.services.policy import model_taken

    for other in known:
        same_place = (other.clone_url, other.manifest) == (wanted.clone_url, wanted.manifest)
        if other.name == wanted.name and not same_place:
            raise RefusedError(
                f"There is a project '{wanted.name}' already, of repository '{other.repository}'. Give this one another "
                "name: 'project' in mlops.yaml."
            )
        if other.name != wanted.name and same_place:
            raise RefusedError(
                f"'{wanted.manifest}' of this repository was added as project '{other.name}'. A project keeps its name, "
                f"since its runs have it: write 'project: {other.name}' again."
            )
    taken = model_taken(known, wanted.name, wanted.model) if wanted.model is not None else None
    if taken is not None:
        raise RefusedError(taken)


def init(
    path: PathArgument = Path(),
    *,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an mlops.yaml that is there.")] = False,
) -> None:
    """Look at a repository, write a commented mlops.yaml, and say what is left to fill in."""
    from mlops_core.cli.initialise import write_manifest
    from mlops_core.cli.inspection import inspect

    with told_errors():
        if not path.is_dir():
            raise BadInputError(f"'{path}' is no folder. Give the repository's folder.")
        target, text = write_manifest(path, inspect(path), overwrite=force)
        out.print(text, markup=False)
        out.print(f"written to [bold]{target}[/bold]")
        faults = faults_of(path.absolute(), target.name)
        for fault in faults:
            tell_problem(fault.text)
        if faults:
            left = counted(len(faults), "thing")
            out.print(f"{left} left for you to fill in or mend; then: headrace validate {shlex.quote(str(path))}")
        else:
            out.print(f"All that it points at is there. Commit it, then: headrace add {shlex.quote(str(path))}")


def validate(
    path: PathArgument = Path(),
    *,
    manifest: ManifestOption = "mlops.yaml",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Check mlops.yaml and all that it points at; names file, line and key of what is wrong."""
    with told_errors():
        path, manifest = _folder_and_manifest(path, manifest)
        root = path.absolute()
        if not root.is_dir():
            raise BadInputError(f"'{path}' is no folder. Give the repository's folder.")
        if not (root / manifest).is_file():
            raise BadInputError(
                f"There is no '{manifest}' in '{root}'. Write one with 'headrace init', then commit it."
            )
        faults = faults_of(root, manifest)
        if as_json:
            print_json({"ok": not faults, "problems": [fault.view() for fault in faults]})
        for fault in [] if as_json else faults:
            tell_problem(fault.text)
        if not (faults or as_json):
            out.print(f"[green]✓[/green] {manifest}, every file that it names, and the pipeline")
        if faults:
            raise typer.Exit(1)


def schema() -> None:
    """Print the JSON Schema of mlops.yaml, for editors."""
    from mlops_core.domain.project import ProjectSpec

    print_json(ProjectSpec.model_json_schema())


@pipeline.command("run")
def run_pipeline_file(
    file: Annotated[Path, typer.Argument(help="Azure ML v2 pipeline YAML.")],
    *,
    root: Annotated[
        Path | None, typer.Option(help="Where declared assets are searched. Default: its repository.")
    ] = None,
    given: Annotated[list[str] | None, typer.Option("--input", "-i", help="NAME=VALUE, for an input.")] = None,
    bindings: Annotated[list[str] | None, typer.Option("--bind", help="REFERENCE=PATH, for a data asset.")] = None,
    environments: Annotated[
        list[str] | None, typer.Option("--environment", help="REFERENCE=FILE, or =current.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where outputs and logs go. Default: a new temporary one.")
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="Address of an MLflow server. Default: none; with a sweep, one of its own.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="A requirement that is left out of the environments.")
    ] = None,
    reuse: Annotated[bool, typer.Option(help="Reuse steps that did not change.")] = True,
    data: DataOption = None,
) -> None:
    """Run a pipeline without a project."""
    from mlops_core.pipelines.runner import PipelineRun

    with told_errors():
        file = file.absolute()
        chosen = (data or settings().data_folder).expanduser().absolute()
        run = PipelineRun(
            file=file,
            project_root=(root or _repository_of(file)).absolute(),
            folder=(folder or Path(tempfile.gettempdir(), f"headrace-{uuid.uuid4().hex[:8]}")).absolute(),
            caches=chosen / "caches",
            assets=chosen / "assets",
            job_name=f"pipeline-{uuid.uuid4().hex[:8]}",
            inherited=process_environment(),
            tracking_uri=tracking_uri,
            inputs=dict(_pair(each) for each in given or []),
            data=dict(_pair(each) for each in bindings or []),
            environments=dict(_pair(each) for each in environments or []),
            without=tuple(without or ()),
            cores=os.cpu_count() or 2,
            reuse=reuse,
        )
        plan = run.plan()
        with _tracking_for(plan, run) as address:
            result = replace(run, tracking_uri=address).execute(plan, lambda _kind, text: out.print(text, markup=False))
        for name, step in result.steps.items():
            for output, place in step.outputs.items():
                out.print(f"[dim]{name}.{output}: {place}[/dim]")
        if result.outcome != "succeeded":
            err.print(f"[bold red]✗[/bold red] {result.reason}")
            if result.log_tail:
                err.print(result.log_tail, markup=False)
            if address is None and "mlflow" in result.log_tail.lower():
                err.print(
                    "The steps had no MLflow server to log to or to register at. Give them one: --tracking-uri ADDRESS."
                )
            raise typer.Exit(1)


@contextmanager
def _tracking_for(plan: PipelinePlan, run: PipelineRun) -> Iterator[str | None]:
    """Give the server's address; a sweep needs one to choose its best trial, and gets it for as long as it runs."""
    from mlops_core.adapters.local.mlflow_server import MlflowServer
    from mlops_core.pipelines.step_process import allowed

    if run.tracking_uri is not None or all(step.sweep is None for step in plan.steps):
        yield run.tracking_uri
        return
    server = MlflowServer(run.folder / "mlflow", environment=allowed(run.inherited))
    out.print("starting an MLflow server for the sweep")
    server.start()
    try:
        yield server.wait_until_ready()
    finally:
        server.stop()


def _repository_of(file: Path) -> Path:
    return next((parent for parent in file.parents if (parent / ".git").exists()), file.parent)


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.rpartition("=") if text.startswith("azureml:") else text.partition("=")
    if not sign:
        raise BadInputError(f"'{text}' is not NAME=VALUE.")
    return name, value
