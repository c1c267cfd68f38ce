"""
Tells the controller of new model versions, in the words of Azure ML: `ModelRegistered` events to the local topic.

It asks the registry once a second, rather than have MLflow call a webhook: docs/decisions/mlflow-registry-events.md
has the trial. The cursor, one mark per model name, is saved after the event was taken: a crash between the two repeats
the event under the same id, and loses none.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops_core.adapters.local.durable_files import read_record, write_record
from mlops_core.adapters.mlflow_api import MlflowApi
from mlops_core.domain.errors import HeadraceError

_log = logging.getLogger(__name__)

EVENT_TYPE = "Microsoft.MachineLearningServices.ModelRegistered"
TOPIC = "azureml"

# A look at the newest page is enough while clocks behave; now and then all pages are read, for when one did not.
_LOOKS_PER_FULL_READ = 300
_POLL_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 15.0

Json = Mapping[str, Any]
Publish = Callable[[Sequence[Json]], None]


class RegistryWatcher:
    """Finds model versions that were not told of yet, and tells of them."""

    def __init__(self, api: MlflowApi, *, cursor: Path, publish: Publish) -> None:
        """
        Remember where to look and whom to tell.

        Args:
            cursor: File that keeps what was told; its folder must exist.
            publish: Takes Event Grid events, as a topic does; raises `TemporaryError` when it could not.
        """
        self._api = api
        self._cursor = cursor
        self._publish = publish
        self._looks = 0

    def watch(self, stop: threading.Event) -> None:
        """Look until told to stop; with growing pauses while registry or topic do not answer."""
        pause = _POLL_SECONDS
        while not stop.wait(pause):
            try:
                self.look()
                pause = _POLL_SECONDS
            except HeadraceError as error:
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
                _log.warning("Registry was not read", extra={"reason": str(error), "pause_seconds": pause})

    def look(self) -> int:
        """
        Tell of what is new, oldest first; return how many versions that were.

        Raises: TemporaryError: Registry or topic did not answer; what was told is kept.
        """
        marks = read_record(self._cursor) or {}
        everything = self._looks % _LOOKS_PER_FULL_READ == 0
        fresh = self._untold(marks, everything=everything)
        for entry in sorted(fresh, key=lambda entry: (_created(entry), int(entry["version"]))):
            self._publish([model_registered_event(entry)])
            marks[entry["name"]] = {
                "version": int(entry["version"]),
                "created": max(_created(entry), _created_mark(marks, entry)),
            }
            write_record(self._cursor, marks)
        self._looks += 1
        return len(fresh)

    def _untold(self, marks: Mapping[str, Any], *, everything: bool) -> list[Json]:
        found: list[Json] = []
        query = {"order_by": "creation_timestamp DESC"}
        for page in self._api.pages("model-versions/search", query, items="model_versions"):
            fresh = [entry for entry in page if not _was_told(marks, entry)]
            found += fresh
            if not everything and len(fresh) < len(page):
                break
        return found


def model_registered_event(entry: Json) -> dict[str, Any]:
    """
    Translate a model version of MLflow into the event that Azure ML sends (Event Grid schema).

    Returns: An event whose id depends on the version only, so that a repetition is known as one.
    """
    name, version = str(entry["name"]), str(entry["version"])
    created = _created(entry)
    tags = {pair["key"]: pair.get("value", "") for pair in entry.get("tags", [])}
    properties = {"source": str(entry.get("source", "")), "runId": str(entry.get("run_id") or "")}
    return {
        "id": f"mlflow-{name}-{version}-{created}",
        "topic": f"headrace/{TOPIC}",
        "subject": f"models/{name}:{version}",
        "eventType": EVENT_TYPE,
        "eventTime": datetime.fromtimestamp(created / 1000, UTC).isoformat().replace("+00:00", "Z"),
        "data": {"ModelName": name, "ModelVersion": version, "ModelTags": tags, "ModelProperties": properties},
        "dataVersion": "",
        "metadataVersion": "1",
    }


def _was_told(marks: Mapping[str, Any], entry: Json) -> bool:
    """
    Compare a version with the mark of its model.

    Numbers rise within a model. One that is not above the mark is new only if it is younger: its model was deleted
    and registered anew.
    """
    mark = marks.get(entry["name"])
    if mark is None:
        return False
    return int(entry["version"]) <= int(mark["version"]) and _created(entry) <= int(mark["created"])


def _created(entry: Json) -> int:
    return int(entry["creation_timestamp"])


def _created_mark(marks: Mapping[str, Any], entry: Json) -> int:
    return int(marks.get(entry["name"], {}).get("created", 0))
