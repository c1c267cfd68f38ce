"""From a model's files in blob storage to a prediction of the real scoring app, which fetched them by its identity."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import random
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import azurite
import pytest
from arm_apps import identity, scoring_app
from arm_double import GROUP, SUBSCRIPTION
from arm_registry import REGISTRY, Registry
from azure.storage.blob import BlobServiceClient, ContainerClient
from builders import PROJECT, commit_id
from container_bench import ContainerBench, container_bench
from hostile_models import hostile_models
from tls import Certificate

from mlops_core.adapters.azure.image_context import make_context
from mlops_core.adapters.azure.scoring_image import ImageOptions, ScoringImages
from mlops_core.adapters.azure.served_files import ServedFilesStore
from mlops_core.adapters.azure.source import CommitFiles
from mlops_core.domain.errors import BadInputError, HeadraceError, NotFoundError, PermanentError
from mlops_core.domain.ids import ModelName, ModelVersion, deployment_of_version
from mlops_core.domain.project import Build, ProjectSpec, Serve, Train
from mlops_core.ports import DeploymentRequest, DeploymentStatus, RegisteredVersion
from mlops_core.serving.digest import tree_digest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MODEL, COMMIT = ModelName("diabetes"), commit_id(1)
SCRIPT = """
import json, os
def init():
    global factor
    factor = json.load(open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "factor.json")))
def run(data):
    return [factor * value for value in json.loads(data)["data"]]
"""


@dataclass
class Uris:
    """A registry that knows where versions are."""

    uris: dict[str, str]

    def version(self, model: ModelName, version: ModelVersion) -> RegisteredVersion:
        return RegisteredVersion(model, version, None, {}, {}, datetime.now(UTC), uri=self.uris[version])


@dataclass
class Store:
    account: azurite.Azurite
    folder: Path

    def __post_init__(self) -> None:
        service = BlobServiceClient.from_connection_string(self.account.connection_string)
        self.models = service.create_container(f"models-{random.getrandbits(60):x}")
        self.own = service.create_container(f"own-{random.getrandbits(60):x}")
        self.uris = Uris({})

    def put(self, version: str, files: Mapping[str, bytes]) -> None:
        for path, content in files.items():
            self.models.upload_blob(f"{version}/{path}", content, overwrite=True)
        self.uris.uris[version] = f"azureml://subscriptions/s/workspaces/w/datastores/blobs/paths/{version}"

    def served(self) -> ServedFilesStore:
        def fetch(_: Any, __: Any, folder: Path) -> None:
            shutil.copytree(self.folder, folder, dirs_exist_ok=True)

        return ServedFilesStore(
            self.uris,  # type: ignore[arg-type]  # the one method that is asked
            self.own,
            open_container=lambda url, name: ContainerClient(url, name, credential=azurite.KEY),
            find_datastore=lambda _: (self.account.blob, self.models.container_name),
            commits=CommitFiles(fetch),
        )


@pytest.fixture
def store(account: azurite.Azurite, tmp_path: Path) -> Store:
    (tmp_path / "project").mkdir()
    return Store(account, tmp_path / "project")


def request_for(version: str, **serve: Any) -> DeploymentRequest:
    name = deployment_of_version(MODEL, ModelVersion(version))
    return DeploymentRequest(name, MODEL, ModelVersion(version), PROJECT, COMMIT, Serve(**serve))


@contextmanager
def serving(folder: Path, certificate: Certificate) -> Iterator[ContainerBench]:
    with container_bench(folder, scoring_app) as bench:
        bench.arm.open_parts.append(identity)
        more = {"IDENTITY_ENDPOINT": f"{bench.arm.address}/identity", "IDENTITY_HEADER": "s"}
        bench.containers.inherited |= {**more, "SSL_CERT_FILE": str(certificate.certificate), "PYTHONPATH": str(ROOT)}
        yield bench


def settled(bench: ContainerBench, request: DeploymentRequest, store: Store, **changes: Any) -> DeploymentStatus:
    deployer = bench.deployer(files_of=store.served().files_of, **changes)
    deployer.create(request)
    deadline = time.monotonic() + 60
    while (status := deployer.status(request.name)).state not in ("ready", "failed"):
        assert time.monotonic() < deadline, status
        time.sleep(0.05)
    return status


MLMODEL = """
flavors:
  python_function: {loader_module: mlflow.sklearn, model_path: model.pkl, predict_fn: predict}
  sklearn: {pickled_model: model.pkl, serialization_format: pickle}
"""


def mlflow_model() -> dict[str, bytes]:
    """Write a model as MLflow does; its own import and save take ten times as long."""
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit([[1.0], [2.0]], [10.0, 20.0])
    return {"MLmodel": MLMODEL.encode(), "model.pkl": pickle.dumps(model)}


def test_an_mlflow_model_in_blob_storage_answers_a_prediction(
    store: Store, certificate: Certificate, tmp_path: Path
) -> None:
    store.put("1", mlflow_model())
    with serving(tmp_path / "groups", certificate) as bench:
        status = settled(bench, request_for("1"), store)
        assert status.state == "ready", status
        answer = bench.containers.http.post(f"{status.address}/score", json={"input_data": [[3.0]]})
    assert answer.status_code == 200, answer.text
    assert json.loads(answer.text)[0] == pytest.approx(30.0)


def test_a_scoring_script_is_fetched_with_the_project(store: Store, certificate: Certificate, tmp_path: Path) -> None:
    """And finds its model under the name of the folder that was registered, as in Azure ML."""
    store.put("weights", {"factor.json": b"3"})
    store.uris.uris["2"] = store.uris.uris["weights"]
    (store.folder / "src").mkdir()
    (store.folder / "src" / "score.py").write_text(SCRIPT.replace('"factor.json"', '"weights", "factor.json"'))
    with serving(tmp_path / "groups", certificate) as bench:
        status = settled(bench, request_for("2", code="src/score.py"), store)
        assert status.state == "ready", status
        answer = bench.containers.http.post(f"{status.address}/score", json={"data": [1, 2]})
    assert json.loads(answer.text) == [3, 6]


def test_two_versions_with_the_same_packages_run_in_one_image_that_was_built_once(
    store: Store, certificate: Certificate, tmp_path: Path
) -> None:
    (store.folder / "score.py").write_text(SCRIPT)
    for version in ("1", "2"):
        store.put(version, {"factor.json": version.encode(), "requirements.txt": b"numpy==2.1\n"})
    with serving(tmp_path / "groups", certificate) as bench:
        registry = Registry(bench.arm)
        registry.instant, bench.containers.is_there = True, registry.has
        bench.arm.parts.append(registry.answer)
        bench.arm.open_parts.append(registry.upload_or_log)
        options = ImageOptions(
            subscription=SUBSCRIPTION, resource_group=GROUP, registry=REGISTRY, client=bench.arm.client_options
        )
        images = ScoringImages(options, object(), bench.clock)  # type: ignore[arg-type]  # see PlainToken
        image_of = lambda request: images.ensure(store.served().environment_of(request))
        answers = []
        for version in ("1", "2"):
            status = settled(bench, request_for(version, code="score.py"), store, image_of=image_of)
            assert status.state == "ready", status
            answers.append(bench.containers.http.post(f"{status.address}/score", json={"data": [5]}).json())
        used = {group.container["properties"]["image"] for group in bench.containers.groups.values()}
        images.close()
    assert answers == [[5], [10]]
    assert (registry.builds, len(used)) == (1, 1)


def test_a_model_that_was_changed_after_its_deployment_is_not_served(
    store: Store, certificate: Certificate, tmp_path: Path
) -> None:
    store.put("3", {"factor.json": b"3"})
    (store.folder / "score.py").write_text(SCRIPT)
    with serving(tmp_path / "groups", certificate) as bench:
        bench.containers.held = True
        request = request_for("3", code="score.py")
        bench.deployer(files_of=store.served().files_of).create(request)
        store.put("3", {"factor.json": b"4"})
        bench.containers.release()
        status = settled(bench, request, store)
    assert status.state == "failed"
    assert "'model/factor.json' is not the file that was deployed" in status.log_tail


def test_the_digest_is_the_one_that_the_scoring_app_finds(store: Store, tmp_path: Path) -> None:
    files = {"MLmodel": b"a", "data/b": b"bb", "data/c/é": b"c", "data.txt": b"d"}
    for path, content in files.items():
        (tmp_path / "same" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "same" / path).write_bytes(content)
    store.put("4", files)
    store.put("44", {"neighbour": b"of another version"})
    assert store.served().files_of(request_for("4")).model_digest == tree_digest(tmp_path / "same")


def test_the_manifest_is_named_by_its_digest_and_written_once(store: Store) -> None:
    store.put("5", {"MLmodel": b"a"})
    first, again = (store.served().files_of(request_for("5")) for _ in range(2))
    assert first == again
    (manifest,) = store.own.list_blobs(name_starts_with="manifests/")
    assert hashlib.sha256(store.own.download_blob(manifest.name).readall()).hexdigest() == first.manifest_digest


def test_a_version_without_files_is_told(store: Store) -> None:
    store.put("6", {})
    with pytest.raises(NotFoundError, match="diabetes:6"):
        store.served().files_of(request_for("6"))


@pytest.mark.parametrize("uri", ["https://evil.example/c/m", "http://a.blob.core.windows.net/c/m", "runs:/1/model", ""])
def test_the_credential_goes_to_blob_storage_only(store: Store, uri: str) -> None:
    store.uris.uris["7"] = uri
    with pytest.raises(PermanentError, match="no place in blob storage"):
        store.served().files_of(request_for("7"))


def test_the_environment_is_what_the_model_declares_unless_the_project_names_one(store: Store) -> None:
    conda = b"dependencies:\n- python=3.10\n- pip:\n  - pandas==2.2.3\n"
    store.put("8", {"conda.yaml": conda, "requirements.txt": b"# made by mlflow\nnumpy==1.26\n"})
    store.put("9", {"requirements.txt": b"# made by mlflow\nnumpy==1.26\n"})
    (store.folder / "own.txt").write_text("scipy\n")
    served = store.served()
    assert served.environment_of(request_for("8")).python_version == "3.10"
    assert served.environment_of(request_for("9")).pip_requirements == ("numpy==1.26",)
    spec = ProjectSpec(
        project="diabetes", train=Train(pipeline="p.yml", model="diabetes"), build=Build(environment="own.txt")
    )
    named = replace(request_for("8", environment="own.txt"), spec=spec)
    assert served.environment_of(named).pip_requirements == ("scipy",)
    store.put("10", {"model.bin": b"?"})
    assert served.environment_of(replace(request_for("10"), spec=spec)).pip_requirements == ("scipy",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "bomb.yml",
            "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b ["
            + "*a," * 99
            + "]\nc: &c ["
            + "*b," * 99
            + "]\nd: ["
            + "*c," * 99
            + "]\n",
        ),
        ("twice.yml", "dependencies: []\ndependencies: []\n"),
        ("../outside.yml", "dependencies: []\n"),
        ("leads.yml", "conda_file: ../../outside.yml\n"),
        ("absent.txt", None),
    ],
)
def test_an_environment_file_that_may_not_be_read_is_refused(store: Store, name: str, content: str | None) -> None:
    store.put("11", {"model.bin": b"?"})
    if content is not None:
        (store.folder / name).write_text(content)
    spec = ProjectSpec(project="diabetes", train=Train(pipeline="p.yml", model="diabetes"))
    request = replace(request_for("11", environment=name), spec=spec)
    with pytest.raises(BadInputError):
        store.served().environment_of(request)


def test_a_models_own_environment_cannot_blow_up_the_controller(store: Store) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    store.put("12", {"conda.yaml": "\n".join(lines).encode()})
    with pytest.raises(BadInputError, match="expands to more"):
        store.served().environment_of(request_for("12"))


def test_twenty_hostile_models_run_no_code_in_the_controller(store: Store, tmp_path: Path) -> None:
    """RELIABILITY 23; on a laptop: `tests/faults/test_hostile_models.py`."""
    canary, served = tmp_path / "canary", store.served()
    models = hostile_models(canary)
    for number, files in enumerate(models.values()):
        store.put(f"h{number}", files)
        request = request_for(f"h{number}")
        assert served.files_of(request).model_digest.startswith("sha256:")
        with contextlib.suppress(HeadraceError):
            assert len(make_context(served.environment_of(request)).archive) < 2_000_000
    assert len(models) == 20
    assert not canary.exists()
