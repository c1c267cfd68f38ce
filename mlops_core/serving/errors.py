"""
What can go wrong between a request and its answer, with the HTTP status each becomes.

Own classes because the app may not import the controller's. `kind` is the label under which `/metrics` counts;
`body()` is what the client reads.
"""

from __future__ import annotations

from typing import Any


class ServingError(Exception):
    """Root of the scoring app's errors; also raised where the app cannot start."""


class ModelLoadError(ServingError):
    """The model cannot be loaded; its text is shown at `/health/ready` and ends the process."""


class ScoringError(ServingError):
    """A request that gets an error as its answer."""

    status = 400
    kind = "bad_request"
    retry_after_seconds: int | None = None

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details

    def body(self) -> dict[str, Any]:
        """Give the JSON body of the answer: a sentence, the kind, and what helps to find the place."""
        return {"error": str(self), "kind": self.kind, **self.details}


class BadBodyError(ScoringError):
    """The body is no JSON, or has none of the known forms."""

    kind = "bad_body"


class BadInputError(ScoringError):
    """The body is well formed, and the model's signature refuses what is in it."""

    status = 422
    kind = "bad_input"


class BodyTooLargeError(ScoringError):
    """The body is over the limit."""

    status = 413
    kind = "too_large"


class ContentTypeError(ScoringError):
    """The body is not declared as JSON."""

    status = 415
    kind = "content_type"


class NotReadyError(ScoringError):
    """The model is still loading, failed to load, or the process is stopping."""

    status = 503
    kind = "not_ready"
    retry_after_seconds = 1


class OverloadedError(ScoringError):
    """More requests wait than the queue takes."""

    status = 503
    kind = "overloaded"
    retry_after_seconds = 1


class ScoringTimeoutError(ScoringError):
    """The prediction took longer than a request may wait."""

    status = 504
    kind = "timeout"


class ModelRaisedError(ScoringError):
    """The model raised; the trace is in the log under the same error id."""

    status = 500
    kind = "model_raised"

    def __init__(self, error_id: str) -> None:
        super().__init__(
            f"The model could not answer this request. The log has the reason under error id '{error_id}'.",
            error_id=error_id,
        )
