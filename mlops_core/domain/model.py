"""
The model: one record per registered name, the second aggregate beside the run.

It says which version has the traffic, which had it before, and which run may release now. Its ledger (who served which
share from when to when, by whose decision) is appended to by the store and never read to decide anything. Methods
return a new record; the controller saves it naming the version that it read.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from mlops_core.domain.ids import ModelName, ModelVersion, ProjectName, RunId
from mlops_core.domain.values import Timestamp, Value

# Nobody goes back further; a record must stay small.
_LONGEST_TRAIL = 20


class Release(Value):
    """
    A version with the run that released it.

    Attributes:
        ordinal: Time of the push or request behind it: an older one never replaces a newer one.
    """

    version: ModelVersion
    run_id: RunId
    project: ProjectName
    ordinal: Timestamp
    since: Timestamp


class ReleaseLock(Value):
    """Which run releases now, and what; there is one rollout per model at a time."""

    run_id: RunId
    version: ModelVersion
    ordinal: Timestamp


class LedgerEntry(Value):
    """From `at` on, this version served this share of the traffic."""

    at: Timestamp
    version: ModelVersion
    traffic_weight: float = Field(ge=0, le=1)
    run_id: RunId
    reason: str


class LockAnswer(StrEnum):
    """What became of asking for the release lock."""

    TAKEN = "taken"
    BUSY = "busy"
    OUTDATED = "outdated"


class Model(Value):
    """
    The record of one registered model name.

    Attributes:
        previous: What had the traffic until the last switch, in whichever direction that went.
        trail: What a rollback goes back to, the nearest last: a release puts the champion on it, a rollback takes off
            it what it goes back over.
    """

    name: ModelName
    champion: Release | None = None
    previous: Release | None = None
    trail: tuple[Release, ...] = ()
    lock: ReleaseLock | None = None
    waiting: tuple[RunId, ...] = ()

    @property
    def before(self) -> Release | None:
        """The version before the champion, in time."""
        return self.trail[-1] if self.trail else None

    def serves(self, run_id: RunId) -> bool:
        """Tell whether this run's version has the traffic."""
        return self.champion is not None and self.champion.run_id == run_id

    def needs(self, version: ModelVersion) -> bool:
        """Tell whether the deployment of a version carries traffic or is about to."""
        in_service = self.champion is not None and self.champion.version == version
        return in_service or (self.lock is not None and self.lock.version == version)

    def with_lock(self, wanted: ReleaseLock, *, outdated: bool | None = None) -> tuple[Model, LockAnswer]:
        """
        Take the release lock for a run, or join those who wait for it.

        An older push than the champion's gets OUTDATED: it must never go over a newer one.

        Args:
            outdated: Whether the champion is newer; None where only the times of the two pushes say it.
        """
        if outdated is None:
            outdated = self.champion is not None and self.champion.ordinal > wanted.ordinal
        if self.champion and self.champion.run_id != wanted.run_id and outdated:
            return self.without_lock(wanted.run_id), LockAnswer.OUTDATED
        if self.lock is None or self.lock.run_id == wanted.run_id:
            waiting = tuple(run_id for run_id in self.waiting if run_id != wanted.run_id)
            return self.model_copy(update={"lock": wanted, "waiting": waiting}), LockAnswer.TAKEN
        if wanted.run_id in self.waiting:
            return self, LockAnswer.BUSY
        return self.model_copy(update={"waiting": (*self.waiting, wanted.run_id)}), LockAnswer.BUSY

    def without_lock(self, run_id: RunId) -> Model:
        """Let go of the lock, and of the place among those who wait."""
        waiting = tuple(other for other in self.waiting if other != run_id)
        lock = None if self.lock and self.lock.run_id == run_id else self.lock
        return self.model_copy(update={"lock": lock, "waiting": waiting})

    def with_champion(self, release: Release) -> Model:
        """
        Give all traffic to a release and keep the one before for a rollback.

        The lock stays until the run knows that it is live: repeating the shift after a crash must find it undisturbed.
        """
        return self.model_copy(
            update={"champion": release, "previous": self.champion, "trail": self._trail_before(release)}
        )

    def _trail_before(self, release: Release) -> tuple[Release, ...]:
        if self.champion is None or self.champion.version == release.version:
            return self.trail
        versions = [earlier.version for earlier in self.trail]
        if release.version in versions:
            return self.trail[: versions.index(release.version)]
        return (*self.trail, self.champion)[-_LONGEST_TRAIL:]
