"""Benches for tests with thousands of events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from builders import MANIFEST, PROJECT, Bench, make_bench, push

from mlops_core.domain.ids import CommitId, ProjectName, RunId
from mlops_core.ports import ProjectRecord
from mlops_core.world import World


def quick_bench(
    folder: Path, *, manifest: bytes = MANIFEST, wrap: Callable[[World], World] | None = None, seed: int = 0
) -> Bench:
    """Make a bench that does not wait for the disk: what its test crashes is the process, never the machine."""
    bench = make_bench(folder, manifest=manifest, wrap=wrap, seed=seed)
    bench.database.connection.execute("PRAGMA synchronous=OFF")
    return bench


def many_projects(folder: Path, count: int) -> Bench:
    """Make a bench with projects `p0`, `p1`, ... that each train a model of their own name."""
    bench = quick_bench(folder)
    read_file = bench.source.read_file

    def manifest_of(project: ProjectRecord, commit: CommitId, path: str, *, limit_bytes: int = 1_000_000) -> bytes:
        return read_file(project, commit, path, limit_bytes=limit_bytes).replace(b"diabetes", project.name.encode())

    bench.source.read_file = manifest_of  # type: ignore[method-assign] - this bench only
    for number in range(count):
        name = ProjectName(f"p{number}")
        bench.app.world.projects.put(replace(PROJECT, name=name, repository=name))
    return bench


def push_to(bench: Bench, number: int, commit: int = 1) -> RunId:
    """Push to the project of a number."""
    return bench.app.intake.push(push(commit).model_copy(update={"repository": f"p{number}"}))[0]
