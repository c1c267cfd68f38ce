"""The `headrace` command. Everything that asks or steers goes over HTTP, to a laptop's controller or to Azure alike."""

from __future__ import annotations

from mlops_core.cli.app import main

__all__ = ["main"]
