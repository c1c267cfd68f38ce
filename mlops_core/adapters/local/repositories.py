"""
Add a user's repository: a bare twin in the data folder whose hook tells the controller, and the remote `headrace`.

The hook is a line of shell that hands over to `receive_hook.py`; secret and address are read from the data folder when a
push comes, so that nothing of them is written into the repository.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mlops_core.adapters.local.secret_files import kept_secret
from mlops_core.domain.errors import BadInputError, PermanentError, RefusedError
from mlops_core.domain.ids import ModelName, ProjectName, short_digest
from mlops_core.jobs.git import git
from mlops_core.manifest import read_manifest
from mlops_core.ports import ProjectRecord

REMOTE = "headrace"
_SECRET = "webhook-secret"  # noqa: S105 - a file's name
_GIT_SECONDS = 60


def webhook_secret(data_folder: Path) -> bytes:
    """Read the secret of the local hook's signature; made at the first call, readable by its owner only."""
    return kept_secret(data_folder, _SECRET).encode()


def add_repository(
    data_folder: Path, path: Path, manifest: str, *, check: Callable[[ProjectRecord], None] = lambda _: None
) -> ProjectRecord:
    """
    Make the bare twin of a repository and its remote. Adding it again changes nothing.

    Args:
        path: The user's repository, or a folder in it that has an `mlops.yaml` of its own.
        manifest: Path of `mlops.yaml` in it.
        check: Raises where the project is not wanted; called before anything is made.
    Raises:
        BadInputError: It is no git repository, or has no valid `mlops.yaml`.
        RefusedError: Its remote `headrace` leads elsewhere.
    """
    root, manifest = _place_of(path, manifest)
    spec = read_manifest((root / manifest).read_bytes(), manifest)
    name = ProjectName(spec.project)
    # Of the repository's folder, since a monorepo has one twin for all its projects; and of its path, since two
    # repositories may have the same folder's name.
    twins = data_folder / "repositories"
    bare = _known_twin(root, twins) or twins / f"{_repository_name(root, name)}-{short_digest(str(root))}.git"
    record = ProjectRecord(
        name=name,
        host="local",
        repository=bare.stem,
        clone_url=str(bare),
        manifest=manifest,
        default_branch=_main_branch(spec.triggers.branches),
        model=ModelName(spec.train.model),
        # Whatever comes to the twin is pushed there to be delivered, also while no controller is up.
        known_heads={},
    )
    check(record)
    _make_bare(bare)
    _write_hook(bare, data_folder)
    _add_remote(root, bare)
    return record


def _known_twin(root: Path, twins: Path) -> Path | None:
    """Find the twin that a repository has already, which was perhaps added at another place and moved since."""
    known = Path(_said(root, "remote", "get-url", REMOTE) or "")
    return known if known.parent == twins and known.is_dir() else None


def hindrances(record: ProjectRecord, path: Path) -> list[str]:
    """Say what would make a push of an added repository disappoint, each with what to do."""
    root = _root_of(path)
    found = []
    if _said(root, "status", "--porcelain", "--", record.manifest) != "":
        found.append(
            f"'{record.manifest}' is not committed as it is. A push brings commits only: "
            f"git add {shlex.quote(record.manifest)} && git commit"
        )
    here, wanted = _said(root, "symbolic-ref", "--short", "HEAD"), record.default_branch
    if here and here != wanted and _said(root, "rev-parse", "--verify", "--quiet", f"refs/heads/{wanted}") is None:
        found.append(
            f"there is no branch '{wanted}' here, and this is '{here}'. Name it in mlops.yaml (triggers.branches), or push "
            f"it as one that delivers: git push {REMOTE} {shlex.quote(here)}:{shlex.quote(wanted)}"
        )
    return found


def main_branch_of(path: Path) -> str:
    """Guess which branch of a repository delivers: its origin's, else main or master, else the one checked out."""
    origin = _said(path, "symbolic-ref", "--short", "refs/remotes/origin/HEAD")
    if origin:
        return origin.partition("/")[2]
    for branch in ("main", "master"):
        if _said(path, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}"):
            return branch
    return _said(path, "symbolic-ref", "--short", "HEAD") or "main"


def _said(path: Path, *arguments: str) -> str | None:
    try:
        return _user_git(path, *arguments)
    except PermanentError:
        return None


def _place_of(path: Path, manifest: str) -> tuple[Path, str]:
    """Find the repository of a path, and where its `mlops.yaml` is in it: beside the path, or at the top."""
    if not path.is_dir():
        raise BadInputError(f"'{path}' is no folder. Give the repository's folder.")
    root, here = _root_of(path), path.resolve()
    for folder in (here, root):
        file = folder / manifest
        if file.is_file() and file.resolve().is_relative_to(root):
            return root, file.relative_to(root).as_posix()
    where = f"'{here}'" + (f" or in '{root}'" if here != root else "")
    raise BadInputError(f"There is no '{manifest}' in {where}. Write one with 'headrace init', then commit it.")


def _root_of(path: Path) -> Path:
    try:
        found = _user_git(path, "rev-parse", "--show-toplevel")
    except PermanentError:
        raise BadInputError(
            f"'{path}' is no git repository. Make one there: git init && git add --all && git commit."
        ) from None
    return Path(found).resolve()


def _repository_name(root: Path, project: ProjectName) -> str:
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", root.name).strip("-.")
    return plain or project


def _make_bare(bare: Path) -> None:
    if (bare / "HEAD").exists():
        return
    bare.mkdir(parents=True, exist_ok=True)
    git(bare, "init", "--quiet", "--bare", "--initial-branch=main", "--template=", str(bare))
    # A push must never wait for a tidy-up of the repository.
    git(bare, "config", "gc.auto", "0")
    git(bare, "config", "receive.denyDeletes", "false")


def _write_hook(bare: Path, data_folder: Path) -> None:
    hooks = bare / "hooks"
    hooks.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "mlops_core.adapters.local.receive_hook", str(data_folder), bare.stem]
    hook = hooks / "post-receive"
    package = Path(__file__).resolve().parents[3]
    hook.write_text(
        f"#!/bin/sh\n# Written by headrace add.\nPYTHONPATH={shlex.quote(str(package))} exec {shlex.join(command)}\n"
    )
    hook.chmod(0o755)


def _add_remote(root: Path, bare: Path) -> None:
    try:
        known = _user_git(root, "remote", "get-url", REMOTE)
    except PermanentError:
        _user_git(root, "remote", "add", REMOTE, str(bare))
        return
    if Path(known) != bare:
        raise RefusedError(
            f"The remote '{REMOTE}' of '{root}' leads to '{known}', not to '{bare}'. Remove it first: "
            f"git -C {root} remote remove {REMOTE}."
        )


def _main_branch(branches: tuple[str, ...]) -> str:
    plain = [branch for branch in branches if not set(branch) & set("*?[")]
    return plain[0] if plain else "main"


def _user_git(path: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(path), *arguments], capture_output=True, text=True, check=False, timeout=_GIT_SECONDS
        )
    except FileNotFoundError:
        raise PermanentError("git is not installed. Install git.") from None
    if done.returncode != 0:
        raise PermanentError(f"git {arguments[0]} in '{path}' did not work: {done.stderr.strip()[:500]}")
    return done.stdout.strip()
