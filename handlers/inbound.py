"""
The host-neutral envelope of an event: the same from Event Grid's own schema and from CloudEvents 1.0.

A Python Event Grid trigger is given another class for CloudEvents, without `.topic`; both are read by their attributes, and
the JSON of either as a mapping, so that a dead letter can be read back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mlops_core.domain.errors import BadInputError


@dataclass(frozen=True)
class Envelope:
    """
    An event from outside.

    Attributes:
        kind: The event's type, such as `Microsoft.MachineLearningServices.ModelRegistered`.
        source: The topic, or for CloudEvents the source.
        raw: The event whole, as a mapping of JSON, in Event Grid's schema.
    """

    id: str
    kind: str
    subject: str
    time: datetime
    data: Mapping[str, Any]
    source: str
    raw: Mapping[str, Any]


def read_envelope(event: object, *, received_at: datetime | None = None) -> Envelope:
    """
    Read an event of either schema, from the trigger's object or from JSON.

    Args:
        received_at: The time of an event that has none, which a CloudEvent need not have.
    Raises: BadInputError: It has no id or no type; names what is missing.
    """
    fields = fields_of(event)
    for name in ("id", "kind"):
        if not isinstance(fields[name], str) or not fields[name]:
            raise BadInputError(f"The event has no {name}: it is neither an Event Grid event nor a CloudEvent.")
    moment = _time(fields["time"] or received_at)
    data = fields["data"] if isinstance(fields["data"], Mapping) else {}
    event_id, kind, subject, source = (_text(fields[name]) for name in ("id", "kind", "subject", "source"))
    raw = {
        "id": event_id,
        "eventType": kind,
        "subject": subject,
        "eventTime": moment.isoformat(),
        "data": fields["data"],
        "topic": source,
        "dataVersion": "",
        "metadataVersion": "1",
    }
    return Envelope(event_id, kind, subject, moment, data, source, raw)


def fields_of(event: object) -> dict[str, Any]:
    """Read the fields that both schemas have, whether they are there or not."""
    return _of_mapping(event) if isinstance(event, Mapping) else _of_object(event)


def _text(value: object) -> str:
    """Read a text. A lone surrogate, which JSON may hold, can neither be stored nor sent on."""
    return str(value or "").encode("utf-8", "replace").decode()


def _of_mapping(event: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": event.get("id"),
        "kind": event.get("eventType") or event.get("type"),
        "subject": event.get("subject"),
        "time": event.get("eventTime") or event.get("time"),
        "data": event.get("data"),
        "source": event.get("topic") or event.get("source"),
    }


def _of_object(event: object) -> dict[str, Any]:
    get_json = getattr(event, "get_json", None)
    return {
        "id": getattr(event, "id", None),
        "kind": getattr(event, "event_type", None) or getattr(event, "type", None),
        "subject": getattr(event, "subject", None),
        "time": getattr(event, "event_time", None) or getattr(event, "time", None),
        "data": get_json() if callable(get_json) else getattr(event, "data", None),
        "source": getattr(event, "topic", None) or getattr(event, "source", None),
    }


def _time(value: object) -> datetime:
    if isinstance(value, str):
        return _utc(_parsed(value))
    if isinstance(value, datetime):
        return _utc(value)
    raise BadInputError("The event has no time.")


def _parsed(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise BadInputError(f"The event's time '{text[:40]}' is no ISO 8601 time.") from None


def _utc(moment: datetime) -> datetime:
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise BadInputError(f"The event's time '{moment.isoformat()}' is out of range.") from None
