"""
What the SDKs raise, as our own errors: whether repeating helps, after how long, and what to do.

Nothing of an SDK leaves an adapter. The SDKs' own retries (see `RETRIES`) are the one layer that repeats within a call,
for tables and queues `storage_calls.py` is; what still fails is a `TemporaryError`, and the queue or Event Grid delivers
again. So is what Azure wants to be asked for again much later: the SDKs would sleep as long as `Retry-After` says, an hour
where a subscription is throttled, in a function that is paid meanwhile and ended after ten minutes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from mlops_core.domain.errors import HeadraceError, NotFoundError, PermanentError, TemporaryError

if TYPE_CHECKING:
    from azure.core.exceptions import HttpResponseError
    from azure.core.pipeline import PipelineResponse

_TIMES: dict[str, Any] = {
    "retry_total": 2,
    "retry_connect": 2,
    "retry_read": 2,
    "retry_status": 2,
    "connection_timeout": 5,
    "read_timeout": 60,
}
_LONGEST_WAIT_SECONDS = 10.0


class AskedToWaitError(Exception):
    """Azure asks to wait for longer than a function call does; `azure_calls` makes a `TemporaryError` of it."""

    def __init__(self, answer: HttpResponseError) -> None:
        super().__init__(str(answer))
        self.answer = answer


def _leave_long_waits(response: PipelineResponse[Any, Any]) -> None:
    """End a call whose repeat has to wait for long: azure-core's retries do not know what is raised here."""
    from azure.core.exceptions import HttpResponseError

    if response.http_response.status_code < HTTPStatus.BAD_REQUEST:
        return
    asked = _asked_seconds(response.http_response.headers)
    if asked is not None and asked > _LONGEST_WAIT_SECONDS:
        raise AskedToWaitError(HttpResponseError(response=response.http_response))


RETRIES: dict[str, Any] = {
    **_TIMES,
    "retry_backoff_factor": 0.4,
    "retry_backoff_max": 5,
    "raw_response_hook": _leave_long_waits,
}
"""
Options of azure-core's policies: at most three tries of a call, `Retry-After` kept, short enough for a function.
Source: azure.core.pipeline.policies.RetryPolicy, which the hook of CustomHookPolicy is within.
"""
BLOB_RETRIES: dict[str, Any] = {**_TIMES, "initial_backoff": 0.4, "increment_base": 1, "random_jitter_range": 0.2}
"""
The same for blobs, whose policy is another one and would wait 15 seconds before its first repeat.
Source: azure.storage.blob.ExponentialRetry.
"""
_REPEAT = frozenset({408, 429, 500, 502, 503, 504})
_WORDS = 600


@contextmanager
def azure_calls(doing: str) -> Iterator[None]:
    """
    Turn what the SDKs raise within the block into our own errors.

    Args:
        doing: What is being done, such as "submit job 'x'": the error's sentence begins with it.
    Raises: TemporaryError, NotFoundError, PermanentError.
    """
    from azure.core.exceptions import (
        AzureError,
        ClientAuthenticationError,
        HttpResponseError,
        ResourceNotFoundError,
        ServiceRequestError,
        ServiceResponseError,
    )

    try:
        yield
    except HeadraceError:
        raise
    except AskedToWaitError as wait:
        raise _of_response(doing, wait.answer) from wait.answer
    except ClientAuthenticationError as error:
        raise _of_identity(doing, error) from error
    except ResourceNotFoundError as error:
        raise NotFoundError("thing that was asked for", doing, advice=f"Azure says: {_words(error)}") from error
    except HttpResponseError as error:
        raise _of_response(doing, error) from error
    except (ServiceRequestError, ServiceResponseError) as error:
        raise TemporaryError(f"{_begin(doing)} got no answer from Azure: {_words(error)}") from error
    except AzureError as error:
        # azure-ai-ml's own findings, among them that a list of versions is empty.
        if getattr(getattr(error, "error_type", None), "name", "") == "RESOURCE_NOT_FOUND":
            raise NotFoundError("thing that was asked for", doing, advice=f"Azure says: {_words(error)}") from error
        raise PermanentError(f"{_begin(doing)} did not work: {_words(error)}") from error


def _of_identity(doing: str, error: HttpResponseError) -> HeadraceError:
    if error.status_code in _REPEAT:
        return _temporary(doing, error)
    if error.status_code is None:
        # Nobody refused it. The identity's endpoint is away for a moment now and then; where there is no identity at all,
        # tries run out.
        return TemporaryError(
            f"{_begin(doing)} did not come to it: the controller's identity got no token ({_words(error)}). Where that "
            "stays so, see that the function app has its identity and that HEADRACE_CLIENT_ID is the identity's."
        )
    return PermanentError(
        f"{_begin(doing)} was refused: the controller's identity got no token or has no right ({_words(error)}). "
        "See 'Rights' in docs/azure.md for the roles that it needs."
    )


def _of_response(doing: str, error: HttpResponseError) -> HeadraceError:
    if error.status_code is None or error.status_code in _REPEAT:
        return _temporary(doing, error)
    if error.status_code == HTTPStatus.FORBIDDEN:
        return PermanentError(
            f"{_begin(doing)} was refused: the controller's identity has no right to it ({_words(error)}). "
            "See 'Rights' in docs/azure.md for the roles that it needs; a new role takes up to ten minutes."
        )
    return PermanentError(f"{_begin(doing)} was refused by Azure ({error.status_code}): {_words(error)}")


def _temporary(doing: str, error: HttpResponseError) -> TemporaryError:
    return TemporaryError(
        f"{_begin(doing)} did not work just now ({error.status_code}): {_words(error)}",
        retry_after_seconds=retry_after(error),
    )


def retry_after(error: HttpResponseError) -> float | None:
    """Read how long Azure asks to wait, in seconds; it may be told in seconds, milliseconds or as a date (RFC 9110)."""
    return None if error.response is None else _asked_seconds(error.response.headers)


def _asked_seconds(headers: Mapping[str, str]) -> float | None:
    for name, per_second in (("retry-after-ms", 1000), ("x-ms-retry-after-ms", 1000), ("retry-after", 1)):
        text = headers.get(name)
        if not text:
            continue
        try:
            return max(0.0, float(text) / per_second)
        except ValueError:
            return _seconds_until(text)
    return None


def _seconds_until(date: str) -> float | None:
    try:
        return max(0.0, (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _begin(doing: str) -> str:
    return doing[:1].upper() + doing[1:]


def _words(error: Exception) -> str:
    text = str(getattr(error, "message", None) or error)
    # azure-ai-ml wraps each finding in a page of general advice, with colours.
    findings = re.findall(r"\(x\) (.*)", re.sub(r"\x1b\[[0-9;]*m", "", text))
    return " ".join((" ".join(findings) or text).split())[:_WORDS]
