"""
Brings the files of a model version from the registry into a folder, once, whole and with a digest.

The deployer calls it, never the controller: models may be large. Loading a model runs its code, so the files are
compared with the digest of what was downloaded each time before they are handed out.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from mlops_core.adapters.local.durable_files import read_record, write_record
from mlops_core.adapters.mlflow_api import MlflowApi
from mlops_core.domain.errors import NotFoundError, PermanentError, RefusedError, TemporaryError
from mlops_core.domain.ids import ModelName, ModelVersion
from mlops_core.serving.digest import UndigestibleError, tree_digest

_SCHEME = "mlflow-artifacts"
_DEEPEST_FOLDER = 32
_MOST_FILES = 20_000


class ModelFiles:
    """The downloaded files of model versions, one folder each."""

    def __init__(self, folder: Path, api: MlflowApi) -> None:
        """Keep files in a folder; it is made when missing."""
        self._folder = folder.absolute()
        self._api = api

    def artifact_path(self, model: ModelName, version: ModelVersion) -> Path:
        """
        Return the folder with a version's files, downloaded on the first call.

        While the registry is away, as when everything is being started, files that were downloaded before are good.

        Raises:
            NotFoundError: The registry knows no such version, or it has no files.
            RefusedError: The files are not those that were downloaded.
            PermanentError: The files are at a place, or have names, that are not taken.
            TemporaryError: The registry did not answer, and the files are not here, or of two models of that name.
        """
        name = f"{model}:{version}"
        parameters = {"name": model, "version": version}
        try:
            answer = self._api.get("model-versions/get-download-uri", parameters, kind="model version", name=name)
        except TemporaryError:
            place = self._only_place_of(name)
            if place is None:
                raise
            self._verify(place, name)
            return place / "files"
        uri = str(answer.get("artifact_uri", ""))
        # A model that is deleted and registered anew gets the same version numbers, but other files.
        place = self._folder / hashlib.sha256(f"{name}\n{uri}".encode()).hexdigest()[:24]
        if not place.exists():
            source = _path_of(uri, name)
            with self._alone():
                if not place.exists():
                    self._download(source, place, name)
        self._verify(place, name)
        return place / "files"

    def registered_folder(self, files: Path) -> str:
        """Return what a folder that `artifact_path` gave is called in the registry; empty where it has no name there."""
        folder = str((read_record(files.parent / "digest.json") or {}).get("folder", ""))
        # MLflow 3 keeps a logged model in a folder of this name, whatever its own.
        return "" if folder == "artifacts" else folder

    def _only_place_of(self, name: str) -> Path | None:
        """Find where the files of a version are; None where there are none, or those of more than one model."""
        records = self._folder.glob("[!.]*/digest.json")
        places = [path.parent for path in records if (read_record(path) or {}).get("version") == name]
        return places[0] if len(places) == 1 else None

    def digest(self, files: Path) -> str:
        """Return the digest of a folder that `artifact_path` gave, as it was when it was downloaded."""
        return str((read_record(files.parent / "digest.json") or {}).get("digest", ""))

    def _download(self, source: str, place: Path, name: str) -> None:
        """Download beside, then rename; the caller holds the lock, so that what is left beside is of a crash."""
        beside = self._folder / f".{place.name}"
        shutil.rmtree(beside, ignore_errors=True)
        try:
            (beside / "files").mkdir(parents=True)
            if not self._fetch_folder(source, beside / "files"):
                raise NotFoundError("file of model version", name, advice="Register a model that has been logged.")
            folder = PurePosixPath(source).name
            record = {"version": name, "digest": tree_digest(beside / "files"), "folder": folder}
            write_record(beside / "digest.json", record)
            beside.rename(place)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one thread or process at a time download."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _fetch_folder(self, source: str, target: Path) -> int:
        """Download a folder with those inside; return how many files there were."""
        files = 0
        waiting = [(source, target, 0)]
        while waiting:
            folder, into, depth = waiting.pop()
            for entry in self._api.list_artifacts(folder):
                name = _plain_name(str(entry["path"]), folder)
                if entry.get("is_dir"):
                    (into / name).mkdir()
                    waiting.append((f"{folder}/{name}", into / name, depth + 1))
                    continue
                files += 1
                self._fetch_file(f"{folder}/{name}", into / name, int(entry.get("file_size", -1)))
            if depth > _DEEPEST_FOLDER or files > _MOST_FILES:
                limits = f"{_DEEPEST_FOLDER} nested folders or {_MOST_FILES} files"
                raise PermanentError(f"Artifact folder '{source}' has more than {limits}. Log a smaller model.")
        return files

    def _fetch_file(self, source: str, target: Path, announced_bytes: int) -> None:
        self._api.download(source, target)
        received = target.stat().st_size
        if announced_bytes not in {-1, received}:
            raise TemporaryError(f"Artifact '{source}' has {announced_bytes} bytes, but {received} came. Try again.")

    def _verify(self, place: Path, name: str) -> None:
        expected = (read_record(place / "digest.json") or {}).get("digest")
        try:
            found = tree_digest(place / "files")
        except UndigestibleError as error:
            raise RefusedError(f"The files of model version '{name}' were changed: {error}") from error
        if expected != found:
            raise RefusedError(
                f"The files of model version '{name}' in '{place}' are not those that were downloaded. "
                "Delete that folder, so that they are downloaded again, and find out who changed them."
            )


def _path_of(uri: str, name: str) -> str:
    """Return the artifact path inside the server's own store."""
    parts = urlsplit(uri)
    path = parts.path.strip("/")
    if parts.scheme != _SCHEME or not path or ".." in PurePosixPath(path).parts:
        raise PermanentError(
            f"Model version '{name}' has its files at '{uri}', which is not in this MLflow server's own store "
            f"('{_SCHEME}:/...'). Log the model with the tracking address that the job was given."
        )
    return path


def _plain_name(path: str, folder: str) -> str:
    """Return the last part of a listed path, refusing whatever could lead out of the folder."""
    name = path.rsplit("/", 1)[-1]
    if name in {"", ".", ".."} or "\\" in name or "\0" in name:
        raise PermanentError(f"Artifact folder '{folder}' lists a file named '{path}', which is not a plain file name.")
    return name
