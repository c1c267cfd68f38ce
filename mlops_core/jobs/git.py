"""
Run git on a bare repository with nothing of the user's or the repository's own configuration, hooks or programs.

Only what git is asked for happens: no hooks, no submodules, no LFS, no file system monitor, no prompts.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from mlops_core.domain.errors import BadInputError, NotFoundError, PermanentError, TemporaryError, TooLargeError

_SECONDS = 120
_SAFE = (
    "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "protocol.allow=never",
    "-c", "filter.lfs.smudge=", "-c", "filter.lfs.required=false", "-c", "core.attributesFile=/dev/null",
    "-c", "safe.directory=*", "-c", "submodule.recurse=false",
)  # fmt: skip
_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "LC_ALL": "C",
    "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin",
}


def git(repository: Path, *arguments: str, limit_bytes: int | None = None) -> bytes:
    """
    Run a git command on a bare repository.

    Raises:
        PermanentError: git says no; the text has its words.
        TooLargeError: It printed more than `limit_bytes`.
        TemporaryError: It did not end in time.
    """
    command = ["git", *_SAFE, f"--git-dir={repository}", *arguments]
    try:
        done = subprocess.run(command, env=_ENVIRONMENT, capture_output=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise TemporaryError(f"git {arguments[0]} in '{repository}' took more than {_SECONDS} s.") from None
    except FileNotFoundError:
        raise PermanentError("git is not installed, and nothing can be fetched without it. Install git.") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[:500]
        raise PermanentError(f"git {arguments[0]} in '{repository}' did not work: {said}")
    if limit_bytes is not None and len(done.stdout) > limit_bytes:
        raise TooLargeError(f"git {arguments[0]} gave {len(done.stdout)} bytes; at most {limit_bytes} are taken.")
    return done.stdout


def read_blob(repository: Path, commit: str, path: str, *, limit_bytes: int) -> bytes:
    """
    Read a file of a commit.

    Raises: NotFoundError, TooLargeError, BadInputError (a path that leaves the repository).
    """
    if path.startswith("/") or ".." in path.split("/") or "\0" in path or ":" in path:
        raise BadInputError(f"'{path}' is no path inside a repository.")
    name = f"{commit}:{path}"
    try:
        size = int(git(repository, "cat-file", "-s", name))
    except PermanentError:
        advice = "Add the file, commit and push again."
        raise NotFoundError(f"file in commit {commit[:12]} named", path, advice=advice) from None
    if size > limit_bytes:
        raise TooLargeError(f"'{path}' has {size} bytes; at most {limit_bytes} are read. Make it smaller.")
    return git(repository, "cat-file", "blob", name)
