"""Show runs, models and decisions to a person: Rich tables and lines, no logic."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

View = dict[str, Any]

_COLOURS = {
    "live": "bold green",
    "built": "green",
    "retired": "dim",
    "skipped": "dim",
    "superseded": "dim",
    "failed": "bold red",
    "rejected": "red",
    "expired": "red",
    "cancelled": "yellow",
    "rolled_back": "red",
    "awaiting_approval": "bold yellow",
    "passed": "green",
    "waived": "yellow",
}
_MARKS = {"passed": "✓", "failed": "✗", "waived": "~", "pending": "…"}


def coloured(word: str) -> Text:
    """Write a state or outcome in its colour."""
    return Text(word, style=_COLOURS.get(word, "cyan"))


def age(moment: str) -> str:
    """Say how long ago something was."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    return f"{length(seconds)} ago"


def length(seconds: float) -> str:
    """Say how long something took: at most two units."""
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, size, rest in (("d", 86_400, 3_600), ("h", 3_600, 60), ("min", 60, 1)):
        if whole >= size:
            small = {"d": "h", "h": "min", "min": "s"}[unit]
            return f"{whole // size} {unit} {whole % size // rest} {small}"
    return f"{whole} s"


def runs_table(runs: Iterable[View]) -> Table:
    """List runs."""
    table = Table(box=None, header_style="dim")
    for heading in ("run", "state", "trigger", "model", "started"):
        table.add_column(heading, no_wrap=True, overflow="fold")
    table.add_column("why", no_wrap=True, overflow="ellipsis")
    for run in runs:
        trigger = run["trigger"]
        started_by = f"{trigger['kind']} {trigger['branch']}".strip()
        model = f"{run['model'] or '-'}" + (f" v{run['version']}" if run["version"] else "")
        why = _one_line(run["reason"])
        _row(table, run["run_id"], coloured(run["state"]), started_by, model, age(run["created_at"]), why)
    return table


def projects_table(projects: Iterable[View]) -> Table:
    """List projects."""
    table = Table("project", "host", "repository", "branch", "model", box=None, header_style="dim")
    for project in projects:
        _row(
            table,
            project["name"],
            project["host"],
            project["repository"],
            project["default_branch"],
            project["model"] or "-",
        )
    return table


def models_table(models: Iterable[View], base_url: str) -> Table:
    """List models in service."""
    table = Table("model", "champion", "before it", "since", "address", box=None, header_style="dim")
    for model in models:
        champion, previous = model["champion"], model["previous"]
        _row(
            table,
            model["name"],
            f"v{champion['version']}" if champion else "-",
            f"v{previous['version']}" if previous else "-",
            age(champion["since"]) if champion else "-",
            f"{base_url}{model['address']}" if model["address"] else "-",
        )
    return table


def deployments_table(deployments: Iterable[View]) -> Table:
    """List deployments, and say which of them were left behind."""
    table = Table("deployment", "state", "address", "", box=None, header_style="dim")
    for each in deployments:
        left = "" if each["needed"] else "no model needs it: delete it where it runs, it may cost money"
        _row(table, each["name"], each["state"], each["address"] or "-", left or each["reason"])
    return table


def versions_table(versions: Iterable[View]) -> Table:
    """List the registered versions of a model."""
    table = Table("version", "registered", "job", "metrics", box=None, header_style="dim")
    for version in versions:
        metrics = ", ".join(f"{name} {value:.5g}" for name, value in sorted(version["metrics"].items())[:6])
        _row(table, f"v{version['version']}", age(version["created_at"]), version["job_name"] or "-", metrics or "-")
    return table


def letters_table(letters: Iterable[View]) -> Table:
    """List dead letters."""
    table = Table("id", "what", "kept", "why", box=None, header_style="dim")
    for letter in letters:
        _row(table, letter["id"], letter["subject"], age(letter["created_at"]), _one_line(letter["reason"]))
    return table


def _row(table: Table, *cells: str | Text) -> None:
    """Add a row; text of others is shown as it is, whatever brackets it has."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))


def show_story(console: Console, run: View, base_url: str) -> None:
    """Tell a run from its trigger to where it stands, with gates and decisions."""
    console.print(Text.assemble((run["run_id"], "bold"), "  ", coloured(run["state"])))
    console.print(f"[dim]{escape(run['trigger']['kind'])} · started {run['created_at'][:19]} UTC[/dim]\n")
    console.print(_states(run))
    for judged in run["gates"]:
        console.print(_gates(judged))
    if run["pending"]:
        effects = ", ".join(pending["effect"]["kind"] for pending in run["pending"])
        console.print(f"\n[dim]under way:[/dim] {effects}")
    console.print(_events(run))
    if run["log_tail"]:
        console.print(Panel(Text(run["log_tail"].strip()), title="the end of the log", border_style="red"))
    if run["address"]:
        console.print(f"\nanswers at [bold]{base_url}{run['address']}[/bold]")


def _states(run: View) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    entries = run["states"]
    for entry, following in zip(entries, [*entries[1:], None], strict=True):
        started = datetime.fromisoformat(entry["at"])
        until = datetime.fromisoformat(following["at"]) if following else None
        took = length((until - started).total_seconds()) if until else ""
        table.add_row(started.strftime("%H:%M:%S"), coloured(entry["state"]), took, Text(entry["reason"]))
    return table


def _gates(judged: View) -> Group:
    against = f"champion v{judged['champion']}" if judged["champion"] else "no champion yet"
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    for verdict in judged["verdicts"]:
        mark = Text(_MARKS[verdict["outcome"]], style=_COLOURS.get(verdict["outcome"], "red"))
        name = verdict["gate"] + (f" [{verdict['segment']}]" if verdict["segment"] else "")
        table.add_row(mark, Text(name), Text(verdict["reason"], style="dim"))
    return Group(Text(f"\ngates of v{judged['version']}, against {against}", style="bold"), table)


def _events(run: View) -> Group:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    for entry in run["history"]:
        if entry["event"]["kind"] == "effect_done":
            continue
        at = datetime.fromisoformat(entry["recorded_at"]).strftime("%H:%M:%S")
        change = f"{entry['from']} → {entry['to']}" if entry["from"] != entry["to"] else ""
        table.add_row(at, entry["event"]["kind"], Text(change, style="dim"), Text(_detail(entry["event"]), style="dim"))
    return Group(Text("\nevents", style="bold"), table)


def _detail(event: View) -> str:
    hidden = {"kind", "at", "log_tail", "verdicts", "revival", "p95_ms"}
    shown = [f"{key} {value}" for key, value in event.items() if key not in hidden and value not in (None, "", [], {})]
    return _one_line(", ".join(shown))


def _one_line(text: str, letters: int = 90) -> str:
    first = text.partition("\n")[0]
    return first if len(first) <= letters else f"{first[: letters - 1]}…"
