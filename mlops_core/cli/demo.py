"""
`headrace demo`: the whole way on real data. Push a project, watch it go live, predict, push a worse model, see it rejected.

Everything runs in a folder of its own through the very commands that a person types; environments are kept for the next
time, all else is removed at the end.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from mlops_core.adapters.local.running import address_of_controller
from mlops_core.cli.api import Api
from mlops_core.cli.context import out, told_errors
from mlops_core.cli.down import stop_controller, stop_processes
from mlops_core.domain.errors import PermanentError, TemporaryError
from mlops_core.settings import process_environment

_START_SECONDS = 60.0
_ROOT = Path(__file__).resolve().parents[2]
_EXAMPLE = _ROOT / "examples" / "diabetes"
_AUTHOR = ("-c", "user.name=Headrace demo", "-c", "user.email=demo@example.invalid")


def demo(
    *,
    folder: Annotated[Path, typer.Option(help="Where it runs.")] = Path(".headrace/demo"),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the controller and the model running.")] = False,
) -> None:
    """Push the example, watch it go live, predict for three patients, see a worse model be rejected."""
    started = time.monotonic()
    with told_errors():
        if not _EXAMPLE.is_dir():
            raise PermanentError("The demo needs the checkout with its 'examples' folder. Clone the project.")
        home = folder.absolute()
        data, project = home / "data", home / "diabetes"
        _clean(home)
        with _controller(data, keep=keep) as client:
            _tell(f"1. A controller is up at {client.base_url}: the function app that Azure would run.")
            _make_project(project)
            _run("add", str(project), "--data", str(data))
            _tell("2. Push a project: built, tested, trained, judged, released.")
            _push(project)
            if client.get("/models")["models"] == []:
                raise PermanentError(f"The push did not go live; its log is in '{data}'. 'headrace show' tells more.")
            _tell("3. Predict for three real patients, whom the model never saw.")
            _predict(client, project)
            _tell("4. Push a worse model: it sees only age and sex. The gate must reject it.")
            _git(project, "apply", "demo/worse.patch")
            _git(project, *_AUTHOR, "commit", "--quiet", "--all", "--message", "Use age and sex only")
            _push(project)
            _tell("5. The champion still serves.")
            _champion(client)
            _how_to_go_on(data, keep=keep, seconds=time.monotonic() - started)
        if not keep:
            _clean(home)


def _tell(text: str) -> None:
    out.print(f"\n[bold cyan]{text}[/bold cyan]")


@contextmanager
def _controller(data: Path, *, keep: bool) -> Iterator[Api]:
    data.mkdir(parents=True, exist_ok=True)
    log = (data / "demo-up.txt").open("w")
    command = [sys.executable, "-m", "mlops_core.cli", "up", "--port", "0", "--data", str(data)]
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=_environment(data))
    try:
        yield Api(_wait_for(data, process))
    finally:
        log.close()
        if not keep:
            out.print("[dim]stopping the controller, the model and MLflow ...[/dim]")
            stop_controller(data)
            process.wait()
            stop_processes(data)


def _environment(data: Path) -> dict[str, str]:
    return {**process_environment(), "HEADRACE_DATA": str(data)}


def _wait_for(data: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = (data / "demo-up.txt").read_text()[-1_000:]
            raise PermanentError(f"The controller did not start:\n{said}")
        address = address_of_controller(data)
        if address is not None and Api(address).is_up():
            return address
        time.sleep(0.05)
    raise TemporaryError(f"The controller did not start within {_START_SECONDS:g} s; its log is in '{data}'.")


def _make_project(project: Path) -> None:
    shutil.copytree(_EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache", "mlruns"))
    _git(project, "init", "--quiet", "--initial-branch=main")
    _git(project, "add", "--all")
    _git(project, *_AUTHOR, "commit", "--quiet", "--message", "Predict the progression of diabetes")


def _git(project: Path, *arguments: str) -> None:
    done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PermanentError(f"git {' '.join(arguments)} did not work: {done.stderr.strip()}")


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "mlops_core.cli", *arguments], check=True)


def _push(project: Path) -> None:
    out.print("[dim]$ git push headrace main[/dim]")
    command = ["git", "push", "headrace", "main"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as push:
        for line in push.stdout or ():
            text = line.rstrip().removeprefix("remote: ").rstrip()
            if line.startswith("remote:") and text:
                out.print(Text(text, style=_style(text)))


def _style(text: str) -> str:
    word = text.split(" ", 1)[0].strip(":").lower()
    if not text.startswith(" "):
        return {"live": "bold green", "rejected": "bold red", "failed": "bold red"}.get(word, "bold")
    return "" if text.startswith("    ") else "cyan"


def _predict(client: Api, project: Path) -> None:
    body = (project / "requests" / "three-patients.json").read_bytes()
    out.print("[dim]$ headrace predict diabetes requests/three-patients.json[/dim]")
    predictions, headers = client.score("diabetes", body)
    rows = json.loads(body)["input_data"]
    columns = rows["columns"]
    for row, value in zip(rows["data"], predictions, strict=True):
        patient = dict(zip(columns, row, strict=True))
        out.print(
            f"  age {patient['age']:.0f}, bmi {patient['bmi']:.1f}: progression after a year [bold]{value:.0f}[/bold]"
        )
    out.print(f"[dim]  by version {headers['x-headrace-model-version']}[/dim]")


def _champion(client: Api) -> None:
    model = client.get("/models/diabetes")
    out.print(f"  champion: version {model['champion']['version']}, at {client.base_url}{model['address']}")


def _how_to_go_on(data: Path, *, keep: bool, seconds: float) -> None:
    _tell(f"Done in {seconds:.0f} s. To go on:")
    if shutil.which("headrace") is None:
        # 'make demo' needs no activated environment; what is typed next does.
        activate = Path(sys.executable).parent / "activate"
        shown = activate.relative_to(Path.cwd()) if activate.is_relative_to(Path.cwd()) else activate
        out.print(f"  source {shown}")
    if keep:
        out.print(f"  export HEADRACE_DATA={data}     then: headrace runs, headrace show RUN, headrace models")
        out.print("  headrace down                    stops it")
    else:
        out.print("  headrace up                      in a terminal of its own")
        out.print("  headrace init PATH               writes mlops.yaml for your own Azure ML project")
        out.print("  headrace add PATH                then: git push headrace main")
        out.print(
            f"[dim]All was removed but the environments, for the next time: {data / 'caches' / 'environments'}[/dim]"
        )


def _clean(home: Path) -> None:
    """Remove what an earlier demo left, except the environments: making them takes the longest."""
    data = home / "data"
    if data.exists():
        stop_controller(data)
        if (data / "jobs").exists():
            stop_processes(data)
    shutil.rmtree(home / "diabetes", ignore_errors=True)
    for path in data.iterdir() if data.exists() else ():
        if path.name == "caches":
            shutil.rmtree(path / "steps", ignore_errors=True)
            shutil.rmtree(path / "sources", ignore_errors=True)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
