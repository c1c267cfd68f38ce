"""
Run git on a bare repository with nothing of the user's or the repository's own configuration, hooks or programs.

Only what git is asked for happens: no hooks, no submodules, no LFS, no file system monitor, no prompts, no proxy; and no
connection, but for `fetch_remote` to an address that was allowed. What git prints is read as it comes, with a cap.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mlops_core.domain.errors import BadInputError, NotFoundError, PermanentError, TemporaryError, TooLargeError
from mlops_core.jobs.addresses import RemoteRepository, shown

_SECONDS = 120
_POLL_SECONDS = 0.2
_CHUNK_BYTES = 1 << 16
_WORDS_BYTES = 2_000
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SAFE = (
    "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "protocol.allow=never",
    "-c", "filter.lfs.smudge=", "-c", "filter.lfs.required=false", "-c", "core.attributesFile=/dev/null",
    "-c", "safe.directory=*", "-c", "submodule.recurse=false", "-c", "core.alternateRefsCommand=",
)  # fmt: skip
_REMOTE_SAFE = (
    "-c", "protocol.https.allow=always", "-c", "http.followRedirects=false", "-c", "credential.helper=",
    "-c", "http.proxy=", "-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=30", "-c", "http.sslVerify=true",
    "-c", "transfer.bundleURI=false", "-c", "fetch.fsckObjects=false", "-c", "gc.auto=0",
)  # fmt: skip
_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    # Stronger than any configuration: with an empty list, no protocol is spoken.
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_PROTOCOL_FROM_USER": "0",
    "GIT_ASKPASS": "/bin/false",
    "GIT_PAGER": "cat",
    "LC_ALL": "C",
    "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin",
}


def checked_commit(commit: str) -> str:
    """Check a commit's id: whole, so that neither an option nor a branch can stand in for it. Raises BadInputError."""
    if not _COMMIT.fullmatch(commit):
        raise BadInputError(f"{shown(commit)} is no commit id of 40 or 64 hexadecimal digits.")
    return commit


def checked_path(path: str) -> str:
    """Check a path inside a repository. Raises BadInputError."""
    if path.startswith("/") or ".." in path.split("/") or ":" in path or not path.isprintable():
        raise BadInputError(f"{shown(path)} is no path inside a repository.")
    return path


def git(repository: Path, *arguments: str, limit_bytes: int = 64_000_000) -> bytes:
    """
    Run a git command on a bare repository.

    Raises:
        PermanentError: git says no; the text has its words.
        TooLargeError: It printed more than `limit_bytes`; nothing beyond was read.
        TemporaryError: It did not end in time.
    """
    printed = bytearray()
    with git_stream(repository, *arguments) as output:
        while chunk := output.read(_CHUNK_BYTES):
            printed += chunk
            if len(printed) > limit_bytes:
                raise TooLargeError(f"git {arguments[0]} gave more than {limit_bytes} bytes, which is the limit.")
    return bytes(printed)


@contextmanager
def git_stream(repository: Path, *arguments: str, asks: IO[bytes] | None = None) -> Iterator[IO[bytes]]:
    """
    Run a git command and read what it prints as it comes; leaving the block by an error ends it.

    Args:
        asks: A file that git reads from.
    Raises: PermanentError, TemporaryError: As `git` does, at the end of the block.
    """
    with tempfile.TemporaryFile() as words:
        process = _start(repository, arguments, _ENVIRONMENT, words, asks=asks)
        timer = threading.Timer(_SECONDS, process.kill)
        timer.start()
        complete = False
        try:
            assert process.stdout is not None  # noqa: S101 - asked for
            with process.stdout as output:
                yield output
            complete = True
        finally:
            if not complete:
                process.kill()
            process.wait()
            timer.cancel()
            timer.join()
        if process.returncode == -signal.SIGKILL:
            raise TemporaryError(f"git {arguments[0]} in '{repository}' took more than {_SECONDS} s.")
        _must_have_worked(process, f"git {arguments[0]} in '{repository}'", words)


def read_blob(repository: Path, commit: str, path: str, *, limit_bytes: int) -> bytes:
    """
    Read a file of a commit.

    Raises: NotFoundError, TooLargeError, BadInputError (no commit id, or a path that leaves the repository).
    """
    name = f"{checked_commit(commit)}:{checked_path(path)}"
    try:
        size = int(git(repository, "cat-file", "-s", name))
        content = git(repository, "cat-file", "blob", name, limit_bytes=limit_bytes) if size <= limit_bytes else b""
    except PermanentError:
        advice = "Add the file, commit and push again."
        raise NotFoundError(f"file in commit {commit[:12]} named", path, advice=advice) from None
    if size > limit_bytes:
        raise TooLargeError(f"'{path}' has {size} bytes; at most {limit_bytes} are read. Make it smaller.")
    return content


def fetch_remote(
    address: RemoteRepository, commit: str, repository: Path, *, limit_bytes: int, authority: Path | None = None
) -> None:
    """
    Make a bare repository and fetch one commit into it, by its id, over https and from nowhere else.

    Args:
        address: As `clone_address` allowed it.
        repository: A folder that is not there yet.
        authority: Certificates (PEM) that the host is verified by, where the system's do not know it.
    Raises:
        PermanentError: The host refused, sent on to another address, or has no such commit.
        TooLargeError: The commit needs more than `limit_bytes`.
        TemporaryError: It did not end in time.
    """
    wanted = checked_commit(commit)
    repository.mkdir(parents=True)
    git(repository, "init", "--quiet", "--bare", "--initial-branch=main", "--template=", str(repository))
    environment = {**_ENVIRONMENT, "GIT_ALLOW_PROTOCOL": "https"}
    if authority is not None:
        environment["GIT_SSL_CAINFO"] = str(authority)
    fetch = (
        *_REMOTE_SAFE, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
        "--no-auto-maintenance", "--", address.url, wanted,
    )  # fmt: skip
    with tempfile.TemporaryFile() as words:
        process = _start(repository, fetch, environment, words)
        try:
            _wait_within(process, repository, limit_bytes)
        finally:
            process.kill()
            process.communicate()
        _must_have_worked(process, f"Fetching {wanted[:12]} from '{address.url}'", words)


def _start(
    repository: Path,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    words: IO[bytes],
    *,
    asks: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    command = ["git", *_SAFE, f"--git-dir={repository}", *arguments]
    try:
        return subprocess.Popen(
            command, env=environment, stdin=asks or subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=words
        )
    except FileNotFoundError:
        raise PermanentError("git is not installed, and nothing can be fetched without it. Install git.") from None


def _wait_within(process: subprocess.Popen[bytes], repository: Path, limit_bytes: int) -> None:
    """Wait for a fetch and look at what it has written so far, since git itself knows no limit."""
    for _ in range(int(_SECONDS / _POLL_SECONDS)):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_SECONDS)
        if _size(repository) > limit_bytes:
            raise TooLargeError(f"The commit has more than {limit_bytes} bytes. Keep data out of git.")
        if process.returncode is not None:
            return
    raise TemporaryError(f"git fetch into '{repository}' took more than {_SECONDS} s.")


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except FileNotFoundError:  # git renames its packs when they are complete
            continue
    return total


def _must_have_worked(process: subprocess.Popen[bytes], doing: str, words: IO[bytes]) -> None:
    if process.returncode == 0:
        return
    words.seek(0)
    said = words.read(_WORDS_BYTES).decode(errors="replace").strip()[:500]
    raise PermanentError(f"{doing} did not work: {said}")
