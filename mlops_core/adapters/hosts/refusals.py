"""A host's refusals as our own errors: what happened, to which thing, which right is missing, what to do."""

from __future__ import annotations

from http import HTTPStatus

from mlops_core.domain.errors import NotFoundError, PermanentError

# GitHub asks for a minute where it does not say how long ("exceeded a secondary rate limit").
_SECONDARY_SECONDS = 60.0
_SECONDARY_WORDS = ("secondary rate limit", "abuse detection")


class CannotSeeError(NotFoundError):
    """
    The host knows no such thing, or hides it from this token, which hosts do not tell apart.

    Attributes:
        empty: The host says that the repository has no commits yet.
    """

    def __init__(self, title: str, doing: str, *, needed: str, words: str) -> None:
        super().__init__(f"answer of {title} to", doing, advice="")
        advice = f"Look at the name; the token needs {needed}."
        self.empty = "empty" in words.lower()
        self.args = (f"{title} found nothing, to {doing}: it does not exist, or the token may not see it. {advice}",)


def pause_of_limit(status: int, asked: float | None, words: str) -> float | None:
    """
    Tell a limit of requests from a missing right: GitHub answers 403 to both.

    Returns: Seconds to wait; None where it is no limit.
    Source: docs.github.com, "Rate limits for the REST API", "Exceeding the rate limit".
    """
    if status != HTTPStatus.FORBIDDEN:
        return None
    if asked is not None:
        return asked
    return _SECONDARY_SECONDS if any(part in words.lower() for part in _SECONDARY_WORDS) else None


def of_answer(status: int, words: str, *, title: str, doing: str, needed: str) -> PermanentError:
    """
    Make the error of an answer that repeating would not change.

    Args:
        words: What the host said, with nothing secret in it.
        doing: What was to be done, such as "read 'mlops.yaml' of 'acme/x'".
        needed: The right that the token must have.
    """
    said = f" It says: {words}" if words and status != HTTPStatus.NON_AUTHORITATIVE_INFORMATION else ""
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.NON_AUTHORITATIVE_INFORMATION):
        return PermanentError(
            f"{title} did not take the token, to {doing}: it is wrong, has ended, or was withdrawn. Make a new one with "
            f"{needed} and put it into the settings.{said}"
        )
    if status == HTTPStatus.FORBIDDEN:
        return PermanentError(f"{title} refused to {doing}: the token has no right to it. It needs {needed}.{said}")
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE) or (status == HTTPStatus.CONFLICT and "empty" in words):
        return CannotSeeError(title, doing, needed=needed, words=words)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return PermanentError(
            f"{title} sent the wish to {doing} on to another address: the repository was renamed, or the host's address is "
            "not the right one. Add the project again under its present name, or correct the address."
        )
    return PermanentError(f"{title} refused to {doing} ({status}).{said} Correct what it names, then repeat.")
