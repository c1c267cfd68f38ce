"""The tree digest: what changes it and what does not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mlops_core.serving.digest import UndigestibleError, tree_digest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "code").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "code" / "a.py").write_text("x = 1\n")
    return folder


def test_the_digest_follows_the_documented_rule(model: Path) -> None:
    lines = "".join(
        f"{hashlib.sha256((model / name).read_bytes()).hexdigest()}  {name}\n" for name in ("MLmodel", "code/a.py")
    )
    assert tree_digest(model) == f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def test_a_changed_byte_and_a_changed_name_change_the_digest(model: Path) -> None:
    before = tree_digest(model)
    (model / "code" / "a.py").write_text("x = 2\n")
    changed = tree_digest(model)
    (model / "code" / "a.py").rename(model / "code" / "b.py")
    assert len({before, changed, tree_digest(model)}) == 3


def test_bytecode_and_empty_folders_do_not_count(model: Path) -> None:
    before = tree_digest(model)
    (model / "empty").mkdir()
    (model / "code" / "__pycache__").mkdir()
    (model / "code" / "__pycache__" / "a.pyc").write_bytes(b"\0")
    assert tree_digest(model) == before


def test_a_link_has_no_digest(model: Path) -> None:
    (model / "link").symlink_to("/etc/hostname")
    with pytest.raises(UndigestibleError, match="is a link"):
        tree_digest(model)
