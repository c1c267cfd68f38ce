"""
Load, advance, commit, perform: the only place where the pure core meets the world.

Taking an event is one transaction (snapshot and history row), after which hints for new effects are put on the queue.
The order matters: intent, then create by a name chosen beforehand, then record. A hint that is lost costs time only,
since the run's own list of pending effects is the truth and `services/reconcile.py` puts hints again.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from mlops_core.domain import events as ev
from mlops_core.domain.effects import Effect
from mlops_core.domain.errors import (
    DuplicateEventError,
    NotFoundError,
    PermanentError,
    RefusedError,
    StaleRunError,
    TemporaryError,
)
from mlops_core.domain.ids import EffectKey, RunId
from mlops_core.domain.limits import cut
from mlops_core.domain.machine import advance, settle
from mlops_core.domain.requests import Decision, decide
from mlops_core.domain.run import Run
from mlops_core.domain.wanted import attempts_of, failure_of
from mlops_core.ports import DeadLetter, Stored
from mlops_core.world import World

log = logging.getLogger(__name__)

# A conflict means that somebody else made progress, so repeating ends; the bound only turns a bug into an error.
_MAX_CONFLICTS = 100
# As often as a storage queue delivers a message before it is poison (host.json: maxDequeueCount).
MAX_TRIES = 5
# What a storage queue waits between two deliveries (host.json: visibilityTimeout).
_QUEUE_SECONDS = 10.0
# Who is told when to come again is given up after so many such waits, within these bounds: a role that was just assigned may
# take ten minutes to count, and a throttled subscription may ask for half an hour.
_MOST_WAITS = 15
_LEAST_PATIENCE, _MOST_PATIENCE = timedelta(minutes=15), timedelta(hours=2)

Performer = Callable[[Run, Any], Sequence[ev.Event]]


class Controller:
    """
    The run's life cycle over the ports.

    Args:
        world: The ports.
        performers: One function per kind of effect: it acts, idempotently, and returns the facts that it leads to.
    """

    def __init__(self, world: World, performers: Mapping[str, Performer]) -> None:
        self.world = world
        self._performers = performers
        self._performing: dict[tuple[RunId, EffectKey], bool] = {}
        self._lock = threading.Lock()
        # Until when effects wait. What another process heard is not in it, which costs a call too many.
        self._waits: dict[tuple[RunId, EffectKey], datetime] = {}

    def start(self, run: Run) -> bool:
        """Store a new run and ask for its first effects. Returns False when it exists: the trigger was taken before."""
        settled = settle(run)
        created = self.world.runs.create(settled)
        if created:
            log.info("run started", extra={"run_id": run.id, "trigger": run.trigger.kind})
            self.hint(settled)
        return created

    def take(self, run_id: RunId, event: ev.Event) -> Run:
        """
        Take a fact about a run. Safe to call twice.

        Raises: NotFoundError: There is no such run.
        """
        return self._commit(run_id, lambda _: event, start=self.world.runs.last_seen)

    def decide(self, run_id: RunId, decision: Decision) -> Run:
        """
        Take a person's wish about a run.

        Raises:
            NotFoundError: There is no such run.
            RefusedError: The state that the run is in does not permit it.
        """

        def event_for(run: Run) -> ev.Event:
            return decided_before(run, decision) or decide(run, decision, self.world.clock.now())

        return self._commit(run_id, event_for, start=self.world.runs.load)

    def _commit(
        self, run_id: RunId, event_for: Callable[[Run], ev.Event], *, start: Callable[[RunId], Stored[Run]]
    ) -> Run:
        """
        Take the event that is due.

        Args:
            start: Reads the run for the first try. A fact holds whatever was saved since, so what this process saw last will
                do; a person's wish is held against how the run stands.
        """
        for number in range(_MAX_CONFLICTS):
            stored = self.world.runs.load(run_id) if number else start(run_id)
            before = stored.value
            event = event_for(before)
            after = advance(before, event)
            try:
                self.world.runs.commit(
                    after,
                    read_version=stored.version,
                    event=event,
                    entry_reason=after.reason,
                    recorded_at=self.world.clock.now(),
                )
            except StaleRunError:
                continue
            except DuplicateEventError:
                return self.world.runs.load(run_id).value
            self._log_taken(before, after, event)
            self.world.telemetry.event_taken(before, after, event)
            self.hint(after, besides=before)
            return after
        raise TemporaryError(f"Run '{run_id}' was saved by others {_MAX_CONFLICTS} times in a row. It is tried again.")

    def _log_taken(self, before: Run, after: Run, event: ev.Event) -> None:
        if not log.isEnabledFor(logging.INFO):
            return
        fields = {"run_id": after.id, "event_id": event.event_id, "from": before.state, "to": after.state}
        log.info("event taken", extra=fields)

    def hint(self, run: Run, *, besides: Run | None = None) -> None:
        """Put a message per pending effect on the queue, except those that were pending before."""
        before = besides.pending if besides else ()
        for pending in run.pending:
            # `advance` leaves what was pending before as it is, so it is the same object.
            if not any(pending is known for known in before):
                self.world.queue.put(effect_message(run.id, pending.effect.key))

    def perform(self, run_id: RunId, key: EffectKey, *, tries: int = 1) -> None:
        """
        Perform an effect if it is still pending, and take the facts that it leads to.

        A further message of an effect that this very process is busy with waits for it, and finds it done as a rule:
        reconciling puts a message for each effect that takes long, and doing the same beside itself would only make it
        take longer. Nothing relies on that: another process may be busy with it too.

        Args:
            tries: The how-manieth delivery of the message this is; the last one gives up, unless the effect is young and was
                told when to come again.
        Raises: TemporaryError: Deliver the message again.
        """
        doing = (run_id, key)
        with self._lock:
            if doing in self._performing:
                self._performing[doing] = True
                return
            self._performing[doing] = False
        try:
            self._perform(run_id, key, tries)
            while self._is_asked_again(doing):
                self._perform(run_id, key, tries)
        finally:
            with self._lock:
                self._performing.pop(doing, None)

    def _is_asked_again(self, doing: tuple[RunId, EffectKey]) -> bool:
        """Tell whether another message came meanwhile; where none did, the next one is performed by whoever brings it."""
        with self._lock:
            if self._performing.pop(doing):
                self._performing[doing] = False
                return True
            return False

    def _perform(self, run_id: RunId, key: EffectKey, tries: int) -> None:
        if self._waits.get((run_id, key), self.world.clock.now()) > self.world.clock.now():
            return
        run = self.world.runs.load(run_id).value
        effect = _pending(run, key)
        if effect is None:
            return
        try:
            with self.world.telemetry.performing(run, effect):
                facts = self._performers[effect.kind](run, effect)
            for fact in facts:
                self.take(run_id, fact)
        except PermanentError as error:
            self.give_up(run_id, key, str(error))
        except TemporaryError as error:
            if self._is_to_wait(run, key, error, tries):
                return
            if tries < MAX_TRIES:
                raise
            self.give_up(run_id, key, f"tried {tries} times: {error}")

    def _is_to_wait(self, run: Run, key: EffectKey, error: TemporaryError, tries: int) -> bool:
        """
        Tell whether an effect was told when to come again, and is young enough for it.

        Its message is done with then: five deliveries would be over long before. Reconciling brings the effect back. A wait
        that is shorter than the queue's own uses up the message's tries first.
        """
        asked = error.retry_after_seconds
        if asked is None or (asked <= _QUEUE_SECONDS and tries < MAX_TRIES):
            return False
        now = self.world.clock.now()
        since = next(pending.since for pending in run.pending if pending.effect.key == key)
        patience = min(_MOST_PATIENCE, max(_LEAST_PATIENCE, _MOST_WAITS * timedelta(seconds=asked)))
        if now - since > patience:
            return False
        self._waits = {doing: until for doing, until in self._waits.items() if until > now}
        self._waits[(run.id, key)] = now + timedelta(seconds=asked)
        log.warning("effect waits, as it was asked to", extra={"run_id": run.id, "effect": key, "error": str(error)})
        return True

    def give_up(self, run_id: RunId, key: EffectKey, reason: str) -> None:
        """Record that an effect cannot be performed, and keep it as a dead letter that a person can replay."""
        run = self.world.runs.load(run_id).value
        effect = _pending(run, key)
        if effect is None:
            return
        attempt = attempts_of(run, key)
        now = self.world.clock.now()
        letter = DeadLetter(
            letter_id=f"effect-{run_id}-{key}-{attempt}".replace(":", "-"),
            kind="effect",
            subject=f"{effect.kind} of run {run_id}",
            reason=reason,
            body=effect.model_dump_json(),
            created_at=now,
            run_id=run_id,
            key=key,
        )
        self.world.dead_letters.put(letter)
        log.error("effect given up", extra={"run_id": run_id, "effect": key, "reason": reason})
        self.take(run_id, ev.EffectFailed(at=now, key=key, reason=cut(reason), attempt=attempt))

    def replay_effect(self, run_id: RunId, key: EffectKey, *, by: str) -> Run:
        """
        Ask for a failed effect to be tried again.

        Raises: RefusedError: The effect has not failed, or was asked for again already.
        """

        def event_for(run: Run) -> ev.Event:
            before = run.facts.get(ev.EffectReplayed, key)
            if before is not None and before.by == by and _pending(run, key) is not None:
                return before
            if failure_of(run, key) is None:
                raise RefusedError(f"Effect '{key}' of run '{run_id}' has not failed: there is nothing to replay.")
            return ev.EffectReplayed(at=self.world.clock.now(), key=key, attempt=attempts_of(run, key) + 1, by=by)

        return self._commit(run_id, event_for, start=self.world.runs.load)

    def exists(self, run_id: RunId) -> bool:
        """Tell whether there is a run of this id."""
        try:
            self.world.runs.load(run_id)
        except NotFoundError:
            return False
        return True


_ANSWERS: dict[str, type[ev.RunCancelled | ev.GatesWaived | ev.ReleaseApproved | ev.ReleaseRejected]] = {
    "cancel": ev.RunCancelled,
    "waive": ev.GatesWaived,
    "approve": ev.ReleaseApproved,
    "reject": ev.ReleaseRejected,
}


def decided_before(run: Run, decision: Decision) -> ev.Event | None:
    """Find the same wish of the same person: whoever repeats it because no answer came is told that it was taken."""
    fact = run.facts.get(_ANSWERS[decision.wish])
    return fact if fact is not None and (fact.by, fact.reason) == (decision.by, decision.reason) else None


def effect_message(run_id: RunId, key: EffectKey) -> str:
    """Write the queue message of a pending effect."""
    return json.dumps({"run_id": run_id, "key": key})


def _pending(run: Run, key: EffectKey) -> Effect | None:
    return next((pending.effect for pending in run.pending if pending.effect.key == key), None)
