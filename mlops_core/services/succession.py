"""
Which of two pushes to a branch came later, when the host's clock does not say: hosts tell whole seconds, or nothing.

Where one push says that it followed the other (`before`), that counts more than any clock: some hosts tell no time, so
that a delivery which came late would count as late, and a push that was found without its webhook has our own time.
Of a host that tells no times, the push that the branch is at is the newer. Others of one second are ordered by the chain of
their commits, which may lead over pushes whose runs have ended by now.
Called by the policy and when the release lock is asked for. And which version a rollback goes back to.
"""

from __future__ import annotations

import logging

from mlops_core.domain.errors import HeadraceError, NotFoundError, RefusedError
from mlops_core.domain.ids import ModelVersion, RunId, run_of_push
from mlops_core.domain.model import Model
from mlops_core.domain.run import Run
from mlops_core.world import World

log = logging.getLogger(__name__)

# More pushes than this to one branch within a second are no person's.
_MAX_CHAIN = 200
# Their webhooks do not say when the push was, so its time is when it was heard of (docs/webhooks.md).
_WITHOUT_PUSH_TIMES = frozenset({"gitlab", "gitea", "bitbucket"})


def is_newer(world: World, run: Run, other: Run) -> bool:
    """Tell whether `run` was triggered after `other`."""
    if _follows(run, other) or _follows(other, run):
        return _follows(run, other)
    head = _head_of_both(world, run, other)
    if head is not None:
        return head is run
    if run.trigger.ordinal != other.trigger.ordinal:
        return run.trigger.ordinal > other.trigger.ordinal
    link: Run | None = run
    for _ in range(_MAX_CHAIN):
        if link is None or link.trigger.ordinal != other.trigger.ordinal:
            return False
        if _follows(link, other):
            return True
        link = _run_before(world, link)
    return False


def _follows(run: Run, other: Run) -> bool:
    """Tell whether a push says that its branch was at the other push's commit before."""
    first, second = other.trigger, run.trigger
    on_one_branch = first.kind == second.kind == "push" and first.branch == second.branch
    return on_one_branch and second.before is not None and second.before == first.commit


def _head_of_both(world: World, run: Run, other: Run) -> Run | None:
    """
    Ask a host that tells no times which of two pushes its branch is at, if at one of them.

    Whoever tells of pushes one by one has the last word for as long as it answers; without an answer the times must do.
    """
    first, second = run.trigger, other.trigger
    if not first.kind == second.kind == "push" or first.branch != second.branch or run.project != other.project:
        return None
    try:
        record = world.projects.get(run.project)
        if record.host not in _WITHOUT_PUSH_TIMES:
            return None
        head = world.source_of(record).head(record, first.branch)
    except HeadraceError as error:
        log.warning("the head of a branch is not known", extra={"run_id": run.id, "error": str(error)})
        return None
    return next((each for each in (run, other) if head is not None and each.trigger.commit == head), None)


def _run_before(world: World, run: Run) -> Run | None:
    if run.trigger.before is None:
        return None
    try:
        return world.runs.load(run_of_push(run.project, run.trigger.before)).value
    except NotFoundError:
        return None


def run_before(world: World, model: Model) -> Run:
    """
    Find the run that released the version before the champion.

    Raises: RefusedError: There is none.
    """
    if model.before is None:
        champion = model.champion.version if model.champion else "-"
        raise RefusedError(
            f"There is no earlier version of model '{model.name}' to go back to: version {champion} is the first in line. "
            f"To go to another that was in service: headrace rollback {model.name} --to VERSION "
            f"(versions: headrace models {model.name})."
        )
    return world.runs.load(model.before.run_id).value


def run_of_released(world: World, model: Model, version: ModelVersion) -> Run:
    """
    Find the run that brought a version into service.

    Raises: RefusedError: None did, or it is in service now.
    """
    if model.champion is not None and model.champion.version == version:
        raise RefusedError(f"Version {version} of model '{model.name}' is in service already.")
    run_id = _released_by(world, model, version)
    if run_id is None:
        raise RefusedError(
            f"Version {version} of model '{model.name}' was never in service, and a rollback passes no gates. Versions: "
            f"headrace models {model.name}."
        )
    return world.runs.load(run_id).value


def _released_by(world: World, model: Model, version: ModelVersion) -> RunId | None:
    """By the ledger: the newest run of the version may be one that failed to bring it back."""
    cursor: str | None = None
    while True:
        page = world.models.ledger(model.name, cursor=cursor)
        for entry in page.items:
            if entry.version == version and entry.traffic_weight > 0:
                return entry.run_id
        if page.cursor is None:
            return None
        cursor = page.cursor
