"""What is told of a run's progress to whoever watches the controller itself."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from mlops_core.domain.effects import Effect
from mlops_core.domain.events import Event
from mlops_core.domain.run import Run


class Telemetry(Protocol):
    """Traces. Nothing that is told here may fail or wait: a run goes on without it."""

    def event_taken(self, before: Run, after: Run, event: Event) -> None:
        """Tell that a run took an event."""
        ...

    def performing(self, run: Run, effect: Effect) -> AbstractContextManager[None]:
        """Tell how long an effect takes, and whether it raises."""
        ...


class NoTelemetry:
    """Tells nobody."""

    def event_taken(self, before: Run, after: Run, event: Event) -> None:
        """Do nothing."""

    def performing(self, run: Run, effect: Effect) -> AbstractContextManager[None]:  # noqa: ARG002 - the port's form
        """Do nothing."""
        return nullcontext()
