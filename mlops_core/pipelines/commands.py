"""
Fill in a step's command line: `${{inputs.x}}`, `${{outputs.x}}`, `${{search_space.x}}`, and optional parts `$[[...]]`.

An optional part whose inputs are not given is left out; an optional part that names nothing optional stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mlops_core.domain.errors import BadInputError

_PLACEHOLDER = re.compile(r"\$\{\{\s*(inputs|outputs|search_space)\.([\w.-]+?)(?:\.path)?\s*\}\}")
_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)


def fill_in(
    template: str, *, inputs: Mapping[str, str | None], outputs: Mapping[str, str], search_space: Mapping[str, str]
) -> str:
    """
    Fill in a template.

    Args:
        inputs: Text of each input; None for an optional one that was not given.
    Raises: BadInputError: A placeholder names something that is not there.
    """
    known: dict[str, Mapping[str, str | None]] = {
        "inputs": {**inputs, **search_space},
        "outputs": outputs,
        "search_space": search_space,
    }

    def value(match: re.Match[str]) -> str:
        kind, name = match[1], match[2]
        found = known[kind].get(name)
        if found is None:
            raise BadInputError(f"'{match[0]}' in the command '{template[:80]}' has no value. Give it, or declare it.")
        return found

    def optional(match: re.Match[str]) -> str:
        named = [(kind, name) for kind, name in _PLACEHOLDER.findall(match[1])]
        missing = any(known[kind].get(name) is None for kind, name in named)
        return "" if missing else match[1]

    return _PLACEHOLDER.sub(value, _OPTIONAL.sub(optional, template))
