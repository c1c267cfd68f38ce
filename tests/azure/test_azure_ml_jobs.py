"""Jobs on Azure ML through its genuine client, against a double that checks each request and really runs what arrives."""

from __future__ import annotations

import shutil
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from aml_double import AzureMlDouble, Fault
from tls import Certificate

from mlops_core.adapters.azure.job_runner import AzureMlJobRunner
from mlops_core.adapters.azure.model_registry import AzureMlModelRegistry
from mlops_core.adapters.azure.source import CommitFiles
from mlops_core.adapters.azure.submission import pipeline_job
from mlops_core.adapters.azure.workspace import Workspace
from mlops_core.adapters.clock import SystemClock
from mlops_core.domain.errors import BadInputError, TemporaryError
from mlops_core.domain.ids import CommitId, JobName, ModelName, ProjectName, RunId
from mlops_core.manifest import read_manifest
from mlops_core.ports import JobRequest, ProjectRecord

EXAMPLE = Path(__file__).parents[2] / "examples" / "diabetes"
COMMIT = CommitId("c" * 40)
# azure-ai-ml and what it stands on warn of their own future.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.filterwarnings("ignore")]


class Project:
    """A copy of the example, which tests change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(EXAMPLE, folder)

    def request(self, name: str, stage: str = "build") -> JobRequest:
        return JobRequest(
            name=JobName(name),
            stage=stage,  # type: ignore[arg-type]
            run_id=RunId("diabetes-1"),
            project=ProjectRecord(
                ProjectName("diabetes"), "github", "owner/diabetes", "https://github.com/owner/diabetes.git"
            ),
            commit=COMMIT,
            spec=read_manifest((self.folder / "mlops.yaml").read_bytes()),
        )

    def fetch(self, _project: ProjectRecord, _commit: CommitId, folder: Path) -> None:
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture
def runner(workspace: Workspace, project: Project, certificate: Certificate) -> Iterator[AzureMlJobRunner]:
    with httpx.Client(verify=ssl.create_default_context(cafile=str(certificate.certificate))) as http:
        yield AzureMlJobRunner(workspace, CommitFiles(project.fetch), SystemClock(), http=http)


@pytest.fixture(autouse=True)
def _no_complaints(azure_ml: AzureMlDouble) -> Iterator[None]:
    """What Azure's own specifications refuse fails each of these tests."""
    azure_ml.complaints.clear()
    azure_ml.faults.clear()
    azure_ml.calls.clear()
    yield
    assert azure_ml.complaints == []


def wait(runner: AzureMlJobRunner, name: str) -> str | None:
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        status = runner.status(JobName(name))
        if status is not None and status.outcome is not None:
            return status.outcome
        time.sleep(0.3)
    raise AssertionError(f"{name} did not end")


def test_a_commit_is_built_trained_and_found_in_the_registry(
    runner: AzureMlJobRunner, workspace: Workspace, project: Project, azure_ml: AzureMlDouble
) -> None:
    events: list[dict[str, object]] = []
    azure_ml.on_event = lambda event: events.append({**event, "status": azure_ml._jobs.find("whole-train").status})  # type: ignore[union-attr]
    assert runner.submit(project.request("whole-build")) is None
    assert wait(runner, "whole-build") == "succeeded"
    assert runner.submit(project.request("whole-train", "train")) is None
    puts = [call for call in azure_ml.calls if call.method == "PUT"]
    assert runner.submit(project.request("whole-train", "train")) is None, "a second submit finds the first"
    assert [call for call in azure_ml.calls if call.method == "PUT"] == puts
    assert wait(runner, "whole-train") == "succeeded"
    registry = AzureMlModelRegistry(workspace)
    (version,) = registry.versions_of_job(ModelName("diabetes"), JobName("whole-train"))
    assert version.job_name == "whole-train"
    assert 50 < version.metrics["rmse"] < 65
    assert version.data_version == "diabetes-data:1"
    assert registry.version(version.model, version.version) == version
    assert registry.models() == ["diabetes"]
    kinds = [(str(event["eventType"]).rsplit(".", 1)[1], event["status"]) for event in events]
    assert kinds == [("ModelRegistered", "Running"), ("RunCompleted", "Completed")]
    told = [line.text for line in runner.progress(JobName("whole-train"))]
    assert told == ["✓ prepare", "✓ tune", "✓ evaluate", "✓ register"]
    assert b"--- " in b"".join(runner.log(JobName("whole-train")))


def test_failing_tests_end_the_build_with_the_lines_that_say_why(runner: AzureMlJobRunner, project: Project) -> None:
    (project.folder / "tests" / "test_split.py").write_text("def test_seven():\n    assert 6 * 9 == 42\n")
    runner.submit(project.request("failing-build"))
    assert wait(runner, "failing-build") == "failed"
    status = runner.status(JobName("failing-build"))
    assert status is not None
    assert "step 'tests' failed in Azure ML" in status.reason
    assert "FAILED tests/test_split.py::test_seven" in status.log_tail


def test_a_job_that_never_came_to_write_a_log_fails_with_what_azure_ml_says_of_it(
    runner: AzureMlJobRunner, project: Project, azure_ml: AzureMlDouble
) -> None:
    manifest = project.folder / "mlops.yaml"
    manifest.write_text(manifest.read_text().replace("pytest -q", "exit 3"))
    runner.submit(project.request("unbuilt-build"))
    assert wait(runner, "unbuilt-build") == "failed"
    build_log = azure_ml.put_log(
        "azureml-logs/20_image_build_log.txt", "Solving\nERROR: No matching distribution found\n"
    )
    (step,) = azure_ml._jobs.children("unbuilt-build")
    azure_ml.details[step.run_id] = {
        "error": {"error": {"code": "UserError", "message": "Image build failed.\nSee its log."}},
        "logFiles": {"azureml-logs/20_image_build_log.txt": build_log, "system_logs/lifecycler.log": build_log + "&x"},
    }
    status = runner.status(JobName("unbuilt-build"))
    assert status is not None
    assert status.reason.startswith("step 'tests' failed in Azure ML")
    assert status.reason.endswith(": Image build failed. See its log.")
    assert "No matching distribution" in status.log_tail
    assert b"No matching distribution" in b"".join(runner.log(JobName("unbuilt-build")))


def test_a_build_without_tests_sets_up_its_assets_and_is_done(
    runner: AzureMlJobRunner, project: Project, azure_ml: AzureMlDouble
) -> None:
    manifest = project.folder / "mlops.yaml"
    manifest.write_text(manifest.read_text().replace("  test: pytest -q\n", ""))
    done = runner.submit(project.request("untested-build"))
    assert done is not None
    assert (done.outcome, done.reason) == ("succeeded", "checked and set up; no tests declared")
    assert runner.status(JobName("untested-build")) is None


def test_a_cancelled_job_stops(runner: AzureMlJobRunner, project: Project, azure_ml: AzureMlDouble) -> None:
    manifest = project.folder / "mlops.yaml"
    manifest.write_text(manifest.read_text().replace("pytest -q", "sleep 100"))
    runner.submit(project.request("cancelled-build"))
    runner.cancel(JobName("cancelled-build"))
    assert wait(runner, "cancelled-build") == "cancelled"
    runner.cancel(JobName("cancelled-build"))
    assert sum(call.path.endswith("/cancel") for call in azure_ml.calls) == 1


def test_a_job_past_its_time_is_stopped(runner: AzureMlJobRunner, project: Project) -> None:
    manifest = project.folder / "mlops.yaml"
    text = manifest.read_text().replace("pytest -q", "sleep 100").replace("timeout: 15m", "timeout: 1s")
    manifest.write_text(text)
    runner.submit(project.request("late-build"))
    deadline = time.monotonic() + 60
    while (status := runner.status(JobName("late-build"))) is None or status.outcome is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert (status.outcome, status.reason) == ("failed", "the job ran into its timeout of 1 s")


def test_everything_that_is_wrong_is_told_before_anything_is_uploaded(
    runner: AzureMlJobRunner, project: Project, azure_ml: AzureMlDouble
) -> None:
    (project.folder / "azureml" / "components" / "train.yml").unlink()
    with pytest.raises(BadInputError, match=r"train\.yml"):
        runner.submit(project.request("broken-build"))
    assert [call.method for call in azure_ml.calls] == ["GET"], "it only asked whether the job is there"


def test_a_reply_that_is_cut_after_the_work_leaves_one_job(
    runner: AzureMlJobRunner, project: Project, azure_ml: AzureMlDouble
) -> None:
    manifest = project.folder / "mlops.yaml"
    manifest.write_text(manifest.read_text().replace("pytest -q", "echo fine"))
    azure_ml.faults.append(Fault("PUT", r"/jobs/cut-build$", 500, times=1, after=True))
    runner.submit(project.request("cut-build"))
    assert wait(runner, "cut-build") == "succeeded"
    assert [job.name for job in azure_ml._jobs.all()].count("cut-build") == 1


def test_a_refusal_for_now_is_temporary_and_keeps_the_time(
    runner: AzureMlJobRunner, project: Project, azure_ml: AzureMlDouble
) -> None:
    azure_ml.faults.append(Fault("GET", r"/jobs/busy-build$", 429, times=99, headers={"retry-after": "1"}))
    started = time.monotonic()
    with pytest.raises(TemporaryError) as refused:
        runner.submit(project.request("busy-build"))
    assert refused.value.retry_after_seconds == 1
    assert time.monotonic() - started >= 2, "each of its two repeats waited for the second that was asked for"
    assert len(azure_ml.calls) == 3


def test_assets_are_set_up_once_per_content(
    runner: AzureMlJobRunner, project: Project, azure_ml: AzureMlDouble, workspace: Workspace
) -> None:
    manifest = project.folder / "mlops.yaml"
    manifest.write_text(manifest.read_text().replace("  test: pytest -q\n", ""))
    runner.submit(project.request("assets-1"))
    azure_ml.calls.clear()
    runner.submit(project.request("assets-2"))
    assert [call.path for call in azure_ml.calls if call.method == "PUT"] == []
    conda = project.folder / "azureml" / "conda.yml"
    conda.write_text(conda.read_text() + "\n# newer\n")
    runner.submit(replace(project.request("assets-3"), commit=CommitId("d" * 40)))
    assert workspace.client.environments.get("diabetes-env", label="latest").version == "d" * 12


def test_a_status_that_nobody_knows_counts_as_under_way(
    runner: AzureMlJobRunner, azure_ml: AzureMlDouble, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = project.folder / "mlops.yaml"
    manifest.write_text(manifest.read_text().replace("pytest -q", "echo fine"))
    runner.submit(project.request("strange-build"))
    assert wait(runner, "strange-build") == "succeeded"
    job = azure_ml._jobs.find("strange-build")
    assert job is not None
    for word in ("NotStarted", "Queued", "Running", "Finalizing", "CancelRequested", "Paused", "Unknown", "Dreaming"):
        job.status = word
        status = runner.status(JobName("strange-build"))
        assert status is not None
        assert status.outcome is None
    assert "unknown job status" in caplog.text
    for word, outcome in (("NotResponding", "failed"), ("Canceled", "cancelled"), ("Completed", "succeeded")):
        job.status = word
        status = runner.status(JobName("strange-build"))
        assert status is not None
        assert status.outcome == outcome
    azure_ml.complaints.clear()  # the specification does not know the made-up word either


@pytest.mark.parametrize("resumed", [True, False])
def test_steps_are_taken_over_only_where_a_failed_run_is_resumed(project: Project, *, resumed: bool) -> None:
    """What a step registered that Azure ML takes over would not be registered again."""
    request = project.request("anew-train", "train")
    request = replace(request, resume_from=JobName("failed-train") if resumed else None)

    job = pipeline_job(project.folder, request, compute="cpu-cluster")

    assert bool(job.settings.force_rerun) is not resumed


def given_inputs(project: Project, **inputs: str | int) -> JobRequest:
    request = project.request("given-train", "train")
    train = request.spec.train.model_copy(update={"inputs": inputs})
    return replace(request, spec=request.spec.model_copy(update={"train": train}))


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("azureml:diabetes-data:1", "azureml:diabetes-data:1"),
        ("data/diabetes.csv", "data/diabetes.csv"),
    ],
)
def test_data_that_the_manifest_gives_is_data(project: Project, given: str, path: str) -> None:
    inputs = pipeline_job(project.folder, given_inputs(project, patients=given, seed=3), compute="c").inputs

    assert (inputs["patients"].type, inputs["seed"]) == ("uri_file", 3)
    assert str(inputs["patients"].path).removeprefix(f"{project.folder.resolve()}/") == path


def test_data_that_the_manifest_gives_is_in_the_repository(project: Project) -> None:
    request = given_inputs(project, patients="/etc/hostname")

    with pytest.raises(BadInputError, match=r"train\.inputs\.patients: there is no '/etc/hostname' in the repository"):
        pipeline_job(project.folder, request, compute="c")
