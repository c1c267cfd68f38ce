"""
Make virtual environments from declared conda and pip requirements, cached by the hash of their content.

One folder per content; a half-made one is never used, and two processes that want the same one wait for each other.
Installing and waiting end when the job is to end: a timeout or a cancel counts here as in any step. uv makes them where
it is installed, venv and pip otherwise. Both leave pip inside: without it a step's `pip install` would reach another
environment.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from mlops_core.domain.errors import PermanentError
from mlops_core.pipelines.conda import Requirements, read_conda
from mlops_core.pipelines.interpreters import Interpreter, find_interpreter
from mlops_core.pipelines.plan import EnvironmentSpec
from mlops_core.pipelines.step_process import end_session

# Raise it when the same requirements give another environment.
_MAKER_VERSION = 1
_READY = ".headrace-ready"
_SHOWN_LINES = 12
_INSTALL_SECONDS = 3_600
_POLL_SECONDS = 0.1
# What an installer needs of the environment beyond the usual: where packages come from, and by which way.
_INSTALLER_PREFIXES = ("PIP_", "UV_")
_INSTALLER_NAMES = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "http_proxy",
    "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "CC", "CXX", "PYENV_ROOT",
)  # fmt: skip


class EnvironmentFailedError(PermanentError):
    """An environment cannot be made; the text has the installer's own last words."""

    def __init__(self, name: str, said: str) -> None:
        super().__init__(
            f"Environment '{name}' cannot be made:\n{said}\nCorrect the requirement, leave it out locally "
            "('local: {without: [...]}' in mlops.yaml; --without for 'headrace pipeline run'), or name another environment "
            "('local: {environments: {...}}'; --environment)."
        )
        self.name = name


class EnvironmentStoppedError(PermanentError):
    """The job was told to end while its environment was being made, or waited for."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Environment '{name}' was not made: the job was stopped meanwhile.")
        self.name = name


@dataclass(frozen=True)
class Environment:
    """
    A Python to run with.

    Attributes:
        digest: Hash of what it was made from; for the interpreter at hand, of its path and packages.
        notes: What differs from what was declared, in sentences.
    """

    python: str
    digest: str
    cached: bool
    packages: int
    notes: tuple[str, ...] = ()

    @property
    def bin_folder(self) -> str:
        """Where its programs are: the front of `PATH`."""
        return str(Path(self.python).parent)


@dataclass(frozen=True, kw_only=True)
class EnvironmentMaker:
    """
    Makes environments in a folder.

    Attributes:
        inherited: The environment variables of this process, of which installers get what they need.
        without: Requirement lines that are left out.
        halted: Set when the job is to end; installing stops then.
    """

    folder: Path
    inherited: Mapping[str, str]
    python: Literal["exact", "nearest"] = "nearest"
    without: tuple[str, ...] = ()
    halted: threading.Event = field(default_factory=threading.Event)

    def make(
        self, spec: EnvironmentSpec, *, extra: tuple[str, ...] = (), tell: Callable[[str], None] = lambda _: None
    ) -> Environment:
        """
        Give the environment of a declaration, made now where it is not there yet.

        Args:
            extra: Further requirement lines, such as those of the scoring app.
            tell: Is told when it will take a while.
        Raises: EnvironmentFailedError, PythonMissingError, EnvironmentStoppedError.
        """
        if spec.current:
            return Environment(sys.executable, _digest_at_hand(), cached=True, packages=0)
        wanted = self._requirements(spec)
        interpreter, note = find_interpreter(spec.name, spec.python_version, self.python)
        notes = (*wanted.notes, *([note] if note else []), *([spec.note] if spec.note else []))
        lines = (*wanted.lines, *_unnamed(extra, wanted.lines))
        digest = _digest(lines, interpreter)
        target = self.folder / digest[:24]
        python = str(target / "bin" / "python")
        if (target / _READY).exists():
            return Environment(python, digest, cached=True, packages=len(lines), notes=notes)
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._alone(spec.name, self.folder / f"{target.name}.lock", tell):
            if not (target / _READY).exists():
                tell(
                    f"environment '{spec.name}': installing {len(lines)} requirements for Python {interpreter.version}"
                )
                if note:
                    tell(f"environment '{spec.name}': {note}")
                self._install(spec.name, target, interpreter, lines)
        return Environment(python, digest, cached=False, packages=len(lines), notes=notes)

    def _requirements(self, spec: EnvironmentSpec) -> Requirements:
        declared = read_conda(spec.conda) if spec.conda is not None else Requirements(spec.pip_requirements)
        left_out = [line for line in declared.lines if line in self.without]
        notes = tuple(f"'{line}' was left out, as asked for (local: without, or --without)." for line in left_out)
        kept = tuple(line for line in declared.lines if line not in self.without)
        return Requirements((*kept, *_implied(spec, kept)), (*declared.notes, *notes))

    def _install(self, name: str, target: Path, interpreter: Interpreter, lines: tuple[str, ...]) -> None:
        shutil.rmtree(target, ignore_errors=True)
        requirements = self.folder / f"{target.name}.txt"
        requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
        uv = _find_uv()
        python = str(target / "bin" / "python")
        if uv is not None:
            self._run(name, [uv, "venv", "--quiet", "--seed", "--python", interpreter.path, str(target)])
            install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
        else:
            self._run(name, [interpreter.path, "-m", "venv", str(target)])
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if lines:
            self._run(name, [*install, "-r", str(requirements)])
        (target / _READY).write_text(json.dumps({"name": name, "requirements": lines, "at": time.time()}))

    def _run(self, name: str, command: list[str]) -> None:
        environment = {
            key: value
            for key, value in self.inherited.items()
            if key in _INSTALLER_NAMES or key.startswith(_INSTALLER_PREFIXES)
        }
        with tempfile.TemporaryFile() as said:
            try:
                process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise EnvironmentFailedError(name, f"  {error}") from error
            try:
                code = self._wait(name, process)
            finally:
                if process.poll() is None:
                    end_session(process)
            if code != 0:
                raise EnvironmentFailedError(name, _last_words(said))

    def _wait(self, name: str, process: subprocess.Popen[bytes]) -> int:
        deadline = time.monotonic() + _INSTALL_SECONDS
        while True:
            try:
                return process.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                self._go_on(name)
                if time.monotonic() > deadline:
                    said = f"  the installer did not end within {_INSTALL_SECONDS} s"
                    raise EnvironmentFailedError(name, said) from None

    def _go_on(self, name: str) -> None:
        if self.halted.is_set():
            raise EnvironmentStoppedError(name)

    @contextmanager
    def _alone(self, name: str, path: Path, tell: Callable[[str], None]) -> Iterator[None]:
        with path.open("a+") as lock:
            told = False
            while not _took(lock):
                if not told:
                    tell(f"environment '{name}': another job is making it; waits for that")
                    told = True
                self._go_on(name)
                self.halted.wait(_POLL_SECONDS)
            self._go_on(name)
            yield


def _unnamed(extra: tuple[str, ...], lines: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out what the project names itself: its own version counts, and the environment stays the same one."""
    named = {_package_of(line) for line in lines}
    return tuple(line for line in extra if _package_of(line) not in named)


def _package_of(line: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", line.strip(), maxsplit=1)[0].lower().replace("_", "-")


def _implied(spec: EnvironmentSpec, lines: tuple[str, ...]) -> tuple[str, ...]:
    """Add what conda gives every Python unasked: older packages import pkg_resources, which setuptools 82 dropped."""
    named = any(line.lower().startswith("setuptools") for line in lines)
    return ("setuptools<81",) if spec.conda is not None and not named else ()


def _digest(lines: tuple[str, ...], interpreter: Interpreter) -> str:
    content = {
        "maker": _MAKER_VERSION,
        "requirements": lines,
        "python": interpreter.version,
        "interpreter": interpreter.path,
        "machine": platform.machine(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest_at_hand() -> str:
    """Hash the interpreter and the names and versions of its packages, as the names of their records tell them."""
    folders = [entry for entry in sys.path if entry.endswith("site-packages") and Path(entry).is_dir()]
    # Installing or removing one changes its folder, so those that did not change are not listed again.
    packages = sorted(name for folder in folders for name in _records(folder, Path(folder).stat().st_mtime_ns))
    return hashlib.sha256("\n".join(["current", sys.executable, *packages]).encode()).hexdigest()


@functools.lru_cache(maxsize=16)
def _records(folder: str, _changed_at: int) -> tuple[str, ...]:
    return tuple(path.name for path in Path(folder).glob("*.dist-info"))


def _find_uv() -> str | None:
    beside = Path(sys.executable).parent / "uv"
    return str(beside) if beside.exists() else shutil.which("uv")


def _took(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _last_words(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return "\n".join(f"  {line}" for line in lines[-_SHOWN_LINES:])
