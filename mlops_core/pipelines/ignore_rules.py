"""
What of a code folder Azure ML does not upload: the patterns of its `.amlignore`, else of its `.gitignore`.

They are git's, with one difference that azure-ai-ml makes: each file is judged by itself and the last pattern that fits
it decides, so that `!keep.csv` brings back a file of an ignored folder too. A test compares with azure-ai-ml's own reading,
whose import costs seconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FILES = (".amlignore", ".gitignore")


@dataclass(frozen=True)
class IgnoreRules:
    """Patterns in the order of the file, each with whether it ignores or brings back."""

    rules: tuple[tuple[re.Pattern[str], bool], ...] = ()

    @classmethod
    def of_folder(cls, folder: Path) -> IgnoreRules:
        """Read the rules that a folder has; none where it has neither file."""
        for name in _FILES:
            file = folder / name
            if file.is_file():
                lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
                return cls(tuple(rule for rule in map(_rule, lines) if rule is not None))
        return cls()

    @property
    def brings_back(self) -> bool:
        """Whether some file of an ignored folder may be wanted all the same."""
        return any(not ignores for _, ignores in self.rules)

    def ignores(self, path: str) -> bool:
        """
        Tell whether a file is left out.

        Args:
            path: POSIX, relative to the folder. Of a folder, the answer holds for all in it unless `brings_back`.
        """
        ignored = False
        for pattern, ignores in self.rules:
            if pattern.fullmatch(path):
                ignored = ignores
        return ignored


def _rule(line: str) -> tuple[re.Pattern[str], bool] | None:
    text = line.rstrip()
    ignores = not text.startswith("!")
    if not ignores:
        text = text[1:]
    if not text.strip("/") or (ignores and text.startswith("#")):
        return None
    parts = text.split("/")
    if parts[0] == "":
        parts = parts[1:]
    elif len(parts) == 1 or (len(parts) == 2 and parts[1] == ""):  # noqa: PLR2004 - a name, or a name and a slash
        parts = ["**", *parts]
    if parts[-1] == "":
        parts[-1] = "**"
    return re.compile(_expression(parts), re.DOTALL), ignores


def _expression(parts: list[str]) -> str:
    """Write the expression of a pattern's parts: a folder that fits stands for all that is in it."""
    last, text, slash = len(parts) - 1, "", False
    for index, part in enumerate(parts):
        if part == "**":
            if index == last:
                text += "/.+" if index else ".+"
            else:
                text += "(?:/.+)?" if index else "(?:.+/)?"
                slash = bool(index)
            continue
        text += ("/" if slash else "") + _glob(part)
        slash = True
        if index == last:
            text += "(?:/.*)?"
    return text


def _glob(part: str) -> str:
    text, index = "", 0
    while index < len(part):
        letter = part[index]
        end = part.find("]", index + 2) if letter == "[" else -1
        if letter == "\\" and index + 1 < len(part):
            index += 1
            text += re.escape(part[index])
        elif letter in "*?":
            text += "[^/]*" if letter == "*" else "[^/]"
        elif end > 0:
            inner = part[index + 1 : end].replace("\\", "\\\\")
            text += f"[^{inner[1:]}]" if inner[0] in "!^" else f"[{inner}]"
            index = end
        else:
            text += re.escape(letter)
        index += 1
    # A lone `*` stands for a name, not for none.
    return "[^/]+" if part == "*" else text
