"""Lists of runs, projects, models, deployments, versions and dead letters, for a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rich.text import Text

from mlops_core.cli.columns import Column, lay_out
from mlops_core.cli.words import age, coloured

View = dict[str, Any]

_RUNS = (
    Column("run"),
    Column("state"),
    Column("trigger", leave_out=3),
    Column("model", leave_out=2),
    Column("started", leave_out=1),
    Column("why", fit="cut"),
)
_PROJECTS = (
    Column("project"),
    Column("model"),
    Column("branch", leave_out=1),
    Column("host", leave_out=3),
    Column("repository", leave_out=2),
    Column("mlops.yaml", leave_out=1),
)
_MODELS = (
    Column("model"),
    Column("champion"),
    Column("before it", leave_out=1),
    Column("since", leave_out=2),
    Column("address"),
)
_DEPLOYMENTS = (
    Column("deployment"),
    Column("state"),
    Column("address", leave_out=1),
    Column("remark", fit="cut"),
)
_VERSIONS = (
    Column("version"),
    Column("in service"),
    Column("registered", leave_out=2),
    Column("job", leave_out=1),
    Column("metrics", fit="cut"),
)
_LETTERS = (Column("id"), Column("what", leave_out=1), Column("kept", leave_out=2), Column("why", fit="cut"))


def runs(listed: Iterable[View], width: int | None) -> Iterator[Text]:
    """List runs."""
    rows = []
    for run in listed:
        trigger = run["trigger"]
        started_by = f"{trigger['kind']} {trigger['branch']}".strip()
        model = f"{run['model'] or '-'}" + (f" v{run['version']}" if run["version"] else "")
        rows.append(
            [run["run_id"], coloured(run["state"]), started_by, model, age(run["created_at"]), str(run["reason"])]
        )
    return lay_out(_RUNS, rows, width)


def projects(listed: Iterable[View], width: int | None) -> Iterator[Text]:
    """List projects."""
    keys = ("name", "model", "default_branch", "host", "repository", "manifest")
    return lay_out(_PROJECTS, [[str(project[key] or "-") for key in keys] for project in listed], width)


def models(listed: Iterable[View], base_url: str, width: int | None) -> Iterator[Text]:
    """List models in service."""
    rows = []
    for model in listed:
        champion, previous = model["champion"], model["previous"]
        rows.append(
            [
                model["name"],
                f"v{champion['version']}" if champion else "-",
                f"v{previous['version']}" if previous else "-",
                age(champion["since"]) if champion else "-",
                f"{base_url}{model['address']}" if model["address"] else "-",
            ]
        )
    return lay_out(_MODELS, rows, width)


def deployments(listed: Iterable[View], width: int | None) -> Iterator[Text]:
    """List deployments, and say which of them were left behind."""
    rows = []
    for each in listed:
        left = "" if each["needed"] else "no model needs it: delete it where it runs, it may cost money"
        rows.append([each["name"], each["state"], each["address"] or "-", left or each["reason"]])
    return lay_out(_DEPLOYMENTS, rows, width)


def versions(listed: Iterable[View], model: View, width: int | None) -> Iterator[Text]:
    """List the registered versions of a model, with what serves and what served before."""
    rows = []
    for version in listed:
        metrics = ", ".join(f"{name} {value:.5g}" for name, value in sorted(version["metrics"].items()))
        rows.append(
            [
                f"v{version['version']}",
                _service(version["version"], model),
                age(version["created_at"]),
                version["job_name"] or "-",
                metrics or "-",
            ]
        )
    return lay_out(_VERSIONS, rows, width)


def _service(version: str, model: View) -> Text:
    if model["champion"] and model["champion"]["version"] == version:
        return Text("champion", style="bold green")
    if model["previous"] and model["previous"]["version"] == version:
        return Text("before it")
    served = any(entry["version"] == version and entry["traffic_weight"] > 0 for entry in model["ledger"])
    return Text("once" if served else "-", style="dim")


def letters(listed: Iterable[View], width: int | None) -> Iterator[Text]:
    """List dead letters."""
    rows = [[each["id"], each["subject"], age(each["created_at"]), each["reason"]] for each in listed]
    return lay_out(_LETTERS, rows, width)
