"""What Container Instances answers to a request that it does not take: as a sentence with the next step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_core.adapters.azure.container_group import ContainerOptions
from mlops_core.adapters.azure.container_states import AGAIN, PULL_ADVICE
from mlops_core.adapters.azure.failures import retry_after
from mlops_core.domain.errors import HeadraceError, PermanentError, TemporaryError
from mlops_core.ports import DeploymentRequest

if TYPE_CHECKING:
    from azure.core.exceptions import HttpResponseError

_PRECONDITION_FAILED = 412
_CAPACITY_SECONDS = 120.0
_IMAGE_SECONDS = 60.0
_WORDS = 400


@dataclass(frozen=True)
class Refusal:
    """Why a group was not made; `exists` says that another call of ours was first."""

    error: HeadraceError
    exists: bool = False


def refusal_of(answer: HttpResponseError, request: DeploymentRequest, options: ContainerOptions) -> Refusal | None:
    """
    Say what a refusal means, by its code; None for one that is nothing special.

    The codes are compared, not the status: a quota is told as 400, 409 or 429 by different parts of Azure.
    """
    code = str(getattr(answer.error, "code", "") or "").lower()
    told = " ".join(str(getattr(answer.error, "message", None) or answer.message or "").split())[:_WORDS]
    what = f"Deployment '{request.name}'"
    if answer.status_code == _PRECONDITION_FAILED or code in ("containergrouptransitioning", "containergroupexists"):
        return Refusal(TemporaryError(f"{what} is being made already."), exists=True)
    if code in ("containergroupquotareached", "quotaexceeded") or "quota" in told.lower():
        return Refusal(
            PermanentError(
                f"{what} was not made: a quota of Container Instances in '{options.location}' is reached ({told}). "
                "Delete container groups that nobody needs, or ask for more in the portal under 'Quotas', then "
                f"{AGAIN}."
            )
        )
    if code in ("resourcerequestsexceedlimit", "resourcerequestexceedlimit", "invalidresourcerequest"):
        size = f"{request.serve.cpu:g} cores and {request.serve.memory_gb:g} GB"
        return Refusal(
            PermanentError(
                f"{what} was not made: region '{options.location}' has no containers of {size} ({told}). Ask for less in "
                "'release: serve' of mlops.yaml, or deploy to another region."
            )
        )
    if code in ("inaccessibleimage", "registryerrorresponse", "imagenotfound"):
        # The image was just built, or a role just assigned: both take a while to be seen everywhere.
        message = f"{what} was not made, since its image cannot be pulled: {told} {PULL_ADVICE}"
        return Refusal(TemporaryError(message, retry_after_seconds=retry_after(answer) or _IMAGE_SECONDS))
    if code in ("serviceunavailable", "capacitynotavailable", "deploymentcapacityexceeded"):
        message = f"{what} was not made just now: '{options.location}' has no room for it ({told})."
        return Refusal(TemporaryError(message, retry_after_seconds=retry_after(answer) or _CAPACITY_SECONDS))
    if code == "dnsrecordconflict" or "dnsnamelabel" in code:
        message = f"{what} was not made: its DNS label is taken ({told}). Delete the group that holds it, then {AGAIN}."
        return Refusal(PermanentError(message))
    return None
