"""
Checks of what a step runs: its command and its code; and of the pipeline's order.

The wiring checks inputs and outputs, `known_keys` the spelling of keys, the resolvers data and environments. All of
them are stricter than azure-ai-ml's own, which passes misspelt keys and missing files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from mlops_core.pipelines.documents import Document, KeyPath, Reader
from mlops_core.pipelines.findings import Findings, did_you_mean
from mlops_core.pipelines.plan import Step, StepInput, StepOutputSource
from mlops_core.pipelines.references import LocalReference, parse_reference
from mlops_core.pipelines.source_tree import StepSource

_PLACEHOLDER = re.compile(r"\$\{\{\s*(?P<section>[\w-]+)\.(?P<name>[\w.-]+)\s*\}\}")
_OPTIONAL_PART = re.compile(r"\$\[\[.*?\]\](?!\])", re.DOTALL)


def check_command(
    step: StepSource, inputs: Mapping[str, StepInput], outputs: Mapping[str, object], findings: Findings
) -> None:
    """Find a missing command, placeholders that nothing fills, and missing inputs that the command cannot leave out."""
    component = step.component
    if component is None:
        return
    command, key = component.data.get("command"), (*component.at, "command")
    if not isinstance(command, str) or not command.strip():
        findings.problem(component.document, key, "there is no command. Write what the step runs.", step=step.name)
        return
    search_space = step.section("search_space")
    known: dict[str, Sequence[str]] = {
        "inputs": [*component.section("inputs"), *search_space],
        "outputs": list(outputs),
        "search_space": list(search_space),
    }
    for match in _PLACEHOLDER.finditer(command):
        section, name = match["section"], match["name"]
        if section not in known:
            message = (
                f"'{match[0]}' is no placeholder of a command. Write inputs, outputs or search_space before the dot."
            )
            findings.problem(component.document, key, message, step=step.name)
        elif name not in known[section]:
            what = section.replace("search_space", "search space")
            advice = did_you_mean(name, known[section], what=what)
            message = f"the command has '{match[0]}', and there is no such entry under {section}. {advice}"
            findings.problem(component.document, key, message, step=step.name)
    _check_left_out(step, command, inputs, findings, component.document, key)
    _check_search_space(step, command, findings)


def check_code(step: StepSource, reader: Reader, findings: Findings) -> str | None:
    """Find the folder or file of a step's code; None where it has none, or where a finding says why not."""
    component = step.component
    if component is None:
        return None
    if component.data.get("additional_includes"):
        key = (*component.at, "additional_includes")
        message = "it has additional_includes, which this version does not copy. Put those files into the code folder."
        findings.refuse(component.document, key, message, step=step.name)
    # A node that runs a component has no code of its own.
    code = component.data.get("code")
    if code is None:
        return None
    key = (*component.at, "code")
    reference = parse_reference(str(code))
    if not isinstance(reference, LocalReference):
        message = f"its code '{code}' is not on this machine. Put the code into the repository and name its folder."
        findings.refuse(component.document, key, message, step=step.name)
        return None
    path = component.document.folder / reference.text
    if not reader.exists(path):
        message = f"the code '{code}' does not exist ({reader.shown(path)}). Correct the path."
        findings.problem(component.document, key, message, step=step.name)
        return None
    return reader.portable(path)


def order_of(step_inputs: Mapping[str, Mapping[str, StepInput]]) -> tuple[str, ...]:
    """
    Give the steps so that each comes after those whose outputs it reads, else in the order of the file.

    Raises:
        CycleError: Steps wait for each other; its second argument lists them.
    """
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for name, inputs in step_inputs.items():
        # A step that was refused is not among them.
        sorter.add(name, *(step for step in dependencies(inputs) if step in step_inputs))
    sorter.prepare()
    place = {name: index for index, name in enumerate(step_inputs)}
    ordered: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=lambda name: place[name])
        ordered.extend(ready)
        sorter.done(*ready)
    return tuple(ordered)


def check_order(step_inputs: Mapping[str, Mapping[str, StepInput]], document: Document, findings: Findings) -> None:
    """Find steps that wait for each other."""
    try:
        order_of(step_inputs)
    except CycleError as error:
        # The list starts and ends with the same step.
        chain = " -> ".join(reversed(error.args[1]))
        message = f"these steps wait for each other: {chain}. Remove one of the bindings."
        findings.problem(document, ("jobs",), message)


def dependencies(inputs: Mapping[str, StepInput]) -> tuple[str, ...]:
    """Give the steps whose outputs are read, sorted."""
    found = {given.source.step for given in inputs.values() if isinstance(given.source, StepOutputSource)}
    return tuple(sorted(found))


def notes_of_resources(step: Step) -> tuple[str, ...]:
    """Say what a step asks for and does not get here."""
    notes = []
    if step.instance_count > 1:
        notes.append(f"The step asks for {step.instance_count} instances; here it runs as one.")
    if step.distribution is not None and step.distribution.process_count > 1:
        notes.append(f"The step asks for {step.distribution.process_count} processes per instance; here it has one.")
    return tuple(notes)


def _check_left_out(
    step: StepSource,
    command: str,
    inputs: Mapping[str, StepInput],
    findings: Findings,
    document: Document,
    key: KeyPath,
) -> None:
    always = _OPTIONAL_PART.sub("", command)
    for match in _PLACEHOLDER.finditer(always):
        given = inputs.get(match["name"]) if match["section"] == "inputs" else None
        if given is not None and given.source is None:
            message = f"'{match[0]}' is optional and not given. Put it into '$[[...]]', or give it a value."
            findings.problem(document, key, message, step=step.name)


def _check_search_space(step: StepSource, command: str, findings: Findings) -> None:
    used = {match["name"] for match in _PLACEHOLDER.finditer(command) if match["section"] in {"search_space", "inputs"}}
    for name in step.section("search_space"):
        if name not in used:
            message = (
                f"the command does not use '{name}'. Write '${{{{search_space.{name}}}}}' where its value belongs."
            )
            findings.problem(step.document, (*step.at, "search_space", name), message, step=step.name)
