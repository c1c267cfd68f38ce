"""What a container fetches at its start: by its identity, whole, and only what was deployed."""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mlops_core.serving.errors import ModelLoadError
from mlops_core.serving.fetch import FetchError, Identity, fetch, read_manifest
from mlops_core.serving.options import Options
from mlops_core.serving.server import load_scorer

FILES = {
    "model/MLmodel": b"flavors: {}\n",
    "model/data/weights.bin": bytes(range(256)) * 40,
    "code/score.py": b"x = 1\n",
}


@dataclass
class Storage:
    """A storage account and an identity endpoint on loopback."""

    address: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    refusals: dict[str, list[int]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def manifest(self, files: dict[str, bytes] = FILES) -> tuple[str, str]:
        listed = []
        for path, content in files.items():
            self.blobs[f"/{path}"] = content
            digest = hashlib.sha256(content).hexdigest()
            listed.append({"path": path, "url": f"{self.address}/{path}", "bytes": len(content), "sha256": digest})
        text = json.dumps({"files": listed}).encode()
        self.blobs["/manifest.json"] = text
        return f"{self.address}/manifest.json", hashlib.sha256(text).hexdigest()


@pytest.fixture
def storage() -> Iterator[Storage]:
    made = Storage()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            made.asked.append((self.path, dict(self.headers.items())))
            refusals = made.refusals.get(path, [])
            status = refusals.pop(0) if refusals else 200
            body = made.blobs.get(path, b"")
            if path == "/token":
                body = json.dumps({"access_token": "marked"}).encode()
            elif self.headers["Authorization"] != "Bearer marked":
                status = 401
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"{made.address}/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def fetched(storage: Storage, folder: Path, *, pauses: list[float] | None = None) -> None:
    pause = (pauses if pauses is not None else []).append
    fetch(*storage.manifest(), folder, lambda: "marked", pause=pause)


def test_all_files_arrive_with_the_identitys_token(storage: Storage, tmp_path: Path) -> None:
    identity = Identity("client", f"{storage.address}/token", "secret")
    fetch(*storage.manifest(), tmp_path, identity.token)
    assert {path: (tmp_path / path).read_bytes() for path in FILES} == FILES
    query, headers = storage.asked[0]
    assert parse_qs(urlsplit(query).query)["client_id"] == ["client"]
    assert headers["X-Identity-Header"] == "secret"


def test_what_arrived_before_is_not_fetched_again(storage: Storage, tmp_path: Path) -> None:
    fetched(storage, tmp_path)
    asked = len(storage.asked)
    fetched(storage, tmp_path)
    assert len(storage.asked) == asked + 1


def test_a_hundred_models_with_one_byte_changed_are_refused(storage: Storage, tmp_path: Path) -> None:
    """RELIABILITY, test 23."""
    chance = random.Random(23)
    address, digest = storage.manifest()
    whole = dict(storage.blobs)
    for number in range(100):
        storage.blobs = dict(whole)
        path = chance.choice(sorted(whole))
        changed = bytearray(whole[path])
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        storage.blobs[path] = bytes(changed)
        with pytest.raises(FetchError):
            fetch(address, digest, tmp_path / str(number), lambda: "marked", pause=lambda _: None)
        assert not (tmp_path / str(number) / path.lstrip("/")).exists()


@pytest.mark.parametrize("change", [lambda body: body[:-1], lambda body: body + b"!"], ids=["shorter", "longer"])
def test_a_file_of_another_length_is_refused_at_once(storage: Storage, tmp_path: Path, change: Any) -> None:
    address, digest = storage.manifest()
    storage.blobs["/model/MLmodel"] = change(storage.blobs["/model/MLmodel"])
    pauses: list[float] = []
    with pytest.raises(FetchError, match="not the file that was deployed"):
        fetch(address, digest, tmp_path, lambda: "marked", pause=pauses.append)
    assert pauses == []


def test_a_changed_model_is_refused_before_anything_is_loaded(storage: Storage, tmp_path: Path) -> None:
    address, digest = storage.manifest()
    storage.blobs["/code/score.py"] = b"open('ran', 'w')\n"
    environment = {"IDENTITY_ENDPOINT": f"{storage.address}/token", "IDENTITY_HEADER": "secret"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        options = Options(
            model=str(tmp_path / "model"),
            code=str(tmp_path / "code/score.py"),
            manifest=address,
            manifest_digest=digest,
            fetch_to=str(tmp_path),
        )
        with pytest.raises(ModelLoadError, match=r"code/score\.py"):
            load_scorer(options)
    assert not (tmp_path / "code" / "score.py").exists()


def test_a_moments_trouble_is_waited_out(storage: Storage, tmp_path: Path) -> None:
    storage.refusals = {"/model/MLmodel": [503, 429, 500]}
    pauses: list[float] = []
    fetched(storage, tmp_path, pauses=pauses)
    assert pauses == [1, 2, 4]


def test_a_refusal_for_good_is_told_at_once_with_the_role_and_no_address(storage: Storage, tmp_path: Path) -> None:
    storage.refusals = {"/model/MLmodel": [403]}
    with pytest.raises(FetchError, match="Storage Blob Data Reader") as caught:
        fetched(storage, tmp_path)
    assert storage.address not in str(caught.value)


def test_a_redirect_does_not_get_the_token(storage: Storage, tmp_path: Path) -> None:
    storage.refusals = {"/model/MLmodel": [302]}
    with pytest.raises(FetchError):
        fetched(storage, tmp_path)
    assert "/elsewhere" not in [path for path, _ in storage.asked]


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b", "a\\..\\b", ""])
def test_a_manifest_cannot_write_outside_its_folder(path: str) -> None:
    listed = {"files": [{"path": path, "url": "https://a/b", "bytes": 1, "sha256": "0"}]}
    with pytest.raises(FetchError, match="no path inside"):
        read_manifest(json.dumps(listed).encode())


def test_a_token_is_never_sent_in_the_clear(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="no https address"):
        fetch("http://example.org/manifest.json", "0" * 64, tmp_path, lambda: "marked")


def test_nothing_is_fetched_without_a_digest(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="without its digest"):
        fetch(storage.manifest()[0], "", tmp_path, lambda: "marked")
    assert storage.asked == []
