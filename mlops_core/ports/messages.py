"""What is told, and when: effect hints, events, the time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol


class EffectQueue(Protocol):
    """Hints that an effect is pending. The run's own list is the truth, so a lost message only costs time."""

    def put(self, message: str, *, delay_seconds: float = 0) -> None:
        """Add a message."""
        ...


class EventBus(Protocol):
    """The controller's own topic. What is published is durable before this returns."""

    def publish(
        self, *, event_id: str, event_type: str, subject: str, data: Mapping[str, object], at: datetime
    ) -> None:
        """Publish one event; type names start with `Headrace.`."""
        ...


class Clock(Protocol):
    """The time."""

    def now(self) -> datetime:
        """Return the time, aware and in UTC."""
        ...
