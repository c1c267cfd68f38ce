"""
Give hostile files to the product's readers, each in a process of its own with limits, and say what became of it.

    python hostile_child.py CASES

CASES is a folder of files named `KIND.NAME`. Prints one JSON object a line: name, outcome, seconds, megabytes.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from mlops_core.adapters.hosts.archive import unpack_archive
from mlops_core.adapters.hosts.payload import read_object
from mlops_core.domain.errors import HeadraceError
from mlops_core.jobs.source import fetch_commit
from mlops_core.manifest import read_manifest
from mlops_core.pipelines.documents import Reader, read_or_raise

MEGABYTES, SECONDS = 512, 10


def read_tree(case: Path, into: Path) -> None:
    """Read a commit of a bare repository beside the cases; the file holds its id."""
    fetch_commit(case.parent.parent / "trees.git", case.read_text(), into / "files")


def read_archive(case: Path, into: Path) -> None:
    """Unpack a host's archive."""
    folder = into / "files"
    folder.mkdir()
    with case.open("rb") as file:
        unpack_archive(file, "zip" if case.name.startswith("zip.") else "tar.gz", folder)


READERS: dict[str, Callable[[Path, Path], object]] = {
    "tar": read_archive,
    "zip": read_archive,
    "tree": read_tree,
    "manifest": lambda case, _: read_manifest(case.read_bytes()),
    "pipeline": lambda case, _: read_or_raise(Reader(case.parent), case),
    "webhook": lambda case, _: read_object(case.read_bytes(), "github"),
}


def judge(case: Path, into: Path) -> str:
    """Read one case within the limits."""
    for limit, value in ((resource.RLIMIT_AS, MEGABYTES << 20), (resource.RLIMIT_CPU, SECONDS)):
        resource.setrlimit(limit, (value, value))
    try:
        READERS[case.name.partition(".")[0]](case, into)
    except HeadraceError as error:
        return f"refused: {error}"
    except BaseException as error:  # noqa: BLE001 - that any other error comes out is what is looked for
        return f"broken: {type(error).__name__}: {str(error)[:300]}"
    return "taken"


def run(case: Path, into: Path) -> dict[str, object]:
    """Judge a case in a fork, and measure it."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write_end, judge(case, into).encode("utf-8", "replace")[:60_000])
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answer:
        outcome = answer.read().decode()
    _, _, used = os.wait4(child, 0)
    return {
        "name": case.name,
        "outcome": outcome or "killed",
        # Of the processor, git's included: what another process keeps it waiting for is no matter of the case.
        "seconds": used.ru_utime + used.ru_stime,
        "megabytes": used.ru_maxrss / 1024,
    }


def main(cases: Path) -> None:
    """Judge all."""
    for case in sorted(cases.iterdir()):
        into = cases.parent / "into" / case.name[:60]
        into.mkdir(parents=True)
        print(json.dumps(run(case, into)), flush=True)  # noqa: T201 - what its parent reads


if __name__ == "__main__":
    main(Path(sys.argv[1]))
