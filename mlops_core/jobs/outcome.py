"""The failure of a job, with the lines of its log that say why."""

from __future__ import annotations

from mlops_core.domain.errors import PermanentError


class JobFailedError(PermanentError):
    """A job did not do what it was asked to; `log_tail` has the lines that matter."""

    def __init__(self, reason: str, *, log_tail: str = "", cancelled: bool = False) -> None:
        super().__init__(reason)
        self.log_tail = log_tail
        self.cancelled = cancelled
