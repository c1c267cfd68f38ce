"""What a job is asked to do, as it lies in its folder; and how it says what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mlops_core.domain.project import ProjectSpec
from mlops_core.domain.values import Value

REQUEST = "request.json"
STATUS = "status.json"
LOG = "log.txt"
PROGRESS = "progress.jsonl"
# Why a job is cancelled, where whoever cancels it says so.
WHY = "cancelled-because.txt"
CANCELLED = "cancelled while it ran"


class JobOrder(Value):
    """
    The content of `request.json`.

    Attributes:
        repository: Path of the bare repository.
        manifest: Path of `mlops.yaml` in the repository; its folder is the project's root.
        caches: Folder shared by all jobs: sources, plans, environments, reusable steps.
        events_url: Where the job tells of its end, as Azure ML would.
        events_key: File with the key that it shows there; the key itself is in no request and no environment.
        resume_from: Folder of the job whose finished steps are taken over.
        reuse: Whether steps that did not change may be taken over from any earlier job.
        at_once: Jobs of one stage that work at the same time; the others wait.
    """

    name: str
    stage: Literal["build", "train"]
    project: str
    repository: str
    commit: str
    manifest: str
    spec: ProjectSpec
    caches: str
    tracking_uri: str | None = None
    events_url: str | None = None
    events_key: str | None = None
    resume_from: str | None = None
    reuse: bool = True
    cores: int = 2
    at_once: int = 2

    @property
    def source_folder(self) -> Path:
        """Where the commit's files are: shared by the jobs of one commit."""
        return Path(self.caches) / "sources" / self.project / self.commit

    @property
    def assets_folder(self) -> Path:
        """Where the data is that steps registered by name: beside the caches, since nothing makes it again."""
        return Path(self.caches).parent / "assets"

    @property
    def project_root(self) -> Path:
        """The folder of `mlops.yaml`: what its paths start at."""
        return self.source_folder / Path(self.manifest).parent


class JobReport(Value):
    """The content of `status.json`: how the job ended."""

    outcome: Literal["succeeded", "failed", "cancelled"]
    reason: str
    log_tail: str = ""
    started_at: float
    ended_at: float
