"""
Identifiers as distinct types, so that a type checker catches a swap.

All are plain text at run time. Ids of runs and jobs are deterministic: the same trigger gives the same run, the same
run and stage the same job, which is what makes a repeated effect harmless.
"""

from __future__ import annotations

import hashlib
import re
from typing import NewType

RunId = NewType("RunId", str)
ProjectName = NewType("ProjectName", str)
ModelName = NewType("ModelName", str)
ModelVersion = NewType("ModelVersion", str)
CommitId = NewType("CommitId", str)
EventId = NewType("EventId", str)
EffectKey = NewType("EffectKey", str)
JobName = NewType("JobName", str)
DeploymentName = NewType("DeploymentName", str)

# Enough of a SHA-1 that two commits of one project do not meet: git itself shows 12 for the Linux kernel.
_COMMIT_LETTERS = 12
# The length of a DNS label (RFC 1035), which a container group's name must be.
_LABEL_LETTERS = 63


def run_of_push(project: ProjectName, commit: CommitId) -> RunId:
    """Name the run of a pushed commit."""
    return RunId(f"{project}-{commit[:_COMMIT_LETTERS]}")


def run_of_push_to(project: ProjectName, commit: CommitId, branch: str) -> RunId:
    """Name the run of a commit that was pushed to another branch before, such as a merge by fast-forward."""
    return RunId(f"{run_of_push(project, commit)}-{short_digest(branch)}")


def run_of_request(project: ProjectName, kind: str, request_id: str) -> RunId:
    """Name the run of a person's request, such as a retrain or a rollback."""
    return RunId(f"{project}-{kind}-{short_digest(request_id)}")


def run_of_version(project: ProjectName, model: ModelName, version: ModelVersion) -> RunId:
    """Name the run of a model version that was registered outside of any run."""
    return RunId(f"{project}-version-{short_digest(f'{model}:{version}')}")


def job_of_run(run_id: RunId, stage: str) -> JobName:
    """Name the job of a run's stage. Chosen before submitting, so that a second submit finds the first."""
    return JobName(f"{run_id}-{stage}")


def deployment_of_version(model: ModelName, version: ModelVersion) -> DeploymentName:
    """
    Name the deployment of a model version.

    Returns: lower-case letters, digits and hyphens only, at most 63 characters, as container groups want it; where that
    shortens or changes the name, a digest of the original keeps two models apart.
    """
    plain = f"{model}-v{version}"
    name = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
    if name != plain or len(name) > _LABEL_LETTERS:
        name = f"{name[:52].strip('-')}-{short_digest(plain)}"
    return DeploymentName(name)


def short_digest(text: str) -> str:
    """Return the first 10 hexadecimal digits of a text's SHA-256: for names, never for security."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]
