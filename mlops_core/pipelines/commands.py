"""
Fill in a step's command line: `${{inputs.x}}`, `${{outputs.x}}`, `${{search_space.x}}`, and optional parts `$[[...]]`.

An optional part whose inputs are not given is left out; an optional part that names nothing optional stays.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

from mlops_core.domain.errors import BadInputError

_PLACEHOLDER = re.compile(r"\$\{\{\s*(inputs|outputs|search_space)\.([\w.-]+?)(?:\.path)?\s*\}\}")
_UNSAFE = re.compile(r"[^\w@%+=:,./-]")
_UNSAFE_IN_DOUBLE_QUOTES = re.compile(r'["\\$`]')
_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)


def fill_in(
    template: str,
    *,
    inputs: Mapping[str, str | None],
    outputs: Mapping[str, str],
    search_space: Mapping[str, str],
    paths: Container[str] = (),
) -> str:
    """
    Fill in a template.

    Args:
        inputs: Text of each input; None for an optional one that was not given.
        paths: Those texts that are paths, where the template is for a shell: each stays one word, whatever is in it. On
            Azure ML no path has a blank, so commands do not quote them; on a laptop the user's home may have one.
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
        return _one_word(found, match.string[: match.start()]) if found in paths else found

    def optional(match: re.Match[str]) -> str:
        named = [(kind, name) for kind, name in _PLACEHOLDER.findall(match[1])]
        missing = any(known[kind].get(name) is None for kind, name in named)
        return "" if missing else match[1]

    return _PLACEHOLDER.sub(value, _OPTIONAL.sub(optional, template))


def _one_word(path: str, before: str) -> str:
    """Write a path so that the shell takes it as it is, within the quotes that are open where it stands."""
    quote = _open_quote(before)
    if quote == "'":
        return path.replace("'", "'\\''")
    unsafe = _UNSAFE_IN_DOUBLE_QUOTES if quote == '"' else _UNSAFE
    return unsafe.sub(r"\\\g<0>", path)


def _open_quote(before: str) -> str:
    """Find which quote of a shell is open at the end of a text, if any."""
    quote, escaped = "", False
    for letter in before:
        if escaped:
            escaped = False
        elif letter == "\\" and quote != "'":
            escaped = True
        elif letter == quote:
            quote = ""
        elif letter in "'\"" and not quote:
            quote = letter
    return quote
