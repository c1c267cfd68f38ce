"""
Build and training jobs on Azure ML, through its genuine client.

A job is found before it is made, by its name chosen beforehand; where two race, Azure ML itself knows the name already, and
the loser finds the winner's. Azure ML sends no event for what failed or was cancelled, so `status` is asked by reconciling.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx

from mlops_core.adapters.azure.assets import set_up_assets
from mlops_core.adapters.azure.failures import azure_calls
from mlops_core.adapters.azure.signed_logs import tail_of
from mlops_core.adapters.azure.source import CommitFiles
from mlops_core.adapters.azure.submission import (
    TIMEOUT_TAG,
    check,
    pipeline_job,
    tests_environment,
    tests_job,
)
from mlops_core.adapters.azure.workspace import Workspace
from mlops_core.domain.errors import NotFoundError, PermanentError
from mlops_core.domain.events import JobOutcome
from mlops_core.domain.ids import JobName
from mlops_core.pipelines.log_tail import cut
from mlops_core.ports import Clock, JobProgress, JobRequest, JobStatus

if TYPE_CHECKING:
    from azure.ai.ml.entities import Job

log = logging.getLogger(__name__)

_OUTCOMES: dict[str, JobOutcome] = {
    "Completed": "succeeded",
    "Finished": "succeeded",
    "Failed": "failed",
    "NotResponding": "failed",
    "Canceled": "cancelled",
}
_UNDER_WAY = frozenset(
    {"NotStarted", "Starting", "Provisioning", "Preparing", "Queued", "Running", "Finalizing", "CancelRequested",
     "Paused", "Unknown", "Scheduled", "None"}
)  # fmt: skip
_LOG_SECONDS = 20.0
_CHUNK_BYTES = 65_536
_MOST_CHILDREN = 500
_DEEPEST_NESTING = 5
_WORDS = 400


class AzureMlJobRunner:
    """The `JobRunner` of the Azure backend."""

    def __init__(
        self, workspace: Workspace, files: CommitFiles, clock: Clock, *, http: httpx.Client | None = None
    ) -> None:
        """
        Run jobs in a workspace.

        Args:
            http: Reads logs from storage, by addresses that carry their own right.
        """
        self._workspace = workspace
        self._files = files
        self._clock = clock
        self._given_http = http

    @functools.cached_property
    def _http(self) -> httpx.Client:
        """Make the client at the first log: reading the trusted certificates takes longer than a webhook."""
        return self._given_http or httpx.Client(timeout=_LOG_SECONDS)

    def submit(self, request: JobRequest) -> JobStatus | None:
        """
        Submit a job; the same name again finds the first.

        Returns: That all is done, for a build that declares no tests: its assets are set up and nothing is left to run.
        Raises: BadInputError: The commit cannot be submitted; names everything that is wrong. TemporaryError.
        """
        if self._find(request.name) is not None:
            return None
        with self._files.project_root(request.project, request.commit) as root:
            check(root, request)
            compute = self._workspace.options.compute
            if request.stage == "build":
                set_up_assets(self._workspace, root, request)
                if request.spec.build.test is None:
                    return JobStatus(request.name, "succeeded", "checked and set up; no tests declared")
                job: Job = tests_job(root, request, tests_environment(root, request), compute=compute)
            else:
                job = pipeline_job(root, request, compute=compute)
            self._create(job, request.name)
        return None

    def status(self, name: JobName) -> JobStatus | None:
        """Ask for a job; None when the workspace never had one of this name."""
        job = self._find(name)
        if job is None:
            return None
        outcome = self._outcome(name, _word(job.status))
        started = _created_at(job)
        if outcome is None:
            return self._timed_out(name, job, started) or JobStatus(name, None, started_at=started)
        reason, tail = self._failure(name, job) if outcome == "failed" else ("", "")
        return JobStatus(name, outcome, reason, tail, started, None)

    def cancel(self, name: JobName) -> None:
        """Stop a job; Azure ML stops the steps of a pipeline with it."""
        job = self._find(name)
        if job is None or self._outcome(name, _word(job.status)) is not None:
            return
        with azure_calls(f"cancelling job '{name}'"):
            self._begin_cancel(name)

    def progress(self, name: JobName, *, after: int = 0) -> Sequence[JobProgress]:
        """
        Tell of the steps that ended, in the order in which they were made.

        A line's number is its step's place, so a line is told only when all before it are: none is passed over.
        """
        lines: list[JobProgress] = []
        for place, child in enumerate(self._children(name), 1):
            outcome = self._outcome(str(child.name), _word(child.status))
            if outcome is None:
                break
            mark = "✓" if outcome == "succeeded" else "✗"
            shown = child.display_name or child.name
            lines.append(JobProgress(place, _created_at(child) or self._clock.now(), f"{mark} {shown}", "stage"))
        return [line for line in lines if line.sequence > after]

    def log(self, name: JobName) -> Iterator[bytes]:
        """Read a job's logs, its steps' after its own. Raises NotFoundError."""
        job = self._find(name)
        if job is None:
            raise NotFoundError("log of job", name, advice="The job was not submitted yet.")
        for found in [job, *self._children(name)]:
            each, ended = str(found.name), self._outcome(name, _word(found.status)) is not None
            for path, address in _logs_of(self._details(each), ended=ended):
                yield f"\n--- {each}: {path}\n".encode()
                yield from self._read(address)

    def _find(self, name: str) -> Any:
        try:
            with azure_calls(f"reading job '{name}'"):
                return self._workspace.client.jobs.get(name)
        except NotFoundError:
            return None

    def _create(self, job: Job, name: str) -> None:
        from azure.ai.ml.exceptions import MlException
        from azure.core.exceptions import HttpResponseError
        from marshmallow import ValidationError

        try:
            with azure_calls(f"submitting job '{name}'"):
                self._workspace.client.jobs.create_or_update(job)
        except (MlException, ValidationError) as error:
            words = " ".join(str(getattr(error, "message", None) or error).split())
            raise PermanentError(f"Azure ML's client refuses job '{name}': {words[:600]}") from error
        except PermanentError as error:
            # Another try of ours may have been first: then its job is there and nothing is wrong.
            if isinstance(error.__cause__, HttpResponseError) and self._find(name) is not None:
                return
            raise

    def _outcome(self, name: str, status: str) -> JobOutcome | None:
        if status not in _OUTCOMES and status not in _UNDER_WAY:
            log.warning("unknown job status, taken as under way", extra={"job": name, "status": status[:100]})
        return _OUTCOMES.get(status)

    def _timed_out(self, name: JobName, job: Any, started: datetime | None) -> JobStatus | None:
        """Stop a job that is past its time: a pipeline job of Azure ML has no limit of its own."""
        seconds = float((job.tags or {}).get(TIMEOUT_TAG, 0) or 0)
        if not seconds or started is None or self._clock.now() - started < timedelta(seconds=seconds):
            return None
        with azure_calls(f"cancelling job '{name}'"):
            self._begin_cancel(name)
        return JobStatus(name, "failed", f"the job ran into its timeout of {seconds:.0f} s", "", started)

    def _begin_cancel(self, name: str) -> None:
        # Without a poller, which would go on asking in a thread of its own.
        self._workspace.client.jobs.begin_cancel(name, polling=False)

    def _failure(self, name: JobName, job: Any) -> tuple[str, str]:
        """Say which step failed and what Azure ML says of it, with the lines of its log that matter."""
        failed = self._failed_step(name)
        details = self._details(str(failed.name) if failed is not None else name)
        tail = ""
        for _, address in _logs_of(details, ended=True):
            tail = cut(tail_of(self._http, address)) or tail
        shown = f"step '{failed.display_name or failed.name}' failed" if failed is not None else "the job failed"
        told = _told(details)
        return f"{shown} in Azure ML{self._link(job)}{f': {told}' if told else ''}", tail

    def _failed_step(self, name: str) -> Any:
        """Find the innermost step that failed: of a nested pipeline its step, of a sweep its trial, whose logs tell."""
        found = None
        for _ in range(_DEEPEST_NESTING):
            try:
                children = self._children(name)
            except NotFoundError:
                return found
            failed = next((child for child in children if _word(child.status) in ("Failed", "NotResponding")), None)
            if failed is None:
                return found
            found, name = failed, str(failed.name)
        return found

    def _link(self, job: Any) -> str:
        address = getattr(job, "studio_url", None)
        return f" ({address})" if address else ""

    def _children(self, name: str) -> list[Any]:
        with azure_calls(f"reading the steps of job '{name}'"):
            found = self._workspace.client.jobs.list(parent_job_name=name, max_results=_MOST_CHILDREN)
            children = [child for child in found if child is not None]
        return sorted(children, key=lambda child: (_created_at(child) or datetime.max.replace(tzinfo=UTC), child.name))

    def _details(self, name: str) -> Any:
        """Read what a job wrote and why it failed: `stream` of azure-ai-ml asks the same, and only in a form that waits."""
        with azure_calls(f"reading the logs of job '{name}'"):
            return self._workspace.client.jobs._runs_operations.get_run_details(name)  # noqa: SLF001 - see above

    def _read(self, address: str) -> Iterator[bytes]:
        try:
            with self._http.stream("GET", address) as answer:
                if answer.is_success:
                    yield from answer.iter_bytes(_CHUNK_BYTES)
        except httpx.TransportError as error:
            # The address carries a signature, so nothing of it is told.
            yield f"(the rest could not be read: {type(error).__name__})\n".encode()


def _logs_of(details: Any, *, ended: bool) -> list[tuple[str, str]]:
    """
    List a job's logs with their addresses: its own; of one that ended without having written any, Azure ML's about it.

    Of one under way its own are all: what Azure ML keeps about it would make way for them when they come.
    """
    files = sorted(dict(details.log_files or {}).items())
    own = [(path, address) for path, address in files if path.startswith("user_logs/")]
    # Of what it keeps besides, the build of the image is what a project can have broken; the last that is read counts.
    return own if own or not ended else sorted(files, key=lambda entry: "image_build" in entry[0])


def _told(details: Any) -> str:
    error = getattr(getattr(details, "error", None), "error", None)
    return " ".join(str(getattr(error, "message", None) or "").split())[:_WORDS]


def _word(status: object) -> str:
    """Read a status, which the client gives as text or as an enumeration."""
    return str(getattr(status, "value", status))


def _created_at(job: Any) -> datetime | None:
    context = getattr(job, "creation_context", None)
    moment = getattr(context, "created_at", None)
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if not isinstance(moment, datetime):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
