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


def add_repository(data_folder: Path, path: Path, manifest: str) -> ProjectRecord:
    """
    Make the bare twin of a repository and its remote. Adding it again changes nothing.

    Args:
        path: The user's repository.
        manifest: Path of `mlops.yaml` in it.
    Raises:
        BadInputError: It is no git repository, or has no valid `mlops.yaml`.
        RefusedError: Its remote `headrace` leads elsewhere.
    """
    root = _root_of(path)
    file = root / manifest
    if not file.is_file():
        raise BadInputError(f"There is no '{manifest}' in '{root}'. Write one with 'headrace init', then commit it.")
    spec = read_manifest(file.read_bytes(), manifest)
    name = ProjectName(spec.project)
    # Of the repository's folder, since a monorepo has one twin for all its projects; and of its path, since two
    # repositories may have the same folder's name.
    bare = data_folder / "repositories" / f"{_repository_name(root, name)}-{short_digest(str(root))}.git"
    _make_bare(bare)
    _write_hook(bare, data_folder)
    _add_remote(root, bare)
    return ProjectRecord(
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


def _root_of(path: Path) -> Path:
    try:
        found = _user_git(path, "rev-parse", "--show-toplevel")
    except PermanentError:
        raise BadInputError(
            f"'{path}' is no git repository. Make one: git init {path} && git add . && git commit."
        ) from None
    return Path(found)


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
