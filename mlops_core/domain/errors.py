"""
Every exception that the core raises, sorted by what the caller should do.

Two branches tell the caller whether repeating helps: a `TemporaryError` leaves the function so that the host delivers
again, a `PermanentError` is recorded and never repeated. Errors keep what they speak of as attributes and build their
text from them: what happened, which thing, what to do.
"""

from __future__ import annotations


class HeadraceError(Exception):
    """Root of all errors that Headrace raises on purpose."""


class TemporaryError(HeadraceError):
    """Something that may well work when it is repeated: deliver again, after `retry_after_seconds` where known."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class PermanentError(HeadraceError):
    """Repeating is useless: somebody has to change something first."""


class StaleRunError(TemporaryError):
    """A record was saved by somebody else between our read and our write."""

    def __init__(self, record_id: str, *, read_version: int, found_version: int | None) -> None:
        found = "nothing" if found_version is None else str(found_version)
        super().__init__(
            f"'{record_id}' was saved by another event (read version {read_version}, found {found}). "
            "Load it again and repeat."
        )
        self.record_id = record_id
        self.read_version = read_version
        self.found_version = found_version


class DuplicateEventError(HeadraceError):
    """This event id is in the run's history already: it was taken before, nothing is left to do."""

    def __init__(self, record_id: str, event_id: str) -> None:
        super().__init__(f"Event '{event_id}' is already in the history of '{record_id}': it was taken before.")
        self.record_id = record_id
        self.event_id = event_id


class NotFoundError(PermanentError):
    """What was asked for does not exist."""

    def __init__(self, kind: str, name: str, *, advice: str) -> None:
        super().__init__(f"There is no {kind} '{name}'. {advice}")
        self.kind = kind
        self.name = name


class RefusedError(PermanentError):
    """A request cannot be met in the state that its target is in."""


class BadInputError(PermanentError):
    """What came in is not of the form that it must have; nothing was changed."""


class TooLargeError(BadInputError):
    """What came in is larger than the limit."""


class UnauthorizedError(PermanentError):
    """Whoever sent this did not prove who they are."""
