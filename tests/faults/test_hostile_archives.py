"""Test 22: hostile archives, trees, YAML and JSON write nothing outside, and stay under 512 MB and 10 s."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hostile_archives import harmless_tars, refused_tars, refused_trees, refused_zips
from hostile_documents import harmless_json, json_bombs, yaml_bombs
from repositories import raw_repository

CHILD = Path(__file__).with_name("hostile_child.py")

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Bench:
    """A folder of cases, and one outside that nothing may be written to."""

    folder: Path

    @property
    def outside(self) -> Path:
        return self.folder / "outside"

    def add(self, kind: str, cases: Iterable[tuple[str, bytes | str]]) -> set[str]:
        """Write cases; returns their names."""
        names = set()
        for name, content in cases:
            raw = content.encode() if isinstance(content, str) else content
            (self.folder / "cases" / f"{kind}.{name}").write_bytes(raw)
            names.add(f"{kind}.{name}")
        return names

    def judge(self) -> dict[str, str]:
        """Let the readers have all cases; returns what became of each, once the limits were seen to be kept."""
        before = self._files()
        command = [sys.executable, str(CHILD), str(self.folder / "cases")]
        done = subprocess.run(command, cwd=self.folder / "home", capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr
        results = [json.loads(line) for line in done.stdout.splitlines()]
        assert self._files() == before
        assert {one["name"]: one for one in results if one["seconds"] >= 10 or one["megabytes"] >= 512} == {}
        return {one["name"]: one["outcome"] for one in results}

    def _files(self) -> dict[str, bytes | None]:
        """Everything but what was unpacked into its own place."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            if path.is_file() and path.stat().st_size < 99
            else None
            for path in self.folder.rglob("*")
            if "into" not in path.relative_to(self.folder).parts[:1] and "trees.git" not in path.parts
        }

    def unpacked(self) -> list[Path]:
        """What was written, and where it may be."""
        return list((self.folder / "into").rglob("*"))


@pytest.fixture
def hostile(tmp_path: Path) -> Bench:
    for name in ("cases", "outside", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "outside" / "kept").write_text("as it was")
    return Bench(tmp_path)


def not_refused(outcomes: dict[str, str], names: set[str]) -> dict[str, str]:
    return {name: outcomes[name] for name in names if not outcomes[name].startswith("refused: ")}


def test_hostile_archives_are_refused_and_odd_ones_stay_in_their_folder(hostile: Bench) -> None:
    refused = hostile.add("tar", refused_tars(hostile.outside)) | hostile.add("zip", refused_zips(hostile.outside))
    odd = hostile.add("tar", harmless_tars())
    outcomes = hostile.judge()

    assert len(refused | odd) >= 50
    assert not_refused(outcomes, refused) == {}
    assert {name: outcomes[name] for name in odd if not outcomes[name].startswith(("taken", "refused: "))} == {}
    assert [path for path in hostile.unpacked() if path.is_symlink() or not (path.is_file() or path.is_dir())] == []
    assert [path for path in hostile.unpacked() if path.stat().st_mode & 0o7000] == []


def test_hostile_trees_are_refused(hostile: Bench) -> None:
    repository = raw_repository(hostile.folder / "trees.git")
    refused = hostile.add("tree", refused_trees(repository, hostile.outside))
    outcomes = hostile.judge()

    assert len(refused) >= 20
    assert not_refused(outcomes, refused) == {}
    assert [path for path in hostile.unpacked() if path.is_file()] == []


def test_yaml_and_json_bombs_are_refused(hostile: Bench) -> None:
    refused = hostile.add("webhook", json_bombs())
    for reader in ("manifest", "pipeline"):
        refused |= hostile.add(reader, yaml_bombs())
    odd = hostile.add("webhook", ((f"odd-{name}", content) for name, content in harmless_json()))
    outcomes = hostile.judge()

    assert len(refused) >= 30
    assert not_refused(outcomes, refused) == {}
    assert {name: outcomes[name] for name in odd if not outcomes[name].startswith(("taken", "refused: "))} == {}
    assert not Path("/tmp/evil").exists()
