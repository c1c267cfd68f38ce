"""
The assembled core: what handlers are given.

Built by `bootstrap.py` from the ports; tests build it from their own. It wires the services to each other and holds no
logic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlops_core.controller import Controller, Performer
from mlops_core.ports import PushVerifier
from mlops_core.services.announce import Announcer
from mlops_core.services.intake import Intake
from mlops_core.services.policy import Policy
from mlops_core.services.queries import Queries
from mlops_core.services.reconcile import ReconcilePolicy, Reconciler
from mlops_core.services.release import ReleaseService
from mlops_core.services.routing import Router
from mlops_core.services.smoke import SmokeTester
from mlops_core.services.training import Training
from mlops_core.world import World


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes in bytes past which a request is refused."""

    webhook_bytes: int = 26_214_400
    score_bytes: int = 10_485_760


@dataclass(frozen=True, kw_only=True)
class Application:
    """The controller with its services."""

    world: World
    controller: Controller
    intake: Intake
    reconciler: Reconciler
    queries: Queries
    router: Router
    verifiers: Mapping[str, PushVerifier]
    limits: Limits


def assemble(
    world: World,
    *,
    verifiers: Mapping[str, PushVerifier],
    policy: ReconcilePolicy | None = None,
    limits: Limits | None = None,
    smoke: SmokeTester | None = None,
) -> Application:
    """Wire the services over the ports."""
    performers: dict[str, Performer] = {}
    controller = Controller(world, performers)
    training = Training(world)
    release = ReleaseService(
        world,
        take=controller.take,
        wake=lambda run_id: controller.hint(world.runs.load(run_id).value),
        smoke=smoke or SmokeTester(),
    )
    performers.update(
        {
            "decide_policy": Policy(world, controller.take).perform,
            "submit_job": training.submit,
            "cancel_job": training.cancel,
            "find_model": training.find_model,
            "judge_gates": training.judge,
            "take_release_lock": release.take_lock,
            "return_release_lock": release.return_lock,
            "deploy_version": release.deploy,
            "delete_deployment": release.delete,
            "smoke_test": release.smoke_test,
            "shift_traffic": release.shift,
            "announce": Announcer(world).perform,
        }
    )
    intake = Intake(controller)
    return Application(
        world=world,
        controller=controller,
        intake=intake,
        reconciler=Reconciler(controller, intake, release, policy or ReconcilePolicy()),
        queries=Queries(world),
        router=Router(world),
        verifiers=verifiers,
        limits=limits or Limits(),
    )
