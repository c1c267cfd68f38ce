"""The timers: look after active runs, and after branches whose webhook may have been lost."""

from __future__ import annotations

from mlops_core.application import Application


def reconcile_runs(app: Application) -> None:
    """Look after every active run."""
    app.reconciler.runs()


def reconcile_heads(app: Application) -> None:
    """Compare each project's branch heads with the pushes heard of."""
    app.reconciler.heads()
