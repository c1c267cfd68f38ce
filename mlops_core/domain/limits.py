"""
How large anything may become that is stored with a run: the limits of Azure Table storage, kept on every backend.

Texts that people write or jobs leave behind are cut where they come in; what cannot be cut is refused with a sentence
before the store would refuse it. Stores call `checked_row` for each row that they write.
"""

from __future__ import annotations

from mlops_core.domain.errors import TooLargeError

# Table storage: an entity has at most 1 MiB, a text property 64 KiB, both in UTF-16.
# https://learn.microsoft.com/azure/storage/tables/scalability-targets
ROW_BYTES = 1_048_576
TEXT_LETTERS = 32_768
# What a row has besides its JSON: keys, index columns, names of properties.
_OTHER_BYTES = 65_536
_BYTES_PER_UNIT = 2

REASON_LETTERS = 2_000
NAME_LETTERS = 1_024
LOG_LETTERS = 8_000
MANIFEST_BYTES = 32_768
# A gate with `by` gives one verdict per segment; each is shown to a person.
VERDICTS = 100
VERDICT_LETTERS = 500
CHANGED_FILES = 1_000
CHANGED_LETTERS = 30_000


def cut(text: str, letters: int = REASON_LETTERS) -> str:
    """Shorten a text for people to at most so many letters, with a mark that something is missing."""
    return text if len(text) <= letters else f"{text[: letters - 4]} ..."


def text_units(text: str) -> int:
    """Count UTF-16 code units, in which Table storage measures."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // _BYTES_PER_UNIT


def checked_row(record_id: str, body: str) -> str:
    """
    Let a row's JSON pass that every store can hold; a store that limits its properties keeps it in `pieces`.

    Raises: TooLargeError: It is too large for one row.
    """
    size, limit = text_units(body) * _BYTES_PER_UNIT, ROW_BYTES - _OTHER_BYTES
    if size > limit:
        raise TooLargeError(
            f"What is to be stored of '{record_id}' has {size} bytes; at most {limit} fit. Shorten mlops.yaml or its "
            "gates; after very many replays of one run, start a new one: headrace retrain."
        )
    return body


def pieces(text: str) -> list[str]:
    """Divide a text into pieces that fit a text property each; joined they are the text again."""
    # A letter outside of the basic plane counts twice, so ascii-only JSON gets larger pieces.
    step = TEXT_LETTERS if text.isascii() else TEXT_LETTERS // 2
    return [text[start : start + step] for start in range(0, len(text), step)]
