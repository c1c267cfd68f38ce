"""
Write the pages that say what the code says: states, mlops.yaml, settings, command line, HTTP.

Run by `make docs`; a test runs it too and fails when a page is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

_NOTE = "<!-- Written by `make docs` from the code. Do not edit. -->\n"


def states() -> str:
    """Draw the state machine from its table."""
    from mlops_core.domain.machine import INTERRUPTIONS, TABLE
    from mlops_core.domain.run import ENDS

    arrows = [f"    {row.source} --> {row.target}: {row.when}" for row in TABLE]
    ends = [f"    {end} --> [*]" for end in sorted(ENDS) if any(row.target is end for row in TABLE)]
    rows = [f"| `{row.source}` | {row.when} | `{row.target}` |" for row in TABLE]
    stops = [f"| {number} | {when} | `{target}` |" for number, (target, when, _) in enumerate(INTERRUPTIONS, 1)]
    return "\n".join(
        [
            "# The states of a run",
            _NOTE,
            "The state is derived from the facts that are known: begin at `received` and follow the first row whose",
            "condition holds, until none does. So neither the order nor the repetition of events matters.",
            "",
            "```mermaid",
            "stateDiagram-v2",
            "    [*] --> received",
            *arrows,
            *ends,
            "```",
            "",
            "## The table",
            "",
            "The first row of a state whose condition holds counts.",
            "",
            "| in | when | goes to |",
            "| --- | --- | --- |",
            *rows,
            "",
            "## Interruptions",
            "",
            "A run that waits in any state but `live` is stopped by the first of these. An end that the run reached by",
            "itself wins: who cancels a run that has failed already finds it `failed`.",
            "",
            "| precedence | when | goes to |",
            "| --- | --- | --- |",
            *stops,
            "",
        ]
    )


def manifest() -> str:
    """Write the reference of mlops.yaml from its schema."""
    from mlops_core.domain.project import ProjectSpec

    schema = ProjectSpec.model_json_schema()
    lines = [
        "# mlops.yaml",
        _NOTE,
        "One file in the model's repository. Unknown keys are errors that name the line and the nearest known key.",
        "`headrace init` writes one, `headrace validate` checks it and all that it points at, `headrace schema` prints",
        "its JSON Schema for editors.",
        "",
    ]
    _describe(schema, schema, "", lines)
    return "\n".join(lines)


def _describe(schema: dict[str, Any], node: dict[str, Any], prefix: str, lines: list[str]) -> None:
    title = prefix or "top level"
    lines += [f"## {title}", ""]
    if node.get("description"):
        lines += [" ".join(str(node["description"]).split()), ""]
    lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    nested = []
    for key, value in node["properties"].items():
        target = _target(schema, value)
        required = key in node.get("required", [])
        default = "**required**" if required else _default(value)
        lines.append(f"| `{key}` | {_kind(schema, value)} | {default} | {value.get('description', '')} |")
        if target is not None:
            nested.append((f"{prefix}.{key}" if prefix else key, target))
    lines.append("")
    for name, target in nested:
        _describe(schema, target, name, lines)


def _target(schema: dict[str, Any], value: dict[str, Any]) -> dict[str, Any] | None:
    for option in [value, value.get("items", {}), *value.get("anyOf", [])]:
        reference = option.get("$ref")
        if reference:
            found: dict[str, Any] = schema["$defs"][reference.rsplit("/", 1)[1]]
            return found
    return None


def _kind(schema: dict[str, Any], value: dict[str, Any]) -> str:
    if "anyOf" in value:
        return " or ".join(_kind(schema, option) for option in value["anyOf"] if option.get("type") != "null")
    if "enum" in value:
        return " or ".join(f"`{option}`" for option in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "$ref" in value:
        return "section"
    if value.get("type") == "array":
        return f"list of {_kind(schema, value.get('items', {}))}"
    if value.get("type") == "object":
        return "mapping"
    if str(value.get("pattern", "")).endswith("[smhd]$"):
        return "duration (`90s`, `10m`, `2h`, `7d`)"
    kind = value.get("type", "text")
    if isinstance(kind, list):
        return "share (`1%`, `0.01`)"
    return {"string": "text", "boolean": "true or false"}.get(kind, str(kind))


def _default(value: dict[str, Any]) -> str:
    default = value.get("default")
    if default in (None, {}, []):
        return ""
    if isinstance(default, (dict, list)) and any(isinstance(part, dict) for part in [default, *default]):
        return "see below"
    return f"`{default}`" if not isinstance(default, list) else f"`[{', '.join(map(str, default))}]`"


def settings() -> str:
    """Write the reference of the settings: each with the text that stands under it."""
    from mlops_core import settings as module

    told = _texts_under_fields(Path(str(module.__file__)).read_text(encoding="utf-8"), "Settings")
    lines = [
        "# Settings",
        _NOTE,
        "What the operator decides, as environment variables of whoever runs Headrace: a person on a laptop, the function",
        "app's settings on Azure, which `infra/modules/functions.bicep` writes. They are read once, at the first call; all",
        "that is wrong is told in one message, with each variable's name and never its value. Secrets may be references to",
        "Key Vault, and one that was not resolved is told too. What belongs to one model is in",
        "[mlops.yaml](mlops-yaml.md) instead; the scoring app has [options of its own](serving.md).",
    ]
    for title, azure in (("Both backends and the laptop", False), ("Azure", True)):
        lines += ["", f"## {title}", "", "| variable | what it is | default | meaning |", "| --- | --- | --- | --- |"]
        for name, field in module.Settings.model_fields.items():
            text = told[name]
            if text.startswith("Azure: ") is not azure:
                continue
            variable = str(field.validation_alias or f"HEADRACE_{name.upper()}")
            text = text.removeprefix("Azure: ").replace("|", "\\|")
            needed = "**needed**" if azure and name in module.NEEDED_ON_AZURE else _default_of_setting(field)
            lines.append(
                f"| `{variable}` | {_kind_of_setting(field.annotation)} | {needed} | {text[:1].upper()}{text[1:]} |"
            )
    return "\n".join([*lines, ""])


def _texts_under_fields(source: str, name: str) -> dict[str, str]:
    """Read the text that stands under each field of a class."""
    import ast
    import itertools

    body = next(node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name)
    return {
        field.target.id: " ".join(str(text.value.value).split())
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def _kind_of_setting(annotation: Any) -> str:
    text = str(annotation)
    if "Literal" in text:
        return " or ".join(f"`{word}`" for word in annotation.__args__)
    kinds = {"dict": "JSON", "SecretStr": "secret", "Path": "folder", "int": "whole number", "float": "number"}
    return next((kind for part, kind in kinds.items() if part in text), "text")


def _default_of_setting(field: Any) -> str:
    default = field.get_default(call_default_factory=True)
    return f"`{default}`" if default not in (None, {}) else ""


def commands() -> str:
    """Write the reference of the command line."""
    import typer

    from mlops_core.cli.app import app

    lines = [
        "# The command line",
        _NOTE,
        "Commands that ask or steer talk to a running controller: the one of the data folder (`HEADRACE_DATA`), else",
        "the one at `HEADRACE_BASE_URL`. Exit code 0 is good, 1 an error with its sentence, 2 a wrong call.",
        "",
    ]
    _tell_command(typer.main.get_command(app), "headrace", lines)
    return "\n".join(lines)


def _tell_command(command: Any, name: str, lines: list[str]) -> None:
    subcommands = getattr(command, "commands", None)
    if subcommands:
        for subname, subcommand in sorted(subcommands.items()):
            _tell_command(subcommand, f"{name} {subname}", lines)
        return
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    words = [str(each.name).upper() if each.required else f"[{str(each.name).upper()}]" for each in arguments]
    usage = " ".join([name, *(["[OPTIONS]"] if options else []), *words])
    lines.extend([f"## {name}", "", str(command.help or "").strip(), "", "```", usage, "```", ""])
    rows = [f"| `{str(each.name).upper()}` | {each.help or ''} |" for each in arguments]
    for each in options:
        names = ", ".join(f"`{option}`" for option in [*each.opts, *each.secondary_opts])
        rows += [] if "--help" in names else [f"| {names} | {each.help or ''} |"]
    if rows:
        lines.extend(["| argument or option | meaning |", "| --- | --- |", *rows, ""])


def routes() -> str:
    """Write the reference of the functions: HTTP routes, events, queue, timers."""
    import function_app

    lines = [
        "# HTTP and events",
        _NOTE,
        "The functions that `function_app.py` registers. Every error is JSON: `error` says what happened, to which thing,",
        "and what to do. Status 400: not understood; 401: not proven who; 404: not there; 409: refused in this state;",
        "413: too large; 503 with `Retry-After`: repeat.",
        "",
        "| method and route | key | what it does |",
        "| --- | --- | --- |",
    ]
    others = []
    for function in function_app.app.get_functions():
        trigger = function.get_trigger().get_dict_repr()
        meaning = (function.get_user_function().__doc__ or "").strip()
        kind = trigger["type"]
        if kind == "httpTrigger":
            methods = "/".join(_word(method) for method in trigger["methods"])
            key = "none" if _word(trigger["authLevel"]).lower() == "anonymous" else "function key"
            lines.append(f"| `{methods} /api/{trigger['route']}` | {key} | {meaning} |")
        else:
            detail = trigger.get("schedule") or trigger.get("queueName") or ""
            others.append(f"| `{function.get_function_name()}` | {kind} {detail} | {meaning} |")
    return "\n".join([*lines, "", "| function | trigger | what it does |", "| --- | --- | --- |", *others, ""])


def _word(value: Any) -> str:
    return str(getattr(value, "value", value))


PAGES = {
    "states.md": states,
    "mlops-yaml.md": manifest,
    "settings.md": settings,
    "cli.md": commands,
    "http-api.md": routes,
}


def main() -> None:
    """Write every page."""
    for name, write in PAGES.items():
        (ROOT / "docs" / name).write_text(write(), encoding="utf-8")


if __name__ == "__main__":
    main()
