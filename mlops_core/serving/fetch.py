"""
Bring the model and its code into a container at its start, and let nothing through that was changed on the way.

Whoever deploys a version writes down each file with its SHA-256 in a manifest, and hands the container the manifest's own
digest. So the container trusts one short text: a file, or the manifest, with one byte changed is refused before anything
is loaded. Files come from blob storage by the container's managed identity, asked for over its local endpoint; only the
standard library is used, because this runs in the model's own environment. Source of both endpoints: "How to use managed
identities for Azure resources on an Azure VM to acquire an access token", and the same page for App Service.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any

from mlops_core.serving.errors import ModelLoadError

_IMDS = "http://169.254.169.254/metadata/identity/oauth2/token"
_STORAGE = "https://storage.azure.com/"
_STORAGE_VERSION = "2021-12-02"
_CHUNK_BYTES = 1 << 20
_SECONDS = 60
# A new group's identity is not always known in its first minute, and storage throttles: 1 + 2 + 4 + 8 + 16 + 32 s.
_TRIES = 7
_AGAIN = frozenset({404, 408, 410, 429, 500, 502, 503, 504})
_MOST_MANIFEST_BYTES = 16 * 1024 * 1024
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class FetchError(ModelLoadError):
    """A file could not be fetched, or is not the one that was deployed."""


@dataclass(frozen=True)
class Wanted:
    """One file of the manifest: where it goes, where it comes from, and what it must be."""

    path: str
    url: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Identity:
    """
    The container's managed identity.

    Attributes:
        client: Client id of a user-assigned identity; empty for the only one.
        endpoint: Where the platform hands out tokens; empty for the instance metadata service.
        secret: What that endpoint wants to see; empty for none.
    """

    client: str = ""
    endpoint: str = ""
    secret: str = ""

    @classmethod
    def here(cls, client: str) -> Identity:
        """Find the identity of this container."""
        environment: Mapping[str, str] = os.environ  # noqa: TID251 - the platform tells it so, to this process alone
        return cls(client, environment.get("IDENTITY_ENDPOINT", ""), environment.get("IDENTITY_HEADER", ""))

    def token(self, *, pause: Callable[[float], None] = time.sleep) -> str:
        """Get a token for storage. Raises: FetchError."""
        query = {"resource": _STORAGE, "api-version": "2019-08-01" if self.endpoint else "2018-02-01"}
        if self.client:
            query["client_id"] = self.client
        headers = {"X-IDENTITY-HEADER": self.secret} if self.endpoint else {"Metadata": "true"}
        address = f"{self.endpoint or _IMDS}?{urllib.parse.urlencode(query)}"
        body = _read(address, headers, what="a token of the container's identity", limit=_CHUNK_BYTES, pause=pause)
        try:
            return str(json.loads(body)["access_token"])
        except (ValueError, KeyError, TypeError) as error:
            message = (
                "The identity endpoint's answer has no token. Check that the group has its user-assigned identity."
            )
            raise FetchError(message) from error


def fetch(
    manifest: str,
    digest: str,
    folder: Path,
    token: Callable[[], str],
    *,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """
    Put what a manifest lists into a folder.

    Args:
        manifest: The manifest's address.
        digest: SHA-256 of the manifest, in hex.
        token: Gives a bearer token for storage; asked once.
    Raises:
        FetchError: Something could not be had, or is not what was deployed; nothing of it may be loaded then.
    """
    if not digest:
        raise FetchError("A manifest was named without its digest. Give --manifest-digest, or nothing is fetched.")
    headers = {"Authorization": f"Bearer {token()}", "x-ms-version": _STORAGE_VERSION}
    _check_address(manifest)
    text = _read(manifest, headers, what="the manifest", limit=_MOST_MANIFEST_BYTES, pause=pause)
    found = hashlib.sha256(text).hexdigest()
    if found != digest:
        message = (
            f"The manifest has the digest '{found}', not '{digest}'. Deploy the version again; nothing was loaded."
        )
        raise FetchError(message)
    for wanted in read_manifest(text):
        target = folder / wanted.path
        if not _is(target, wanted):
            _fetch_file(wanted, target, headers, pause)


def read_manifest(text: bytes) -> list[Wanted]:
    """
    Read a manifest, refusing names that lead out of the folder.

    Raises: FetchError.
    """
    try:
        listed: list[dict[str, Any]] = json.loads(text)["files"]
        files = [Wanted(str(e["path"]), str(e["url"]), int(e["bytes"]), str(e["sha256"])) for e in listed]
    except (ValueError, KeyError, TypeError) as error:
        raise FetchError(f"The manifest cannot be read: {error}. Deploy the version again.") from error
    for wanted in files:
        parts = PurePosixPath(wanted.path)
        if parts.is_absolute() or ".." in parts.parts or "\\" in wanted.path or "\0" in wanted.path or not parts.parts:
            raise FetchError(f"The manifest lists '{wanted.path}', which is no path inside the folder.")
        _check_address(wanted.url)
    return files


def _check_address(address: str) -> None:
    """Refuse to send a token in the clear, or anywhere but to a host."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise FetchError(f"'{parts.scheme}://{parts.netloc}' is no https address, so nothing is fetched from there.")


def _is(path: Path, wanted: Wanted) -> bool:
    """Tell whether a file is there already, as after a restart of the process."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size != wanted.size:
        return False
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest() == wanted.sha256


def _fetch_file(wanted: Wanted, target: Path, headers: Mapping[str, str], pause: Callable[[float], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.part")

    def take(answer: Any) -> str:
        announced = answer.headers.get("Content-Length")
        if announced not in (None, str(wanted.size)):
            return f"{announced} bytes instead of {wanted.size}"
        digest, size = hashlib.sha256(), 0
        with beside.open("wb") as stream:
            for chunk in iter(lambda: answer.read(_CHUNK_BYTES), b""):
                size += len(chunk)
                if size > wanted.size:
                    return f"more than {wanted.size} bytes"
                digest.update(chunk)
                stream.write(chunk)
        if size != wanted.size:
            # The connection broke, or the file was cut: the next try shows which.
            raise HTTPException(f"{size} of {wanted.size} bytes came")
        return digest.hexdigest()

    found = _try(wanted.url, headers, take, what=f"'{wanted.path}'", pause=pause)
    if found != wanted.sha256:
        beside.unlink(missing_ok=True)
        message = f"'{wanted.path}' is not the file that was deployed: it has {found}, not '{wanted.sha256}'."
        raise FetchError(f"{message} Find out who changed it, and register the model anew; nothing was loaded.")
    beside.replace(target)


def _read(address: str, headers: Mapping[str, str], *, what: str, limit: int, pause: Callable[[float], None]) -> bytes:
    def take(answer: Any) -> bytes:
        body: bytes = answer.read(limit + 1)
        if len(body) > limit:
            raise FetchError(f"{what} has more than {limit} bytes.")
        return body

    body: bytes = _try(address, headers, take, what=what, pause=pause)
    return body


def _try(
    address: str,
    headers: Mapping[str, str],
    take: Callable[[Any], Any],
    *,
    what: str,
    pause: Callable[[float], None],
) -> Any:
    """Ask until it works or is no use; the address is not told, since nothing proves that it holds no secret."""
    trouble = ""
    for number in range(_TRIES):
        if number:
            pause(2.0 ** (number - 1))
        request = urllib.request.Request(address, headers=dict(headers))  # noqa: S310 - `_check_address`, or the endpoint
        try:
            with _opener().open(request, timeout=_SECONDS) as answer:
                return take(answer)
        except urllib.error.HTTPError as error:
            trouble = f"status {error.code}"
            error.close()
            if error.code not in _AGAIN:
                break
        except (urllib.error.URLError, HTTPException, OSError) as error:
            trouble = f"{type(error).__name__}: {error}"
    raise FetchError(
        f"{what} could not be fetched ({trouble}). Check that the serving identity has the role 'Storage Blob Data Reader' "
        "on the storage account, and that the account lets the container in."
    )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the token to whom the answer names."""

    def redirect_request(self, *_: Any) -> None:
        """Follow nothing."""


@functools.lru_cache(maxsize=1)
def _opener() -> urllib.request.OpenerDirector:
    # Once: it reads the trusted certificates, which takes longer than many a file.
    # No proxy: neither the local identity endpoint nor the token is for one.
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())
