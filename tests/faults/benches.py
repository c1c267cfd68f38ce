"""Benches for tests with thousands of events."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from builders import MANIFEST, Bench, make_bench

from mlops_core.services.world import World


def quick_bench(
    folder: Path, *, manifest: bytes = MANIFEST, wrap: Callable[[World], World] | None = None, seed: int = 0
) -> Bench:
    """Make a bench that does not wait for the disk: what its test crashes is the process, never the machine."""
    bench = make_bench(folder, manifest=manifest, wrap=wrap, seed=seed)
    bench.database.connection.execute("PRAGMA synchronous=OFF")
    return bench
