"""
Say in people's words what is wrong with a value of `mlops.yaml`.

Called by `manifest.py` for each of pydantic's findings. These speak of tuples, models and patterns, which whoever
writes YAML never heard of; each kind that can occur has its own sentence here, and a test holds that none is left.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from mlops_core.domain.project import ProjectSpec

Location = tuple[str | int, ...]
Detail = Mapping[str, Any]

# Sections that the design names and this version does not act on; silence about them would be a lie.
_NOT_YET = {
    "monitor": "watching live predictions",
    "batch": "batch scoring",
    "notify": "notifications",
    "schedule": "retraining on a schedule",
    "new_data": "retraining on new data",
    "canary": "shifting traffic step by step",
    "holdout": "comparing on a holdout",
    "data_gates": "gates on the training data",
    "retrain": "the retraining policy",
}


def sentence(detail: Detail, location: Location) -> str:
    """
    Say one finding of pydantic: what the value must be, and what it is.

    Args:
        location: Where it is, without the members of a union.
    """
    say = _SENTENCES.get(str(detail["type"]))
    if say is not None:
        return say(detail, location)
    text = str(detail["msg"]).removeprefix("Value error, ").rstrip(".")
    return f"{text[:1].lower() + text[1:] if not text.startswith(chr(39)) else text}."


def without_echoes(details: Sequence[Detail]) -> list[Detail]:
    """
    Leave out what only repeats another finding.

    A list whose item is wrong is told to be too short as well, since the item does not count; and a value that may be
    of several types is told once for each of them.
    """
    kept: list[Detail] = []
    seen: set[Location] = set()
    for detail in details:
        location = place_of(detail)
        inside = any(place_of(other)[: len(location)] == location for other in details if other is not detail)
        if (detail["type"] == "too_short" and inside) or (location in seen and _is_of_union(detail)):
            continue
        seen.add(location)
        kept.append(detail)
    return kept


def place_of(detail: Detail) -> Location:
    """Say where a finding is: pydantic names the member of a union and the key of a mapping as steps of their own."""
    location = tuple(detail["loc"])
    if location and (location[-1] == "[key]" or _is_of_union(detail)):
        location = location[:-1]
    return location


def _is_of_union(detail: Detail) -> bool:
    # Only `train.inputs` has values of several types.
    location = detail["loc"]
    return (
        location[-1:] != ("[key]",)
        and len(location) == len(("train", "inputs", "name", "type"))
        and location[:2] == ("train", "inputs")
    )


def _shown(detail: Detail) -> str:
    """Say what is there, and where YAML made something else of it than was meant, that too."""
    given = detail["input"]
    if given is None:
        return "it is empty"
    if isinstance(given, bool):
        return f"it is {str(given).lower()}; YAML reads yes, no, on and off so: put quotes around a word"
    if isinstance(given, date):
        return f"YAML reads {given} as a date: put quotes around it"
    if isinstance(given, (dict, list)):
        return f"it is a {'mapping' if isinstance(given, dict) else 'list'}"
    text = str(given)
    return f"it is '{text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + '...'}'"


_LONGEST_SHOWN = 80


def _must_be(what: str) -> Callable[[Detail, Location], str]:
    return lambda detail, _: f"it must be {what} ({_shown(detail)})."


def _text(detail: Detail, _: Location) -> str:
    if _is_of_union(detail):
        return f"it must be text, a number, or true or false ({_shown(detail)})."
    if detail["loc"][-1] == "[key]":
        return f"keys must be text ({_shown(detail)}). Put quotes around it."
    quotes = ""
    if isinstance(detail["input"], (int, float)) and not isinstance(detail["input"], bool):
        quotes = " Put quotes around it."
    return f"it must be text ({_shown(detail)}).{quotes}"


def _section(detail: Detail, location: Location) -> str:
    if detail["input"] is None:
        return "it is empty. Write its keys below it, indented, or remove it."
    known = ", ".join(_keys_at(location))
    return f"it must be a section with keys of its own ({_shown(detail)}). Known keys here: {known}."


def _one_of(detail: Detail, _: Location) -> str:
    expected = str(detail["ctx"]["expected"])
    return f"it must be {expected} ({_shown(detail)})."


def _in_range(word: str, limit: str) -> Callable[[Detail, Location], str]:
    return lambda detail, _: f"it must be {word} {detail['ctx'][limit]:g} ({_shown(detail)})."


def _unknown_key(_: Detail, location: Location) -> str:
    key = str(location[-1])
    if key in _NOT_YET:
        return f"{_NOT_YET[key]} is not part of this version of Headrace. Remove the key."
    known = _keys_at(location[:-1])
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if near:
        return f"unknown key '{key}'. Did you mean '{near[0]}'?"
    return f"unknown key '{key}'. Known keys here: {', '.join(known)}."


def _keys_at(location: Location) -> list[str]:
    kind: Any = ProjectSpec
    for step in location:
        if isinstance(kind, type) and issubclass(kind, BaseModel) and step in kind.model_fields:
            kind = _strip(kind.model_fields[str(step)].annotation)
        elif isinstance(step, int) and get_origin(kind) in (tuple, list):
            kind = _strip(get_args(kind)[0])
    return sorted(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _strip(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        return next(arg for arg in get_args(annotation) if arg is not type(None))
    return annotation


_A_LIST = _must_be("a list, such as [a, b]")
_A_NUMBER = _must_be("a number")
_A_WHOLE_NUMBER = _must_be("a whole number")
_SENTENCES: Mapping[str, Callable[[Detail, Location], str]] = {
    "extra_forbidden": _unknown_key,
    "missing": lambda _, __: "this key is required and missing.",
    "model_type": _section,
    "dict_type": _must_be("a mapping of names to values"),
    "tuple_type": _A_LIST,
    "too_short": lambda _, __: "the list is empty. Give at least one item, or remove the key.",
    "string_type": _text,
    "string_too_short": lambda _, __: "it is empty. Write something, or remove the key.",
    "literal_error": _one_of,
    "float_type": _A_NUMBER,
    "float_parsing": _A_NUMBER,
    "finite_number": _A_NUMBER,
    "int_type": _A_WHOLE_NUMBER,
    "int_parsing": _A_WHOLE_NUMBER,
    "int_from_float": _A_WHOLE_NUMBER,
    "int_parsing_size": _A_WHOLE_NUMBER,
    "bool_type": _text,
    "greater_than": _in_range("more than", "gt"),
    "greater_than_equal": _in_range("at least", "ge"),
    "less_than": _in_range("less than", "lt"),
    "less_than_equal": _in_range("at most", "le"),
    "invalid_key": lambda detail, _: f"keys must be text ({_shown(detail)}). Put quotes around it.",
}
