"""
Zip what `azd deploy` uploads, by .funcignore, and tell its size; with --installed also that of its dependencies.

    python infra/package.py FOLDER [--installed]

The zip is for looking at: azd makes its own from the same list.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pathspec

CHECKOUT = Path(__file__).resolve().parents[1]
PLATFORM = ["--python-version", "3.13", "--python-platform", "x86_64-unknown-linux-gnu"]


def deployed() -> list[Path]:
    """List the files of the function app, relative to the checkout."""
    ignored = pathspec.GitIgnoreSpec.from_lines((CHECKOUT / ".funcignore").read_text().splitlines())
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    return [Path(name) for name in sorted(listed) if not ignored.match_file(name) and (CHECKOUT / name).is_file()]


def main(folder: Path, *, installed: bool) -> None:
    """Write the zip and print the sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "headrace.zip"
    files = deployed()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in files:
            zipped.write(CHECKOUT / path, path.as_posix())
    print(f"{target}: {len(files)} files, {target.stat().st_size / 1e3:.0f} kB")
    if installed:
        packages = folder / "packages"
        command = ["uv", "pip", "install", "--quiet", "--target", str(packages), *PLATFORM, "-r", "requirements.txt"]
        subprocess.run(command, cwd=CHECKOUT, check=True)
        size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())
        print(f"its dependencies, installed: {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), installed="--installed" in sys.argv)
