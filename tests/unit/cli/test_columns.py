"""How lists and stories fit a terminal: what a person copies is whole at any width."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from rich.text import Text

from mlops_core.cli.columns import Column, hanging, lay_out

COLUMNS = (
    Column("run"),
    Column("trigger", leave_out=2),
    Column("started", leave_out=1),
    Column("why", fit="cut"),
)
RUN = "taxi-0ebf053a1adf"
ROW = (RUN, "push main", "3 min 19 s ago", "gate 'rmse no worse than the champion's' failed: it is 0.9")


def shown(width: int | None) -> list[str]:
    return [line.plain for line in lay_out(COLUMNS, [ROW], width)]


def test_a_wide_terminal_shows_all() -> None:
    assert shown(200)[1] == f"{RUN}  push main  3 min 19 s ago  {ROW[3]}"
    assert shown(None) == shown(200)


@pytest.mark.parametrize(
    ("width", "headings"),
    [(90, "run trigger started why"), (69, "run started why"), (58, "run why"), (30, "run why"), (10, "run why")],
)
def test_columns_are_left_out_one_by_one_and_the_id_stays_whole(width: int, headings: str) -> None:
    head, row = shown(width)

    assert head.split() == headings.split()
    assert row.startswith(RUN + "  ")


@pytest.mark.parametrize("width", [90, 69, 58, 44, 30])
def test_no_line_is_longer_than_the_terminal_or_ends_in_spaces(width: int) -> None:
    for line in shown(width):
        assert cell_len(line) <= width
        assert line == line.rstrip()


def test_wide_letters_count_as_two_cells() -> None:
    head, row = (line.plain for line in lay_out((Column("模型"), Column("v")), [("日本語", "1")], 40))

    assert head == "模型    v"
    assert row == "日本語  1"


def test_a_text_of_several_lines_is_a_row_of_its_first() -> None:
    assert [line.plain for line in lay_out((Column("why", fit="cut"),), [("one\ntwo",)], None)] == ["why", "one"]


def test_a_paragraph_hangs_under_its_beginning() -> None:
    lines = [line.plain for line in hanging(Text("12:00  live  "), Text("version 1 has all the traffic there is"), 40)]

    assert lines == ["12:00  live  version 1 has all the", "             traffic there is"]


def test_without_room_a_paragraph_goes_on_further_left() -> None:
    lines = [line.plain for line in hanging(Text("12:00  awaiting_approval  "), Text("a person must approve"), 36)]

    assert lines == ["12:00  awaiting_approval  a person", "    must approve"]


def test_a_word_that_is_longer_than_the_line_stays_whole() -> None:
    address = "http://127.0.0.1:7071/api/models/taxi-model/score"

    assert address in [line.plain.strip() for line in hanging(Text("at "), Text(f"see {address}"), 30)]


def test_a_paragraph_for_a_program_is_broken_only_where_it_breaks_itself() -> None:
    lines = [line.plain for line in hanging(Text("x "), Text("word " * 60 + "\nnext"), None)]

    assert len(lines) == 2
    assert lines[1] == "  next"
