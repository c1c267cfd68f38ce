"""
Read hostile JSON: sizes, depth and types are checked, and refs, commits and names are what git allows.

They reach git and file names later, so nothing else is let through here.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from mlops_core.domain.errors import BadInputError, TooLargeError
from mlops_core.domain.ids import CommitId

log = logging.getLogger(__name__)

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# What git check-ref-format allows, without the rarer characters that no host lets a branch have.
_BRANCH = re.compile(
    r"refs/heads/(?![./-])(?!.*(?:\.\.|//|/\.|@\{|\.lock(?:/|$)))[^\x00-\x20\x7f~^:?*\[\\]{1,244}(?<![./])"
)
# Azure DevOps lets projects have letters of any script, blanks and some punctuation.
_REPOSITORY = re.compile(r"[\w.~][\w.~ &()+,'!@/-]{0,254}")
_DELIVERY = re.compile(r"[\x21-\x7e]{1,200}")
# GitHub lists no more commits of a push than this; with as many, some may be missing.
_MOST_COMMITS = 2_048
_MOST_FIELDS = 10
# More than clocks of servers differ by that are kept right.
_CLOCKS_DIFFER = timedelta(minutes=10)
# 25 MiB of `{"":0},` become 750 MiB of objects. The largest genuine push has 2,048 commits of three objects and three lists.
_MOST_SIGNS = {b"{": 100_000, b"[": 100_000, b",": 2_000_000}

Json = dict[str, Any]


def read_object(body: bytes, host: str) -> Json:
    """
    Read a JSON object.

    Raises:
        TooLargeError: It has so many values that they would fill the memory, whatever its bytes are.
        BadInputError: It is anything else, however malformed.
    """
    for sign, most in _MOST_SIGNS.items():
        if (count := body.count(sign)) > most:
            raise TooLargeError(f"The body has {count} times '{sign.decode()}'; at most {most} are taken of {host}.")
    try:
        data = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"The body is not the JSON that {host} sends: {str(error)[:200]}.") from None
    if not isinstance(data, dict):
        raise BadInputError(f"The body is not what {host} sends: it must be a JSON object.")
    return data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"'{name}' is no JSON")


def is_form(headers: Mapping[str, str]) -> bool:
    """Tell whether the body is a form with the JSON in a field."""
    return headers.get("content-type", "").partition(";")[0].strip().lower() == "application/x-www-form-urlencoded"


def form_payload(body: bytes, host: str) -> bytes:
    """Take the JSON out of a form's `payload` field. Raises BadInputError."""
    try:
        fields = parse_qs(body.decode("ascii"), errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise BadInputError(f"The body is not the form that {host} sends: {str(error)[:200]}.") from None
    values = fields.get("payload", [])
    if len(values) != 1:
        raise BadInputError(f"The body is not the form that {host} sends: it must have one field 'payload'.")
    return values[0].encode("utf-8")


def mapping_at(data: Mapping[str, Any], *path: str) -> Json:
    """Read a nested object. Raises BadInputError, naming the path."""
    value: Any = data
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, dict):
        raise BadInputError(f"The payload has no object at '{'.'.join(path)}'.")
    return value


def text_at(data: Mapping[str, Any], key: str) -> str:
    """Read a text. Raises BadInputError where it is missing, or is no text."""
    value = data.get(key)
    if not isinstance(value, str):
        raise BadInputError(f"The payload has no text at '{key}'.")
    return clean(value)


def nested_text(data: Mapping[str, Any], *path: str) -> str:
    """Read a text that only people read; what is missing or no text is empty, so that a push is not lost for it."""
    value: Any = data
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return clean(value) if isinstance(value, str) else ""


def clean(text: str) -> str:
    """Replace lone surrogates, which can neither be stored nor sent on."""
    return text.encode("utf-8", "replace").decode()


def delivery_of(headers: Mapping[str, str], name: str) -> str:
    """Read a delivery's id from its header; one that is missing or strange is empty: it is only for people who search."""
    value = headers.get(name, "")
    return value if _DELIVERY.fullmatch(value) else ""


def list_at(data: Mapping[str, Any], key: str) -> list[Json]:
    """Read a list of objects; what is missing is empty. Raises BadInputError for anything else."""
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadInputError(f"The payload has no list of objects at '{key}'.")
    return value


def commit_of(value: object, where: str) -> CommitId | None:
    """
    Read a commit id.

    Returns: None for the id of only zeros, with which hosts say that there is no commit.
    Raises: BadInputError: It is no id of 40 or 64 hexadecimal digits.
    """
    if not isinstance(value, str) or not _COMMIT.fullmatch(value.lower()):
        raise BadInputError(f"'{where}' is no commit id of 40 or 64 hexadecimal digits.")
    return None if set(value) == {"0"} else CommitId(value.lower())


def branch_ref(ref: str) -> str | None:
    """
    Check a full ref.

    Returns: None for what is no branch, such as a tag; and for a branch whose name could be taken for something else, such
        as `-x`. That is logged and no error: git lets people push it, and the delivery's other refs are none the worse.
    """
    if not ref.startswith("refs/heads/"):
        return None
    if not _BRANCH.fullmatch(ref):
        log.warning("a pushed ref was skipped: it is not the name of a branch", extra={"ref": ascii(ref[:200])})
        return None
    return ref


def repository_name(value: str) -> str:
    """Check a repository's name. Raises BadInputError."""
    if not _REPOSITORY.fullmatch(value) or ".." in value or "//" in value:
        raise BadInputError(f"{value[:100]!r} is not the name of a repository.")
    return value


def time_of(value: object, default: datetime) -> datetime:
    """
    Read a time as hosts write it: seconds since 1970, or ISO 8601.

    Args:
        default: When the delivery came. It counts instead of what is no time, and of a time long after it: a push with
            the date of a clock that runs ahead would stand before all later ones until that date.
    """
    try:
        moment = _moment(value)
        return default if moment is None or moment > default + _CLOCKS_DIFFER else moment
    except (ValueError, OverflowError, OSError):
        return default


def _moment(value: object) -> datetime | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC)
    if not isinstance(value, str):
        return None
    moment = datetime.fromisoformat(value)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def changed_files(commits: list[Json], *, complete: bool) -> tuple[str, ...] | None:
    """
    Collect the files that commits changed.

    Returns: None where they are not told completely, so that a path filter cannot skip a push wrongly.
    """
    if not complete or not commits or len(commits) >= _MOST_COMMITS:
        return None
    files: set[str] = set()
    for commit in commits:
        for key in ("added", "modified", "removed"):
            names = file_names(commit.get(key))
            if names is None:
                return None
            files.update(names)
    return tuple(sorted(files))


def file_names(value: object) -> tuple[str, ...] | None:
    """Read a list of file names; None for anything else."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return None
    return tuple(clean(name) for name in value)
