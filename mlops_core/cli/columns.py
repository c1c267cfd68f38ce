"""
Lay out text for a terminal of any width: what a person copies, such as an id or an address, is never cut.

Rich's own tables squeeze every column alike, until an id has no end. Here each column says what may become of it: shown
whole, left out on a narrow terminal, or cut at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.text import Text

_GAP = "  "
# Of what is cut, so much is left at least; narrower, other columns are left out first.
_LEAST = 24
_LEAST_OF_ALL = 10


@dataclass(frozen=True)
class Column:
    """
    How a column behaves.

    Attributes:
        leave_out: On a narrow terminal, columns with the highest number are left out first; 0 stays.
        fit: `whole`, or `cut` at its end where the line is full.
    """

    heading: str
    leave_out: int = 0
    fit: Literal["whole", "cut"] = "whole"


def lay_out(columns: Sequence[Column], rows: Iterable[Sequence[str | Text]], width: int | None) -> Iterator[Text]:
    """
    Give a heading and a line per row.

    Args:
        width: Of the terminal; None cuts and leaves out nothing.
    """
    cells = [[_one_line(cell) for cell in row] for row in rows]
    head = [Text(column.heading, style="dim") for column in columns]
    widths = [max(cell_len(row[number].plain) for row in [head, *cells]) for number in range(len(columns))]
    shown = list(range(len(columns)))
    while width is not None and _needed(columns, widths, shown) > width:
        spare = [number for number in shown if columns[number].leave_out]
        if not spare:
            break
        shown.remove(max(spare, key=lambda number: columns[number].leave_out))
    if width is not None:
        _cut(columns, widths, shown, width)
    for row in [head, *cells]:
        yield _line([_filled(row[number], widths[number]) for number in shown])


def _needed(columns: Sequence[Column], widths: Sequence[int], shown: Sequence[int]) -> int:
    least = [min(widths[number], _LEAST) if columns[number].fit == "cut" else widths[number] for number in shown]
    return sum(least) + len(_GAP) * (len(shown) - 1)


def _cut(columns: Sequence[Column], widths: list[int], shown: Sequence[int], width: int) -> None:
    for number in shown:
        too_much = sum(widths[each] for each in shown) + len(_GAP) * (len(shown) - 1) - width
        if columns[number].fit == "cut" and too_much > 0:
            widths[number] = max(widths[number] - too_much, min(widths[number], _LEAST_OF_ALL))


def _filled(cell: Text, width: int) -> Text:
    filled = cell.copy()
    filled.truncate(width, overflow="ellipsis", pad=True)
    return filled


def _line(cells: Sequence[Text]) -> Text:
    line = Text(_GAP).join(cells)
    line.rstrip()
    return line


def _one_line(cell: str | Text) -> Text:
    text = Text(cell) if isinstance(cell, str) else cell
    return text.split()[0] if "\n" in text.plain else text


def hanging(lead: Text, body: Text, width: int | None) -> Iterator[Text]:
    """
    Give a paragraph after a lead, its further lines indented to where it began, or a little where there is no room.

    Args:
        width: Of the terminal; None breaks lines only where the body does.
    """
    indent = cell_len(lead.plain)
    if width is None:
        lines = list(body.split())
    else:
        if width - indent < _LEAST:
            indent = min(indent, 4)
        lines = list(_wrapped(body, width - cell_len(lead.plain), width - indent))
    yield _line([lead + (lines[0] if lines else Text())])
    for line in lines[1:]:
        yield _line([Text(" " * indent) + line])


def _wrapped(body: Text, first: int, further: int) -> Iterator[Text]:
    """Break at spaces; a word that is longer than a line stays whole, so that it can be copied."""
    room = first
    for paragraph in body.split():
        line, used = Text(), 0
        for word in _words(paragraph):
            size = cell_len(word.plain)
            if used and used + 1 + size > room:
                yield line
                line, used, room = Text(), 0, further
            line = line + (Text(" ") if used else Text()) + word
            used += size + (1 if used else 0)
        yield line
        room = further


def _words(text: Text) -> list[Text]:
    return [word for word in text.split(" ") if word.plain]
