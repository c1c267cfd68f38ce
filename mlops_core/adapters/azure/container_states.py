"""
From what Azure knows of a container group to the port's four states, with a sentence that says what to do.

Pure: the deployer reads the group and asks the app, this decides. A state that is not known is taken as under way, since
calling it failed would end a release, or a live deployment, for a word that Azure added.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

log = logging.getLogger(__name__)

State = Literal["absent", "starting", "ready", "failed"]

_UNDER_WAY = frozenset({"pending", "creating", "updating", "accepted", "repairing", "unhealthy", "provisioning"})
_GOING = frozenset({"deleting", "deleted"})
_ENDED_BADLY = frozenset({"failed", "canceled", "cancelled"})
_PULL_EVENTS = ("failed to pull", "errimagepull", "imagepullbackoff", "inaccessibleimage", "back-off pulling")
# A role that was just assigned takes minutes to reach the registry, so the first refusals of a pull prove nothing.
_MOST_PULLS = 3
_MOST_STARTS = 3
# Whoever ends within this time after a start did not serve, it broke at its start.
_SHORT_LIFE = timedelta(minutes=3)
_WORDS = 500
# A release that was given up is a dead letter; one whose container broke later has to come from a new model.
AGAIN = "release it again: headrace dead-letters replays what was given up; where nothing is listed, headrace retrain"


@dataclass(frozen=True)
class Finding:
    """
    What a group's description says by itself.

    Attributes:
        running: Its container runs, so that its app can be asked whether it is ready.
        broken: Its container ended, so that its log is worth reading.
        new: Its container never ran, so that it matters since when it was asked for.
    """

    state: State
    reason: str = ""
    running: bool = False
    broken: bool = False
    new: bool = False


def judge(group: Any) -> Finding:
    """Read a container group as the management client describes it."""
    provisioning = str(group.provisioning_state or "").lower()
    events = [
        *_events(group.instance_view),
        *(event for each in group.containers for event in _events(each.instance_view)),
    ]
    if provisioning in _GOING:
        return Finding("absent")
    pull = _pull_failure(group, events)
    if pull is not None:
        return pull
    if provisioning in _ENDED_BADLY:
        return Finding("failed", f"Azure could not make its container group: {_last_words(group, events)}", broken=True)
    view = str(getattr(group.instance_view, "state", None) or "").lower()
    if view == "stopped":
        return Finding(
            "failed", f"Somebody stopped container group '{group.name}'. Start it again in Azure, or {AGAIN}."
        )
    if provisioning and provisioning != "succeeded" and provisioning not in _UNDER_WAY:
        log.warning("unknown provisioning state, taken as under way", extra={"state": provisioning[:60]})
    return _of_container(group, provisioning)


def started_at(group: Any) -> datetime | None:
    """Read since when its container runs; None where Azure does not say."""
    seen = group.containers[0].instance_view if group.containers else None
    moment = getattr(getattr(seen, "current_state", None), "start_time", None)
    return moment if isinstance(moment, datetime) and moment.tzinfo is not None else None


def _of_container(group: Any, provisioning: str) -> Finding:
    seen = group.containers[0].instance_view if group.containers else None
    current = getattr(seen, "current_state", None)
    word = str(getattr(current, "state", None) or "").lower()
    loop = _crash_loop(seen)
    if word != "running" and loop is not None:
        return Finding("failed", loop, broken=True)
    if word == "running":
        return Finding("starting", loop or "It runs, but is not ready yet.", running=True, broken=loop is not None)
    if word == "terminated":
        code = getattr(current, "exit_code", None)
        return Finding("starting", f"Its container ended with exit code {code} and is started again.", broken=True)
    if provisioning == "succeeded" and seen is None:
        # Container Instances answers now and then without the view of its instance; the app itself knows best.
        return Finding("starting", "Azure does not say whether it runs.", running=True)
    detail = str(getattr(current, "detail_status", None) or "").strip()
    told = f" ({detail[:_WORDS]})" if detail else ""
    if getattr(seen, "restart_count", None) or getattr(seen, "previous_state", None) is not None:
        return Finding("starting", f"Its container is started again{told}.")
    return Finding("starting", f"Its container group is being made{told}.", new=True)


def _crash_loop(seen: Any) -> str | None:
    starts = int(getattr(seen, "restart_count", None) or 0)
    current, before = getattr(seen, "current_state", None), getattr(seen, "previous_state", None)
    detail = str(getattr(current, "detail_status", None) or "")
    lasted = _lasted(current) or _lasted(before)
    short = lasted is not None and lasted < _SHORT_LIFE
    if starts < _MOST_STARTS or not (short or "crashloop" in detail.lower()):
        return None
    code = next(
        (state.exit_code for state in (current, before) if state is not None and state.exit_code is not None), None
    )
    told = "" if code is None else f", last with exit code {code}"
    return (
        f"Its container ended soon after each of {starts} restarts{told}. "
        "Its log says why; correct the model, its environment or its scoring script, and release again."
    )


def _lasted(state: Any) -> timedelta | None:
    start, end = getattr(state, "start_time", None), getattr(state, "finish_time", None)
    return end - start if start is not None and end is not None else None


def _pull_failure(group: Any, events: list[Any]) -> Finding | None:
    pulled = [event for event in events if "successfully pulled" in str(event.message or "").lower()]
    failures = [event for event in events if _is_pull_failure(event)]
    if not failures or pulled:
        return None
    image = group.containers[0].image if group.containers else "?"
    times = max(
        sum(int(event.count or 1) for event in failures if str(event.name) == name) for name in _names(failures)
    )
    # "Back-off pulling" only says that it waits; what it waits for is in the event before.
    telling = [event for event in failures if not str(event.message or "").lower().startswith("back-off")] or failures
    told = " ".join(str(telling[-1].message or "").split())[:_WORDS]
    if times < _MOST_PULLS and str(group.provisioning_state or "").lower() not in _ENDED_BADLY:
        return Finding(
            "starting", f"Its image '{image}' could not be pulled yet, which is tried again: {told}", new=True
        )
    return Finding("failed", f"Its image '{image}' cannot be pulled: {told} {PULL_ADVICE}")


PULL_ADVICE = (
    "Check that the image is in the registry, that the serving identity has the role 'AcrPull' on it, and that the "
    f"registry lets Container Instances in; then {AGAIN}."
)


def _is_pull_failure(event: Any) -> bool:
    text = f"{event.name or ''} {event.message or ''}".lower()
    return any(word in text for word in _PULL_EVENTS)


def _names(events: Iterable[Any]) -> set[str]:
    return {str(event.name) for event in events}


def _events(view: Any) -> list[Any]:
    return list(getattr(view, "events", None) or [])


def _last_words(group: Any, events: list[Any]) -> str:
    told = [
        f"{event.name}: {event.message}"
        for event in events
        if event.message and event.name not in ("Pulling", "Pulled")
    ]
    words = " ".join((told[-1] if told else "it gives no reason").split())[:_WORDS]
    return f"{words}. See container group '{group.name}' in the portal, and {AGAIN}."
