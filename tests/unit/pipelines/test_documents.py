"""YAML files with lines, and what is refused before anything is made of them."""

from pathlib import Path
from typing import Any

import pytest

from mlops_core.pipelines.documents import DocumentError, Reader, parse


def test_each_key_knows_its_line() -> None:
    _, lines = parse(b"a:\n  b: 1\n  c:\n    - x\n    - y\n", "f.yml")
    assert (lines[("a", "b")], lines[("a", "c", 1)]) == (2, 5)


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"a: 1\nb: 2\na: 3\n", 3, "there twice, first in line 1"),
        (b"a: [1\nb: 2\n", 2, "not YAML"),
        (b"- a\n", 1, "must be a mapping"),
        (b"", 1, "empty"),
        (b"a: \xff\n", None, "not UTF-8"),
        (b"x: 2026-99-99\n", None, "not YAML"),
        (b"a: " + b"[" * 60 + b"]" * 60, 1, "levels"),
        (b"a: " + b"x" * 1_000_001, None, "bytes"),
    ],
    ids=["doubled key", "syntax", "list", "empty", "encoding", "date", "depth", "size"],
)
def test_a_file_that_cannot_be_read_says_where_and_why(content: Any, line: Any, words: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(content, "f.yml")
    assert caught.value.problem.line == line
    assert words in caught.value.problem.message


def test_aliases_are_taken_but_not_those_that_grow_without_end() -> None:
    assert parse(b"a: &x {k: 1}\nb:\n  <<: *x\n", "f.yml")[0]["b"] == {"k": 1}
    bomb = b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    bomb += b"".join(b"a%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 9))
    with pytest.raises(DocumentError, match="expands"):
        parse(bomb, "f.yml")


def test_paths_are_written_relative_to_the_root_where_they_lie_in_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    reader = Reader(root)
    assert reader.portable(root / "a" / ".." / "b") == "b"
    assert reader.portable(tmp_path / "c") == str(tmp_path / "c")
