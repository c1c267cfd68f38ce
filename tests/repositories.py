"""Make bare repositories out of objects, so that they may hold what git itself would never write."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_WHO = "t <t@example.invalid> 1772366400 +0000"
FILE, PROGRAM, LINK, FOLDER, SUBMODULE = "100644", "100755", "120000", "40000", "160000"


@dataclass(frozen=True)
class RawRepository:
    """A bare repository, written object by object."""

    path: Path

    def git(self, *arguments: str, given: bytes = b"") -> str:
        """Run git on it."""
        environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}  # noqa: TID251 - of a test's own command
        command = ["git", f"--git-dir={self.path}", *arguments]
        return subprocess.run(command, input=given, capture_output=True, check=True, env=environment).stdout.decode()

    def blob(self, content: bytes) -> str:
        """Write a file's content."""
        return self.git("hash-object", "-w", "--stdin", given=content).strip()

    def tree(self, *entries: tuple[str, str | bytes, str]) -> str:
        """Write a folder of (mode, name, id), in this order and unchecked."""
        raw = b"".join(
            mode.encode() + b" " + (name if isinstance(name, bytes) else name.encode()) + b"\0" + bytes.fromhex(one)
            for mode, name, one in entries
        )
        return self.git("hash-object", "-w", "--literally", "-t", "tree", "--stdin", given=raw).strip()

    def commit(self, tree: str) -> str:
        """Write a commit of a folder, and let `main` point to it."""
        raw = f"tree {tree}\nauthor {_WHO}\ncommitter {_WHO}\n\nx\n".encode()
        commit = self.git("hash-object", "-w", "--literally", "-t", "commit", "--stdin", given=raw).strip()
        self.git("update-ref", "refs/heads/main", commit)
        return commit

    def commit_files(self, files: dict[str, bytes], *, programs: frozenset[str] = frozenset()) -> str:
        """Write a commit of files in folders."""
        return self.commit(self._folder(files, programs, ""))

    def _folder(self, files: dict[str, bytes], programs: frozenset[str], prefix: str) -> str:
        entries: dict[str, tuple[str, str, str]] = {}
        for path, content in files.items():
            name, slash, _ = path.partition("/")
            if slash and name not in entries:
                inner = {p.removeprefix(f"{name}/"): c for p, c in files.items() if p.startswith(f"{name}/")}
                entries[name] = (FOLDER, name, self._folder(inner, programs, f"{prefix}{name}/"))
            elif not slash:
                mode = PROGRAM if prefix + path in programs else FILE
                entries[name] = (mode, name, self.blob(content))
        return self.tree(*(entries[name] for name in sorted(entries)))


def raw_repository(path: Path) -> RawRepository:
    """Make an empty one."""
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", "--template=", str(path)], check=True)
    return RawRepository(path)
