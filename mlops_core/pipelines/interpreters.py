"""Find a Python interpreter of a wanted version on this machine, and say how to get one that is missing."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlops_core.domain.errors import PermanentError

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

_MINORS = range(14, 6, -1)


@dataclass(frozen=True)
class Interpreter:
    """A Python on this machine, of version `3.N`."""

    path: str
    version: str


class PythonMissingError(PermanentError):
    """No interpreter of the wanted version is installed."""

    def __init__(self, environment: str, wanted: str, found: list[str]) -> None:
        super().__init__(
            f"Environment '{environment}' asks for Python {wanted}; installed here: {', '.join(found) or 'none'}. "
            f"Install it (pyenv install {wanted}, or your system's package), or set 'local: {{python: nearest}}' in "
            "mlops.yaml."
        )
        self.environment = environment
        self.wanted = wanted


def find_interpreter(
    environment: str, wanted: str | None, policy: Literal["exact", "nearest"]
) -> tuple[Interpreter, str | None]:
    """
    Choose an interpreter.

    Args:
        wanted: A version such as `3.10`, of which each patch will do, or a range such as `>=3.11,<3.14`; None: any.
    Returns: The interpreter, and a note where it is not of the wanted version.
    Raises: PythonMissingError: There is none, and the policy does not allow another.
    """
    own = Interpreter(sys.executable, f"{sys.version_info.major}.{sys.version_info.minor}")
    if wanted is None:
        return own, None
    known = [own, *(each for each in installed() if each.version != own.version)]
    matching = [each for each in known if _matches(each.version, wanted)]
    if matching:
        return matching[0], None
    if policy == "exact":
        raise PythonMissingError(environment, wanted, [each.version for each in known])
    nearest = min(known, key=lambda each: _distance(each.version, wanted))
    note = f"Python {wanted} is not installed; Python {nearest.version} is used instead (local: {{python: nearest}})."
    return nearest, note


def installed() -> Iterator[Interpreter]:
    """Find the interpreters of this machine, newest first."""
    for minor in _MINORS:
        path = shutil.which(f"python3.{minor}")
        # A shim of pyenv stands for versions that may not be selected, so it is not taken for an interpreter.
        if path and "/shims/" not in path:
            yield Interpreter(path, f"3.{minor}")
            continue
        for folder in sorted(Path("~/.pyenv/versions").expanduser().glob(f"3.{minor}.*"), reverse=True):
            candidate = folder / "bin" / f"python3.{minor}"
            if candidate.exists():
                yield Interpreter(str(candidate), f"3.{minor}")
                break


def _matches(version: str, wanted: str) -> bool:
    from packaging.specifiers import InvalidSpecifier
    from packaging.version import Version

    try:
        return Version(f"{version}.999") in _specifiers(wanted)
    except InvalidSpecifier:
        return False


def _specifiers(wanted: str) -> SpecifierSet:
    from packaging.specifiers import SpecifierSet

    text = wanted.strip()
    if text[:1].isdigit():
        return SpecifierSet(f"=={'.'.join(text.split('.')[:2])}.*")
    return SpecifierSet(text)


def _distance(version: str, wanted: str) -> tuple[int, int]:
    digits = "".join(letter if letter.isdigit() or letter == "." else " " for letter in wanted).split()
    minor = int(digits[0].split(".")[1]) if digits and "." in digits[0] else 0
    gap = int(version.split(".")[1]) - minor
    # A newer one first: old code runs on a newer Python more often than the other way round.
    return abs(gap), 0 if gap > 0 else 1
