"""The contract of `ModelRegistry` on a real MLflow server, and what its adapter does besides."""

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from registry_contract import DIABETES, FIRST, SECOND, THIRD, ModelRegistryContract

from mlops_core.adapters.http_retry import Timing
from mlops_core.adapters.local.mlflow_server import MlflowServer
from mlops_core.adapters.local.model_files import ModelFiles
from mlops_core.adapters.local.model_registry import MlflowModelRegistry
from mlops_core.adapters.local.registry_watcher import RegistryWatcher
from mlops_core.adapters.mlflow_api import MlflowApi
from mlops_core.domain.errors import PermanentError, RefusedError, TemporaryError
from mlops_core.domain.ids import ModelName
from mlops_core.ports import ModelRegistry

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("registered")
class TestMlflowModelRegistry(ModelRegistryContract):
    @pytest.fixture
    def registry(self, mlflow_api: MlflowApi) -> ModelRegistry:
        return MlflowModelRegistry(mlflow_api)

    def test_a_version_registered_outside_of_jobs_belongs_to_none(self, registry: ModelRegistry) -> None:
        assert registry.version(ModelName("it's"), FIRST).job_name is None


@pytest.mark.usefixtures("registered")
class TestModelFiles:
    @pytest.fixture
    def files(self, tmp_path: Path, mlflow_api: MlflowApi) -> ModelFiles:
        return ModelFiles(tmp_path / "models", mlflow_api)

    def test_files_of_a_version_are_downloaded_once(self, files: ModelFiles) -> None:
        first = files.artifact_path(DIABETES, FIRST)
        written = (first / "MLmodel").stat().st_mtime_ns
        assert files.artifact_path(DIABETES, FIRST) == first
        assert (first / "MLmodel").stat().st_mtime_ns == written

    def test_folders_within_are_downloaded_too(self, files: ModelFiles) -> None:
        assert (files.artifact_path(DIABETES, THIRD) / "deeper" / "coefficients.txt").is_file()

    def test_a_file_that_was_changed_is_refused(self, files: ModelFiles) -> None:
        model = files.artifact_path(DIABETES, FIRST) / "MLmodel"
        model.write_bytes(model.read_bytes()[:-1] + b"#")  # one byte
        with pytest.raises(RefusedError, match="diabetes:1"):
            files.artifact_path(DIABETES, FIRST)

    def test_files_that_are_here_are_given_while_the_registry_is_away(self, tmp_path: Path, files: ModelFiles) -> None:
        here = files.artifact_path(DIABETES, FIRST)
        away = MlflowApi(lambda: "http://127.0.0.1:9", timing=Timing(sleep=lambda _: None))
        assert ModelFiles(tmp_path / "models", away).artifact_path(DIABETES, FIRST) == here
        with pytest.raises(TemporaryError):
            ModelFiles(tmp_path / "models", away).artifact_path(DIABETES, SECOND)
        (here / "MLmodel").write_text("changed")
        with pytest.raises(RefusedError, match="diabetes:1"):
            ModelFiles(tmp_path / "models", away).artifact_path(DIABETES, FIRST)
        away.close()

    def test_files_of_two_models_of_one_name_are_not_mixed_up_while_the_registry_is_away(
        self, tmp_path: Path, files: ModelFiles
    ) -> None:
        """A model that was deleted and registered anew has the same version numbers."""
        here = files.artifact_path(DIABETES, FIRST).parent
        shutil.copytree(here, here.with_name("another"))
        away = MlflowApi(lambda: "http://127.0.0.1:9", timing=Timing(sleep=lambda _: None))
        with pytest.raises(TemporaryError):
            ModelFiles(tmp_path / "models", away).artifact_path(DIABETES, FIRST)
        away.close()

    def test_a_download_that_breaks_off_leaves_nothing_behind(
        self, tmp_path: Path, mlflow_server: MlflowServer
    ) -> None:
        class Breaking(MlflowApi):
            def download(self, path: str, target: Path) -> None:
                super().download(path, target)
                raise TemporaryError("cut")

        api = Breaking(lambda: mlflow_server.address)
        with pytest.raises(TemporaryError, match="cut"):
            ModelFiles(tmp_path / "models", api).artifact_path(DIABETES, FIRST)
        api.close()
        assert [path.name for path in (tmp_path / "models").iterdir()] == [".lock"]


class HostileApi(MlflowApi):
    """A registry that answers what it should not."""

    def __init__(self, uri: str, listed: str) -> None:
        super().__init__(lambda: "http://127.0.0.1:9")
        self._uri, self._listed = uri, listed

    def get(self, *args: Any, **named: Any) -> dict[str, Any]:
        return {"artifact_uri": self._uri}

    def list_artifacts(self, folder: str) -> list[dict[str, Any]]:
        return [{"path": self._listed, "is_dir": False}]


@pytest.mark.parametrize(
    ("uri", "listed"),
    [
        ("mlflow-artifacts:/0/m/artifacts", ".."),
        ("mlflow-artifacts:/0/m/artifacts", "a\\..\\b"),
        ("mlflow-artifacts:/0/../../etc", "x"),
        ("file:///etc", "x"),
        ("s3://bucket/x", "x"),
    ],
)
def test_artifacts_that_could_lead_out_of_their_folder_are_refused(tmp_path: Path, uri: str, listed: str) -> None:
    files = ModelFiles(tmp_path / "models", HostileApi(uri, listed))
    with pytest.raises(PermanentError):
        files.artifact_path(DIABETES, FIRST)
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.usefixtures("registered")
class TestRegistryWatcher:
    def test_each_version_is_told_once_in_the_words_of_azure_ml(self, tmp_path: Path, mlflow_api: MlflowApi) -> None:
        told: list[Any] = []
        RegistryWatcher(mlflow_api, cursor=tmp_path / "cursor.json", publish=told.extend).look()
        RegistryWatcher(mlflow_api, cursor=tmp_path / "cursor.json", publish=told.extend).look()
        subjects = [event["subject"] for event in told]
        assert sorted(subjects) == [
            "models/diabetes:1",
            "models/diabetes:2",
            "models/diabetes:3",
            "models/it's:1",
            "models/twin:1",
        ]
        assert told[0]["data"]["ModelName"] == "diabetes"
        assert subjects.index("models/diabetes:1") < subjects.index("models/diabetes:2")

    def test_a_version_that_the_topic_did_not_take_is_told_again(self, tmp_path: Path, mlflow_api: MlflowApi) -> None:
        told: list[Any] = []

        def refuse_third(events: Any) -> None:
            if len(told) == 2:
                raise TemporaryError("The topic is down.")
            told.extend(events)

        with pytest.raises(TemporaryError):
            RegistryWatcher(mlflow_api, cursor=tmp_path / "cursor.json", publish=refuse_third).look()
        RegistryWatcher(mlflow_api, cursor=tmp_path / "cursor.json", publish=told.extend).look()
        ids = [event["id"] for event in told]
        assert len(ids) == len(set(ids)) == 5

    def test_a_version_registered_under_a_deleted_name_is_told(self, tmp_path: Path) -> None:
        told: list[Any] = []
        api = ListedApi([_entry("m", 3, created=300)])
        watcher = RegistryWatcher(api, cursor=tmp_path / "cursor.json", publish=told.extend)
        watcher.look()
        api.entries = [_entry("m", 1, created=400)]
        assert watcher.look() == 1
        assert watcher.look() == 0

    def test_a_version_registered_while_the_clock_was_set_back_is_told(self, tmp_path: Path) -> None:
        told: list[Any] = []
        api = ListedApi([_entry("m", 1, created=300)])
        watcher = RegistryWatcher(api, cursor=tmp_path / "cursor.json", publish=told.extend)
        watcher.look()
        api.entries.append(_entry("m", 2, created=100))
        assert watcher.look() == 1


class ListedApi(MlflowApi):
    """A registry with a list of versions that the test decides."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        super().__init__(lambda: "http://127.0.0.1:9")
        self.entries = entries

    def pages(self, *args: Any, **named: Any) -> Iterator[list[dict[str, Any]]]:
        yield self.entries


def _entry(name: str, version: int, *, created: int) -> dict[str, Any]:
    return {"name": name, "version": str(version), "creation_timestamp": created}


class Flaky(BaseHTTPRequestHandler):
    """Answers from a script: a status and the `Retry-After` for each request."""

    script: list[tuple[int, str]]

    def do_GET(self) -> None:
        status, patience = self.script.pop(0)
        self.send_response(status)
        if patience:
            self.send_header("Retry-After", patience)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


class TestRepeatedRequests:
    @pytest.fixture
    def address(self) -> Iterator[str]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
        server.server_close()

    def test_a_busy_server_is_asked_again_after_the_time_that_it_wants(self, address: str) -> None:
        Flaky.script = [(429, "3"), (503, ""), (200, "")]
        pauses: list[float] = []
        api = MlflowApi(lambda: address, timing=Timing(sleep=pauses.append))
        assert api.get("x", {}, kind="thing", name="x") == {}
        api.close()
        assert pauses == [3.0, 0.4]

    def test_a_wish_for_long_patience_is_passed_on(self, address: str) -> None:
        Flaky.script = [(503, "60")]
        api = MlflowApi(lambda: address, timing=Timing(sleep=lambda _: None))
        with pytest.raises(TemporaryError) as caught:
            api.get("x", {}, kind="thing", name="x")
        api.close()
        assert caught.value.retry_after_seconds == 60

    def test_a_refusal_is_not_repeated(self, address: str) -> None:
        Flaky.script = [(400, "")]
        api = MlflowApi(lambda: address, timing=Timing(sleep=lambda _: None))
        with pytest.raises(PermanentError, match="400"):
            api.get("x", {}, kind="thing", name="x")
        api.close()

    def test_a_server_that_is_not_there_is_a_temporary_failure(self) -> None:
        api = MlflowApi(lambda: "http://127.0.0.1:9", timing=Timing(sleep=lambda _: None))
        with pytest.raises(TemporaryError, match=r"127\.0\.0\.1:9"):
            api.get("x", {}, kind="thing", name="x")
        api.close()
