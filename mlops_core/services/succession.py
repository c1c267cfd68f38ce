"""
Which of two pushes to a branch came later, when the host's clock does not say: hosts tell whole seconds.

Pushes of one second are ordered by the chain of their commits (`before`), which may lead over pushes whose runs have
ended by now. Called by the policy and when the release lock is asked for.
"""

from __future__ import annotations

from mlops_core.domain.errors import NotFoundError
from mlops_core.domain.ids import run_of_push
from mlops_core.domain.run import Run
from mlops_core.world import World

# More pushes than this to one branch within a second are no person's.
_MAX_CHAIN = 200


def is_newer(world: World, run: Run, other: Run) -> bool:
    """Tell whether `run` was triggered after `other`."""
    if run.trigger.ordinal != other.trigger.ordinal:
        return run.trigger.ordinal > other.trigger.ordinal
    link: Run | None = run
    for _ in range(_MAX_CHAIN):
        if link is None or link.trigger.ordinal != other.trigger.ordinal:
            return False
        if link.trigger.before is not None and link.trigger.before == other.trigger.commit:
            return True
        link = _run_before(world, link)
    return False


def _run_before(world: World, run: Run) -> Run | None:
    if run.trigger.before is None:
        return None
    try:
        return world.runs.load(run_of_push(run.project, run.trigger.before)).value
    except NotFoundError:
        return None
