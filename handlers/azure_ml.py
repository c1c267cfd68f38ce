"""
Events of an Azure ML workspace: a model was registered, a job changed, drift was detected.

Published samples spell keys and values in several ways (`ModelName` and `modelName`, version `20` and `"20"`, `failed` and
`Failed`), so keys are compared without case and underscores. On a laptop the registry and the jobs tell of themselves in
the same form.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handlers.inbound import Envelope
from mlops_core.application import Application
from mlops_core.domain.errors import BadInputError, NotFoundError
from mlops_core.domain.events import JobOutcome
from mlops_core.domain.ids import JobName, ModelName, ModelVersion

log = logging.getLogger(__name__)

_OUTCOMES: dict[str, JobOutcome] = {
    "completed": "succeeded",
    "finished": "succeeded",
    "failed": "failed",
    "notresponding": "failed",
    "canceled": "cancelled",
    "cancelled": "cancelled",
}
_UNDER_WAY = frozenset(
    {"notstarted", "starting", "provisioning", "preparing", "queued", "running", "finalizing", "cancelrequested",
     "paused", "unknown"}
)  # fmt: skip
_LONGEST_NAME = 255


@dataclass(frozen=True)
class ModelRegisteredNotice:
    """A model version was registered."""

    model: str
    version: str


@dataclass(frozen=True)
class JobStatusNotice:
    """
    A job changed.

    Attributes:
        outcome: How it ended; None while it is under way.
    """

    job_name: str
    outcome: JobOutcome | None


def take_model_registered(app: Application, envelope: Envelope) -> None:
    """Find the run that the version comes from. A version that the registry does not know is taken as a lost race."""
    notice = read_model_registered(envelope)
    try:
        app.intake.model_registered(ModelName(notice.model), ModelVersion(notice.version))
    except NotFoundError as error:
        raise BadInputError(
            f"Event '{envelope.id}' tells of a version that the registry does not have: {error}"
        ) from None


def take_job_status(app: Application, envelope: Envelope) -> None:
    """Take the end of a job of ours; jobs of others and steps of pipelines are left alone."""
    notice = read_job_status(envelope)
    app.intake.job_told(JobName(notice.job_name), notice.outcome)


def take_nothing(_: Application, envelope: Envelope) -> None:
    """Let an event pass that says nothing about a run."""
    log.info("event passed over", extra={"event_id": envelope.id, "kind": envelope.kind})


def read_model_registered(envelope: Envelope) -> ModelRegisteredNotice:
    """Read the event. Raises BadInputError, naming what is missing."""
    data = _folded(envelope.data)
    return ModelRegisteredNotice(_name(envelope, data, "modelname"), _name(envelope, data, "modelversion"))


def read_job_status(envelope: Envelope) -> JobStatusNotice:
    """Read `RunCompleted` or `RunStatusChanged`. A status that nobody knows counts as under way, and is logged."""
    data = _folded(envelope.data)
    job_name = _name(envelope, data, "runid")
    status = data.get("runstatus")
    if status is None and envelope.kind.endswith("RunCompleted"):
        status = "Completed"
    if not isinstance(status, str):
        raise BadInputError(f"Event '{envelope.id}' of type '{envelope.kind}' has no runStatus in its data.")
    word = status.replace(" ", "").replace("_", "").lower()
    if word not in _OUTCOMES and word not in _UNDER_WAY:
        log.warning("unknown job status, taken as under way", extra={"event_id": envelope.id, "status": status[:100]})
    return JobStatusNotice(job_name, _OUTCOMES.get(word))


def _folded(data: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key).replace("_", "").lower(): value for key, value in data.items()}


def _name(envelope: Envelope, data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    text = str(value) if isinstance(value, str) or type(value) is int else ""
    if not text.isprintable() or not 0 < len(text) <= _LONGEST_NAME:
        raise BadInputError(f"Event '{envelope.id}' of type '{envelope.kind}' has no usable '{key}' in its data.")
    return text
