"""
What a version's container fetches: the files of its model and its code, written down with digests before it starts.

A model's files stay where Azure ML keeps them. They are read through once, to write their digests into a manifest in our own
container; the code of a scoring script goes there too. Everything there is named by its own digest, so writing it again
changes nothing. The controller reads bytes here and never loads a model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from mlops_core.adapters.azure.container_group import ServedFiles
from mlops_core.adapters.azure.failures import azure_calls
from mlops_core.adapters.azure.source import CommitFiles
from mlops_core.domain.errors import BadInputError, NotFoundError, PermanentError, TooLargeError
from mlops_core.domain.project import ProjectSpec
from mlops_core.jobs.environment_files import read_environment
from mlops_core.pipelines.documents import DocumentError, parse
from mlops_core.pipelines.environment_specs import environment_of_conda
from mlops_core.pipelines.plan import EnvironmentSpec
from mlops_core.ports import DeploymentRequest, ModelRegistry

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

OpenContainer = Callable[[str, str], "ContainerClient"]
"""Opens a blob container, given the account's address and the container's name."""
FindDatastore = Callable[[str], tuple[str, str]]
"""Gives the account's address and the container of a workspace's datastore. Raises: NotFoundError, TemporaryError."""

_DATASTORE = re.compile(r"azureml:.*/?datastores/(?P<store>[^/]+)/paths/(?P<path>.+)")
_MOST_MODEL_FILES = 20_000
_MOST_CODE_FILES = 1_000
_MOST_CODE_BYTES = 100_000_000
_MOST_TEXT_BYTES = 1_000_000
_CURRENT = "current"


@dataclass(frozen=True)
class _File:
    path: str
    url: str
    size: int
    sha256: str


@dataclass(frozen=True)
class _Place:
    """Where a model's files are: a folder of a blob container, or one blob."""

    container: ContainerClient
    path: str


class ServedFilesStore:
    """Lists what containers fetch."""

    def __init__(
        self,
        registry: ModelRegistry,
        own: ContainerClient,
        *,
        open_container: OpenContainer,
        find_datastore: FindDatastore,
        commits: CommitFiles,
        storage_hosts: tuple[str, ...] = (".blob.core.windows.net",),
    ) -> None:
        """
        Publish into a container of our own.

        Args:
            own: Exists already; the serving identity may read it.
            storage_hosts: What the hosts of storage accounts end with, in this cloud.
        """
        self._storage_hosts = storage_hosts
        self._registry = registry
        self._own = own
        self._open = open_container
        self._find_datastore = find_datastore
        self._commits = commits

    def files_of(self, request: DeploymentRequest) -> ServedFiles:
        """
        Write down what a deployment's container fetches, and say where that is written.

        Raises: NotFoundError: The version has no files. PermanentError, TooLargeError, TemporaryError.
        """
        name = f"{request.model}:{request.version}"
        with azure_calls(f"reading the files of model '{name}'"):
            place = self._place(request)
            model = list(self._model_files(place, name))
        with azure_calls(f"publishing the code of '{name}'"):
            files = [*model, *self._code_files(request)]
            listed = [{"path": f.path, "url": f.url, "bytes": f.size, "sha256": f.sha256} for f in files]
            text = json.dumps({"files": listed}, sort_keys=True, indent=1).encode()
            digest = hashlib.sha256(text).hexdigest()
            address = self._publish(f"manifests/{digest}.json", text)
        return ServedFiles(address, digest, _tree_digest(model), PurePosixPath(place.path).name)

    def environment_of(self, request: DeploymentRequest) -> EnvironmentSpec:
        """
        Find what a version's image must hold: what `mlops.yaml` names, else what the model declares, else the build's.

        Raises: BadInputError, NotFoundError, PermanentError, TemporaryError.
        """
        if request.serve.environment is None:
            declared = self._declared(request)
            if declared is not None:
                return declared
        wanted = request.serve.environment or (request.spec.build.environment if request.spec else None)
        if wanted == _CURRENT or request.commit is None or request.spec is None:
            return EnvironmentSpec(name=_CURRENT, current=True)
        with self._commits.project_root(request.project, request.commit) as root:
            return _read(root, wanted) if wanted is not None else _first_environment(root, request.spec)

    def _place(self, request: DeploymentRequest) -> _Place:
        uri = self._registry.version(request.model, request.version).uri
        found = _DATASTORE.fullmatch(uri)
        if found is not None:
            account, container = self._find_datastore(found["store"])
            return _Place(self._open(account, container), found["path"].strip("/"))
        parts = urlsplit(uri)
        container, _, path = unquote(parts.path).strip("/").partition("/")
        # The credential goes with the request: to storage, and to nobody whom a model's address might name.
        if parts.scheme != "https" or not parts.netloc.endswith(self._storage_hosts) or not path or parts.query:
            raise PermanentError(
                f"Model version '{request.model}:{request.version}' has its files at '{uri[:200]}', which is no place in "
                "blob storage. Register it from a job's output or from a datastore of the workspace."
            )
        return _Place(self._open(f"https://{parts.netloc}", container), path)

    def _model_files(self, place: _Place, name: str) -> Iterator[_File]:
        number = 0
        for blob in self._blobs(place):
            number += 1
            if number > _MOST_MODEL_FILES:
                raise TooLargeError(
                    f"Model '{name}' has more than {_MOST_MODEL_FILES} files. Register a smaller folder."
                )
            relative = blob.name[len(place.path) :].strip("/") or PurePosixPath(place.path).name
            if "\n" in relative or "\\" in relative or ".." in PurePosixPath(relative).parts:
                raise PermanentError(f"Model '{name}' has a file named {relative!r}. Rename it, and register it anew.")
            digest, size = hashlib.sha256(), 0
            for chunk in place.container.download_blob(blob.name).chunks():
                digest.update(chunk)
                size += len(chunk)
            url = place.container.get_blob_client(blob.name).url
            yield _File(f"model/{relative}", url, size, digest.hexdigest())
        if number == 0:
            raise NotFoundError("file of model version", name, advice="Its files were deleted; train it again.")

    def _blobs(self, place: _Place) -> Iterator[Any]:
        """List the blobs of a folder; `model1` is not in folder `model`, and folders themselves are no files."""
        for blob in place.container.list_blobs(name_starts_with=place.path, include=["metadata"]):
            inside = blob.name == place.path or blob.name.startswith(f"{place.path}/")
            if inside and not (blob.metadata or {}).get("hdi_isfolder"):
                yield blob

    def _code_files(self, request: DeploymentRequest) -> list[_File]:
        """Publish the project's files at the commit, for a scoring script; MLflow models need none."""
        code = request.serve.code
        if code is None:
            return []
        served = f"Model '{request.model}:{request.version}' is served by '{code}'"
        if request.commit is None:
            raise PermanentError(f"{served}, but no commit is known. Push the project, then release the version again.")
        with self._commits.project_root(request.project, request.commit) as root:
            paths = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
            if root / code not in paths:
                raise PermanentError(
                    f"{served}, which is not in commit '{request.commit}'. Correct 'release: serve: code' in mlops.yaml."
                )
            if len(paths) > _MOST_CODE_FILES or sum(path.stat().st_size for path in paths) > _MOST_CODE_BYTES:
                raise TooLargeError(
                    f"{served}, and the project has more than {_MOST_CODE_FILES} files or "
                    f"{_MOST_CODE_BYTES // 1_000_000} MB. Keep data out of the repository, or log the model with "
                    "MLflow, which needs no script."
                )
            return [self._code_file(root, path) for path in paths]

    def _code_file(self, root: Path, path: Path) -> _File:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        url = self._publish(f"code/{digest}", content)
        return _File(f"code/{path.relative_to(root).as_posix()}", url, len(content), digest)

    def _publish(self, name: str, content: bytes) -> str:
        """Write a blob that is named by its digest: the same name has the same content already."""
        from azure.core.exceptions import ResourceExistsError

        blob = self._own.get_blob_client(name)
        with contextlib.suppress(ResourceExistsError):
            blob.upload_blob(content, overwrite=False)
        return str(blob.url)

    def _declared(self, request: DeploymentRequest) -> EnvironmentSpec | None:
        """Read the environment that an MLflow model declares beside itself."""
        name = f"model {request.model}:{request.version}"
        with azure_calls(f"reading the environment of '{name}'"):
            place = self._place(request)
            found = {blob.name[len(place.path) :].strip("/"): blob.name for blob in self._blobs(place)}
            if "conda.yaml" in found:
                return environment_of_conda(_yaml(self._content(place, found["conda.yaml"]), name), name, None)
            if "requirements.txt" in found:
                text = self._content(place, found["requirements.txt"]).decode("utf-8-sig", errors="replace")
                lines = [line.strip() for line in text.splitlines()]
                wanted = tuple(line for line in lines if line and not line.startswith("#"))
                return EnvironmentSpec(name=name, pip_requirements=wanted)
        return None

    def _content(self, place: _Place, name: str) -> bytes:
        content: bytes = place.container.download_blob(name, offset=0, length=_MOST_TEXT_BYTES).readall()
        return content


def _tree_digest(files: list[_File]) -> str:
    """Compute what `mlops_core/serving/digest.py` will find in the model's folder, without having it."""
    relative = sorted(
        (f.path.removeprefix("model/"), f.sha256) for f in files if "__pycache__" not in f.path.split("/")
    )
    ordered = sorted(relative, key=lambda entry: entry[0].encode())
    lines = "".join(f"{sha256}  {path}\n" for path, sha256 in ordered)
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def _first_environment(root: Path, spec: ProjectSpec) -> EnvironmentSpec:
    for asset in spec.build.assets:
        document = _yaml(_inside(root, asset).read_bytes(), asset)
        if "conda_file" in document or "dependencies" in document:
            return _read(root, asset)
    return EnvironmentSpec(name=_CURRENT, current=True)


def _read(root: Path, name: str) -> EnvironmentSpec:
    """Read an environment file of a commit, after a look at whether it, and the one that it names, may be read at all."""
    path = _inside(root, name)
    if path.suffix in (".yml", ".yaml"):
        other = _yaml(path.read_bytes(), name).get("conda_file")
        if isinstance(other, str):
            _yaml(_inside(root, str(path.parent.relative_to(root) / other)).read_bytes(), other)
    return read_environment(path)


def _inside(root: Path, name: str) -> Path:
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()) or not path.is_file():
        raise BadInputError(f"There is no file '{name}' in the project at this commit. Correct its path in mlops.yaml.")
    return path


def _yaml(content: bytes, name: str) -> dict[str, object]:
    """Read YAML that others wrote: small, and without anything that grows when it is read."""
    try:
        return parse(content, name)[0]
    except DocumentError as error:
        raise BadInputError(f"The environment of {name} cannot be read: {error.problem.message}") from error
