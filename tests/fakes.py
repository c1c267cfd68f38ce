"""
The world outside in memory, for tests of everything above the ports.

Stores are the real ones, over SQLite; what stands here does what its port promises as far as the core asks for it. Jobs,
registry and deployments are driven by the test: it says when a job ends and what a pipeline registered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from mlops_core.domain.errors import NotFoundError, PermanentError
from mlops_core.domain.events import JobOutcome
from mlops_core.domain.ids import CommitId, DeploymentName, JobName, ModelName, ModelVersion, RunId
from mlops_core.ports import (
    DeploymentRequest,
    DeploymentStatus,
    JobProgress,
    JobRequest,
    JobStatus,
    ProjectRecord,
    RegisteredVersion,
)

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@dataclass
class FakeClock:
    """A clock that the test moves."""

    time: datetime = START

    def now(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class FakeQueue:
    """Hints in a list; the test delivers them in whatever order it likes."""

    messages: list[str] = field(default_factory=list)

    def put(self, message: str, *, delay_seconds: float = 0) -> None:
        self.messages.append(message)


@dataclass
class FakeBus:
    """Remembers what was published, once per event id."""

    published: dict[str, Mapping[str, object]] = field(default_factory=dict)

    def publish(
        self, *, event_id: str, event_type: str, subject: str, data: Mapping[str, object], at: datetime
    ) -> None:
        self.published[event_id] = {"type": event_type, "subject": subject, "data": data, "at": at}


@dataclass
class FakeJobRunner:
    """Jobs that run until the test ends them. `launches` counts real starts, which must be one per name."""

    launches: dict[JobName, int] = field(default_factory=dict)
    requests: dict[JobName, JobRequest] = field(default_factory=dict)
    statuses: dict[JobName, JobStatus] = field(default_factory=dict)
    logs: dict[JobName, bytes] = field(default_factory=dict)

    def submit(self, request: JobRequest) -> JobStatus | None:
        if request.name in self.statuses:
            return None
        self.launches[request.name] = self.launches.get(request.name, 0) + 1
        self.requests[request.name] = request
        self.statuses[request.name] = JobStatus(request.name, None)
        return None

    def status(self, name: JobName) -> JobStatus | None:
        return self.statuses.get(name)

    def end(self, name: JobName, outcome: JobOutcome, reason: str = "", log_tail: str = "") -> None:
        self.statuses[name] = replace(self.statuses[name], outcome=outcome, reason=reason, log_tail=log_tail)

    def cancel(self, name: JobName) -> None:
        status = self.statuses.get(name)
        if status is not None and status.outcome is None:
            self.end(name, "cancelled", "cancelled")

    def progress(self, name: JobName, *, after: int = 0) -> Sequence[JobProgress]:
        return []

    def log(self, name: JobName) -> Iterator[bytes]:
        if name not in self.statuses:
            raise NotFoundError("job", name, advice="")
        yield self.logs.get(name, b"")


@dataclass
class FakeRegistry:
    """Model versions that the test registers."""

    registered: list[RegisteredVersion] = field(default_factory=list)

    def register(self, model: str, job_name: str | None = None, **metrics: float) -> RegisteredVersion:
        name = ModelName(model)
        number = 1 + sum(1 for version in self.registered if version.model == name)
        version = RegisteredVersion(
            model=name,
            version=ModelVersion(str(number)),
            job_name=JobName(job_name) if job_name else None,
            metrics=metrics,
            tags={},
            created_at=START,
        )
        self.registered.append(version)
        return version

    def version(self, model: ModelName, version: ModelVersion) -> RegisteredVersion:
        for known in self.registered:
            if (known.model, known.version) == (model, version):
                return known
        raise NotFoundError("model version", f"{model}:{version}", advice="Register it.")

    def versions_of_job(self, model: ModelName, job_name: JobName) -> Sequence[RegisteredVersion]:
        return [known for known in self.registered if (known.model, known.job_name) == (model, job_name)]

    def versions(self, model: ModelName, *, limit: int = 50) -> Sequence[RegisteredVersion]:
        return [known for known in reversed(self.registered) if known.model == model][:limit]

    def models(self) -> Sequence[ModelName]:
        return sorted({known.model for known in self.registered})


@dataclass
class FakeDeployer:
    """Deployments that are ready at once, unless the test says otherwise."""

    states: dict[DeploymentName, DeploymentStatus] = field(default_factory=dict)
    creations: dict[DeploymentName, int] = field(default_factory=dict)
    broken: set[DeploymentName] = field(default_factory=set)
    ready_at_once: bool = True
    logs: dict[DeploymentName, str] = field(default_factory=dict)

    def log_tail(self, name: DeploymentName, *, lines: int = 60) -> str:
        return "\n".join(self.logs.get(name, "").splitlines()[-lines:])

    def create(self, request: DeploymentRequest) -> None:
        if request.name in self.states:
            return
        self.creations[request.name] = self.creations.get(request.name, 0) + 1
        if request.name in self.broken:
            self.states[request.name] = DeploymentStatus(request.name, "failed", reason="init() raised ValueError")
        elif self.ready_at_once:
            self.make_ready(request.name)
        else:
            self.states[request.name] = DeploymentStatus(request.name, "starting")

    def make_ready(self, name: DeploymentName) -> None:
        self.states[name] = DeploymentStatus(name, "ready", f"http://{name}.test")

    def status(self, name: DeploymentName) -> DeploymentStatus:
        return self.states.get(name, DeploymentStatus(name, "absent"))

    def address(self, name: DeploymentName) -> str | None:
        return self.status(name).address

    def delete(self, name: DeploymentName) -> None:
        self.states.pop(name, None)

    def list(self) -> Sequence[DeploymentStatus]:
        return list(self.states.values())


@dataclass
class FakeSourceHost:
    """Files per commit, and branch heads, that the test writes."""

    files: dict[tuple[CommitId, str], bytes] = field(default_factory=dict)
    branches: dict[str, CommitId] = field(default_factory=dict)
    statuses: dict[CommitId, list[tuple[str, str]]] = field(default_factory=dict)
    stages: dict[CommitId, dict[str, tuple[str, str]]] = field(default_factory=dict)
    default_files: dict[str, bytes] = field(default_factory=dict)

    def read_file(self, project: ProjectRecord, commit: CommitId, path: str, *, limit_bytes: int = 1_000_000) -> bytes:
        text = self.files.get((commit, path), self.default_files.get(path))
        if text is None:
            raise NotFoundError("file", f"{path} in commit {commit}", advice="Add it and push again.")
        return text

    def head(self, project: ProjectRecord, branch: str) -> CommitId | None:
        return self.branches.get(branch)

    def heads(self, project: ProjectRecord) -> Mapping[str, CommitId]:
        return dict(self.branches)

    def set_status(
        self,
        project: ProjectRecord,
        commit: CommitId,
        *,
        state: str,
        description: str,
        run_id: RunId,
        stage: str | None = None,
    ) -> None:
        if stage is None:
            self.statuses.setdefault(commit, []).append((state, description))
        else:
            self.stages.setdefault(commit, {})[stage] = (state, description)


@dataclass
class AlwaysPasses:
    """A smoke tester that needs no deployment."""

    def run(self, address: str, body: bytes, smoke: object) -> object:
        from mlops_core.services.smoke import SmokeResult

        return SmokeResult(passed=True, reason="1 smoke request answered", p95_ms=1.0)


class NoVerifier:
    """For tests that never get a webhook."""

    def pushes(self, headers: Mapping[str, str], body: bytes, *, received_at: datetime) -> Sequence[object]:
        raise PermanentError("this test has no webhooks")
