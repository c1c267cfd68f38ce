"""A data folder with a controller and a tiny project, driven by the commands that a person types."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Of one command. A push that goes live takes 15 seconds, and ten times that where many programs want the same cores.
SECONDS = 240.0


class Laptop:
    """
    A data folder, and the command line on it.

    Attributes:
        project: The repository that is pushed; empty until the test writes it.
        controller: The process of `headrace up`, once it was started.
    """

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.project = folder / "tiny"
        self.environment = {**os.environ, "HEADRACE_DATA": str(self.data)}  # noqa: TID251 - of the test's own commands
        self.controller: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a headrace command."""
        command = [sys.executable, "-m", "mlops_core.cli", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )

    def git(self, *arguments: str) -> str:
        """Run git in the project."""
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", *arguments]
        done = subprocess.run(command, cwd=self.project, capture_output=True, text=True, timeout=SECONDS, check=True)
        return done.stdout + done.stderr

    def up(self) -> None:
        """Start the controller and wait until it answers."""
        (self.data / "up.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", "mlops_core.cli", "up", "--port", "0"]
        self.controller = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + SECONDS
        # Without the file, a command would ask whoever is at the usual port.
        while not (self.data / "up.json").exists() or self.run("projects").returncode != 0:
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def down(self) -> None:
        """Stop everything that was started."""
        self.run("down")
        if self.controller is not None:
            self.controller.wait(SECONDS)
