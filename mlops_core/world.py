"""The controller's view of the world: its ports in one value, passed by name from the composition root."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlops_core.domain.errors import PermanentError
from mlops_core.ports import (
    Clock,
    DeadLetters,
    Deployer,
    EffectQueue,
    EventBus,
    JobRunner,
    ModelRegistry,
    ModelStore,
    NoTelemetry,
    ProjectRecord,
    ProjectStore,
    RunStore,
    SourceHost,
    Telemetry,
)


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything outside of the core, by role."""

    runs: RunStore
    models: ModelStore
    projects: ProjectStore
    dead_letters: DeadLetters
    queue: EffectQueue
    bus: EventBus
    jobs: JobRunner
    registry: ModelRegistry
    deployer: Deployer
    sources: Mapping[str, SourceHost]
    clock: Clock
    telemetry: Telemetry = field(default_factory=NoTelemetry)

    def source_of(self, project: ProjectRecord) -> SourceHost:
        """Find the adapter of a project's repository host. Raises PermanentError where none is configured."""
        source = self.sources.get(project.host)
        if source is None:
            raise PermanentError(
                f"Project '{project.name}' is at host '{project.host}', for which nothing is configured here. "
                f"Configured: {', '.join(sorted(self.sources)) or 'none'}."
            )
        return source
