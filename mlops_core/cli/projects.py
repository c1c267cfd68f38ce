"""Commands about repositories: add, init, validate, schema, and running one pipeline file."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_core.cli.context import err, out, settings, tell_problem, told_errors
from mlops_core.cli.initialise import write_manifest
from mlops_core.cli.inspection import inspect
from mlops_core.cli.up import DataOption
from mlops_core.domain.errors import BadInputError, RefusedError
from mlops_core.domain.project import ProjectSpec
from mlops_core.manifest import ManifestError, missing_files, read_manifest
from mlops_core.ports import ProjectRecord
from mlops_core.settings import process_environment

if TYPE_CHECKING:
    from mlops_core.pipelines.plan import PipelinePlan
    from mlops_core.pipelines.runner import PipelineRun

pipeline = typer.Typer(no_args_is_help=True, help="Run one Azure ML v2 pipeline file on this machine.")

PathArgument = Annotated[Path, typer.Argument(help="The repository.")]
ManifestOption = Annotated[str, typer.Option("--file", help="Path of mlops.yaml in it.")]


def add(path: PathArgument = Path(), *, manifest: ManifestOption = "mlops.yaml", data: DataOption = None) -> None:
    """Allow a repository: makes its bare twin, and adds the remote 'headrace' to push to."""
    from mlops_core.adapters.local.database import Database
    from mlops_core.adapters.local.project_store import SqliteProjectStore
    from mlops_core.adapters.local.repositories import add_repository
    from mlops_core.adapters.local.running import address_of_controller

    folder = (data or settings().data_folder).expanduser().absolute()
    with told_errors():
        record = add_repository(folder, path, manifest)
        database = Database(folder / "headrace.db")
        store = SqliteProjectStore(database)
        try:
            refuse_takeover(store.all(), record)
            known = [other for other in store.all() if other.name == record.name]
            store.put(replace(known[0], model=record.model) if known else record)
        finally:
            database.close()
        out.print(f"project [bold]{record.name}[/bold] added. Deliver it:  git push headrace {record.default_branch}")
        if address_of_controller(folder) is None:
            out.print("Start the controller first, in another terminal:  headrace up")


def refuse_takeover(known: Sequence[ProjectRecord], wanted: ProjectRecord) -> None:
    """
    See that a project takes neither another's name nor its model.

    Raises: RefusedError: It does; names the other one.
    """
    for other in known:
        same_place = (other.clone_url, other.manifest) == (wanted.clone_url, wanted.manifest)
        if other.name == wanted.name and not same_place:
            raise RefusedError(
                f"There is a project '{wanted.name}' already, of repository '{other.repository}'. Give this one another "
                "name: 'project' in mlops.yaml."
            )
        if other.name != wanted.name and other.model is not None and other.model == wanted.model:
            raise RefusedError(
                f"Project '{other.name}' releases the model '{wanted.model}' already, and two would replace each other's "
                "versions. Give this one another name: 'train.model' in mlops.yaml, and in its pipeline."
            )


def init(
    path: PathArgument = Path(),
    *,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an mlops.yaml that is there.")] = False,
) -> None:
    """Look at a repository and write a commented mlops.yaml."""
    with told_errors():
        if not path.is_dir():
            raise BadInputError(f"'{path}' is no folder. Give the repository's folder.")
        target, text = write_manifest(path, inspect(path), overwrite=force)
        out.print(text, markup=False)
        out.print(f"written to [bold]{target}[/bold]. Check it: headrace validate {path}")


def validate(path: PathArgument = Path(), *, manifest: ManifestOption = "mlops.yaml") -> None:
    """Check mlops.yaml and all that it points at; names file, line and key of what is wrong."""
    with told_errors():
        root = path.absolute()
        file = root / manifest
        if not file.is_file():
            raise BadInputError(
                f"There is no '{manifest}' in '{root}'. Write one with 'headrace init', then commit it."
            )
        problems = _problems_of(root, manifest)
        for problem in problems:
            tell_problem(problem)
        if problems:
            raise typer.Exit(1)
        out.print(f"[green]✓[/green] {manifest}, every file that it names, and the pipeline")


def _problems_of(root: Path, manifest: str) -> list[str]:
    from mlops_core.pipelines.data_assets import DataAssets
    from mlops_core.pipelines.errors import PipelineInvalidError, PipelineNotLocalError
    from mlops_core.pipelines.loader import LoadRequest, load_plan

    text, folder = (root / manifest).read_bytes(), (root / manifest).parent
    try:
        spec = read_manifest(text, manifest)
    except ManifestError as error:
        return [f"{manifest} {problem}" for problem in error.problems]
    problems = [f"{manifest} {problem}" for problem in missing_files(folder, spec, text, manifest)]
    if (folder / spec.train.pipeline).is_file():
        request = LoadRequest(
            yaml_path=folder / spec.train.pipeline,
            project_root=folder,
            inputs=spec.train.inputs,
            bindings=spec.local.data,
            environments=spec.local.environments,
            declared=DataAssets(settings().data_folder / "assets").declared(),
        )
        try:
            load_plan(request)
        except PipelineInvalidError as error:
            problems += [str(problem) for problem in error.problems]
        except PipelineNotLocalError as error:
            problems += [f"{refusal} (this cannot run on a laptop)" for refusal in error.refusals]
    return problems


def schema() -> None:
    """Print the JSON Schema of mlops.yaml, for editors."""
    out.print(json.dumps(ProjectSpec.model_json_schema(), indent=2), markup=False)


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
            folder=(folder or Path(tempfile.mkdtemp(prefix="headrace-"))).absolute(),
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
