"""
What the controller needs of the world: one Protocol per role, in the words of the domain.

The controller and the handlers see these and never an adapter. Each port has a contract suite in `tests/contract` that
every adapter passes. All adapters raise `TemporaryError` for what may work when repeated and `PermanentError` for what
will not; nothing of an SDK comes through.
"""

from __future__ import annotations

from mlops_core.ports.messages import (
    Clock,
    EffectQueue,
    EventBus,
)
from mlops_core.ports.outside import (
    CommitStage,
    CommitState,
    Deployer,
    JobRunner,
    ModelRegistry,
    PushVerifier,
    SourceHost,
)
from mlops_core.ports.stores import (
    DeadLetters,
    ModelStore,
    ProjectStore,
    RunStore,
)
from mlops_core.ports.telemetry import (
    NoTelemetry,
    Telemetry,
)
from mlops_core.ports.values import (
    DeadLetter,
    DeploymentRequest,
    DeploymentStatus,
    HistoryEntry,
    JobProgress,
    JobRequest,
    JobStatus,
    Page,
    ProjectRecord,
    RegisteredVersion,
    Stored,
)

__all__ = [
    "Clock",
    "CommitStage",
    "CommitState",
    "DeadLetter",
    "DeadLetters",
    "Deployer",
    "DeploymentRequest",
    "DeploymentStatus",
    "EffectQueue",
    "EventBus",
    "HistoryEntry",
    "JobProgress",
    "JobRequest",
    "JobRunner",
    "JobStatus",
    "ModelRegistry",
    "ModelStore",
    "NoTelemetry",
    "Page",
    "ProjectRecord",
    "ProjectStore",
    "PushVerifier",
    "RegisteredVersion",
    "RunStore",
    "SourceHost",
    "Stored",
    "Telemetry",
]
