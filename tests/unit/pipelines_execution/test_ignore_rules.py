"""What a code folder leaves out, pattern by pattern, and the same as azure-ai-ml reads it."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from mlops_core.pipelines.ignore_rules import IgnoreRules
from mlops_core.pipelines.step_files import code_files

PATHS = (
    "a.csv", "data/a.csv", "data/keep.csv", "data/deep/a.csv", "src/train.py", "src/data/x.py", "build/x.o", "src/build/x.o",
    "notes.txt", "docs/a.md", "docs/deep/b.md", "#odd", "!odd", "a b.txt", "x1.log", "x22.log", "logs/2026/05/x.log",
)  # fmt: skip
CASES = {
    "*.csv": {"a.csv", "data/a.csv", "data/keep.csv", "data/deep/a.csv"},
    "/*.csv": {"a.csv"},
    "data": {"data/a.csv", "data/keep.csv", "data/deep/a.csv", "src/data/x.py"},
    "data/": {"data/a.csv", "data/keep.csv", "data/deep/a.csv", "src/data/x.py"},
    "/data": {"data/a.csv", "data/keep.csv", "data/deep/a.csv"},
    "data/*": {"data/a.csv", "data/keep.csv", "data/deep/a.csv"},
    "docs/*.md": {"docs/a.md"},
    "docs/**/*.md": {"docs/a.md", "docs/deep/b.md"},
    "**/build": {"build/x.o", "src/build/x.o"},
    "logs/**": {"logs/2026/05/x.log"},
    "logs/**/x.log": {"logs/2026/05/x.log"},
    "x?.log": {"x1.log"},
    "x[0-9]*.log": {"x1.log", "x22.log"},
    "x[!1]*.log": {"x22.log"},
    "a b.txt": {"a b.txt"},
    "*.csv\n!data/keep.csv": {"a.csv", "data/a.csv", "data/deep/a.csv"},
    "data\n!keep.csv": {"data/a.csv", "data/deep/a.csv", "src/data/x.py"},
    "*\n!src/**": set(PATHS) - {"src/train.py", "src/data/x.py", "src/build/x.o"},
    "\\#odd\n\\!odd": {"#odd", "!odd"},
    "# *\n\n/": set(),
}


@pytest.mark.parametrize(("text", "ignored"), CASES.items(), ids=[text.replace("\n", " then ") for text in CASES])
def test_a_pattern_means_what_it_means_to_git(text: str, ignored: set[str], tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text(text)
    rules = IgnoreRules.of_folder(tmp_path)

    assert {path for path in PATHS if rules.ignores(path)} == ignored


@pytest.mark.slow  # imports azure-ai-ml
def test_azure_ml_leaves_out_the_same(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from azure.ai.ml._utils._asset_utils import get_ignore_file

    for number, text in enumerate(CASES):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / ".amlignore").write_text(text)
        theirs, ours = get_ignore_file(folder), IgnoreRules.of_folder(folder)
        seen = {path for path in PATHS if theirs.is_file_excluded(folder / path)}
        assert {path for path in PATHS if ours.ignores(path)} == seen, text


def test_the_amlignore_counts_and_not_the_gitignore_beside_it(tmp_path: Path) -> None:
    for name, text in ((".amlignore", "*.log\n"), (".gitignore", "*.py\n"), ("a.py", ""), ("a.log", "")):
        (tmp_path / name).write_text(text)

    assert [path.name for path in code_files(tmp_path)] == [".amlignore", ".gitignore", "a.py"]


def test_a_file_of_an_ignored_folder_that_is_brought_back_is_found(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, text in ((".gitignore", "data\n!data/keep.csv\n"), ("data/big.csv", ""), ("data/keep.csv", "")):
        (tmp_path / name).write_text(text)

    assert [path.name for path in code_files(tmp_path)] == [".gitignore", "keep.csv"]
