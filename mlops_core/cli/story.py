"""Tell a person what became of a run, from its trigger to where it stands: states, gates with numbers, events, log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from rich.text import Text

from mlops_core.cli.columns import hanging
from mlops_core.cli.words import coloured, length

View = dict[str, Any]

_MARKS = {"passed": ("✓", "green"), "failed": ("✗", "red"), "waived": ("~", "yellow"), "pending": ("…", "cyan")}
# What an event says of itself, that its line says already or that is told elsewhere.
_HIDDEN = {"kind", "at", "log_tail", "verdicts", "revival", "p95_ms", "stage", "reason", "job_name"}
_LONGEST_REASON = 300


def tell(run: View, base_url: str, width: int | None) -> Iterator[Text]:
    """Tell a run's story, line by line."""
    trigger = run["trigger"]
    yield Text.assemble((run["run_id"], "bold"), "  ", coloured(run["state"]))
    yield Text(f"{trigger['kind']} · started {run['created_at'][:10]} {run['created_at'][11:19]} UTC", style="dim")
    yield Text()
    yield from _states(run, width)
    for judged in run["gates"]:
        yield from _gates(judged, width)
    if run["pending"]:
        effects = ", ".join(pending["effect"]["kind"].replace("_", " ") for pending in run["pending"])
        yield Text()
        yield Text.assemble(("under way: ", "dim"), effects)
    yield from _events(run, width)
    if run["log_tail"]:
        yield Text("\nthe end of the log", style="bold")
        for line in run["log_tail"].strip().splitlines():
            yield Text.assemble(("  │ ", "red"), line)
        yield Text(f"the whole log: headrace logs {run['run_id']}", style="dim")
    if run["address"]:
        yield Text.assemble("\nanswers at ", (f"{base_url}{run['address']}", "bold"))


def _states(run: View, width: int | None) -> Iterator[Text]:
    entries = run["states"]
    longest = max(len(entry["state"]) for entry in entries)
    took = [_took(entry, following) for entry, following in zip(entries, [*entries[1:], None], strict=True)]
    wide = max(len(text) for text in took)
    for entry, text in zip(entries, took, strict=True):
        state = coloured(entry["state"])
        state.pad_right(longest - len(entry["state"]) + 2)
        lead = Text.assemble(f"{_clock(entry['at'])}  ", state, f"{text:<{wide}}  ")
        yield from hanging(lead, Text(entry["reason"]), width)


def _took(entry: View, following: View | None) -> str:
    if following is None:
        return ""
    return length((datetime.fromisoformat(following["at"]) - datetime.fromisoformat(entry["at"])).total_seconds())


def _gates(judged: View, width: int | None) -> Iterator[Text]:
    if not judged["verdicts"]:
        yield Text(f"\nno gates are declared: v{judged['version']} was not judged (release.gates)", style="dim")
        return
    against = f"against champion v{judged['champion']}" if judged["champion"] else "no champion yet"
    yield Text(f"\ngates of v{judged['version']}, {against}", style="bold")
    for verdict in judged["verdicts"]:
        mark, colour = _MARKS[verdict["outcome"]]
        name = verdict["gate"] + (f" [{verdict['segment']}]" if verdict["segment"] else "")
        body = Text.assemble(f"{name}: ", (verdict["reason"], "dim"))
        yield from hanging(Text(f"  {mark} ", style=colour), body, width)


def _events(run: View, width: int | None) -> Iterator[Text]:
    told = [entry for entry in run["history"] if entry["event"]["kind"] != "effect_done"]
    if not told:
        return
    yield Text("\nevents", style="bold")
    names = [_name(entry["event"]) for entry in told]
    longest = max(len(name) for name in names)
    for entry, name in zip(told, names, strict=True):
        change = f"{entry['from']} → {entry['to']}" if entry["from"] != entry["to"] else ""
        parts = [part for part in (change, _detail(entry["event"])) if part]
        lead = Text(f"  {_clock(entry['recorded_at'])}  {name:<{longest}}  ")
        yield from hanging(lead, Text(" · ".join(parts), style="dim"), width)
    if run["more_history"]:
        yield Text(f"  ... and more; the first {len(run['history'])} are shown", style="dim")


def _name(event: View) -> str:
    stage = f"{event['stage']} " if event.get("stage") else ""
    return stage + str(event["kind"]).replace("_", " ")


def _detail(event: View) -> str:
    """Say what an event tells, its reason last: that may be long."""
    values = [(key, value) for key, value in event.items() if key not in _HIDDEN and value not in (None, "", [], {})]
    said = [_said(key, value) for key, value in values]
    reason = str(event.get("reason") or "").partition("\n")[0]
    cut = reason if len(reason) <= _LONGEST_REASON else f"{reason[: _LONGEST_REASON - 1]}…"
    return ", ".join(said) + (": " if said and cut else "") + cut


def _said(key: str, value: object) -> str:
    if isinstance(value, bool):
        return key if value else f"not {key}"
    if key in ("outcome", "decision"):
        return str(value)
    return f"{key.replace('_', ' ')} {value}"


def _clock(moment: str) -> str:
    return datetime.fromisoformat(moment).strftime("%H:%M:%S")
