"""
A GitHub App's credential: a JWT of the app gets a token of its installation, for one repository, two rights, one hour.

Tokens are kept until five minutes before they end, per process: another process gets its own, which GitHub allows.

Source: docs.github.com, "Generating a JSON Web Token (JWT) for a GitHub App" (RS256, `iat` a minute back for clocks that
differ, `exp` at most ten minutes ahead, `iss` the client id or the app's id); github/rest-api-description, operations
apps/get-repo-installation and apps/create-installation-access-token.
"""

from __future__ import annotations

import base64
import functools
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from mlops_core.adapters.hosts.dialect import Ask, parts_of
from mlops_core.adapters.hosts.github_api import HEADERS
from mlops_core.adapters.hosts.refusals import CannotSeeError
from mlops_core.domain.errors import PermanentError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

_BACK, _AHEAD = timedelta(seconds=60), timedelta(minutes=9)
_BEFORE_ITS_END = timedelta(minutes=5)
_PERMISSIONS = {"contents": "read", "statuses": "write"}

Send = Callable[[Ask, Mapping[str, str], str], Any]
"""Sends one request with these headers, once, and reads JSON; the last is what is done, for a refusal's sentence."""


@dataclass(frozen=True)
class _Token:
    value: str = field(repr=False)
    until: datetime


class GitHubAppCredential:
    """
    Gives headers with a token of the installation that a repository belongs to.

    Args:
        api: The API's address.
        private_key: In PEM, as GitHub lets it be downloaded; read at the first use, which imports cryptography.
    """

    def __init__(self, app_id: str, private_key: str, *, api: str, now: Callable[[], datetime]) -> None:
        self._app_id = app_id
        self._private_key = private_key
        self._api = api
        self._now = now
        self._tokens: dict[str, _Token] = {}
        self._lock = threading.Lock()
        self.send: Send | None = None

    def headers(self, repository: str) -> Mapping[str, str]:
        """Give the header; asks GitHub for a token where none is left that lasts."""
        with self._lock:
            token = self._tokens.get(repository)
        if token is None or self._now() >= token.until - _BEFORE_ITS_END:
            token = self._new_token(repository)
            with self._lock:
                self._tokens[repository] = token
        return {"authorization": f"Bearer {token.value}"}

    def refused(self, repository: str) -> bool:
        """Forget a token. Returns: Whether there was one."""
        with self._lock:
            return self._tokens.pop(repository, None) is not None

    def secrets(self) -> Sequence[str]:
        """List the tokens that are kept."""
        with self._lock:
            return [token.value for token in self._tokens.values()]

    def _new_token(self, repository: str) -> _Token:
        if self.send is None:
            raise AssertionError  # unreachable: the client sets it before the first request
        owner, name = parts_of(repository, title="GitHub", form="owner/name")
        app = {**HEADERS, "authorization": f"Bearer {self._jwt()}"}
        doing = f"find the app's installation at '{repository}'"
        try:
            found = self.send(Ask(url=f"{self._api}/repos/{owner}/{name}/installation", right="app"), app, doing)
        except CannotSeeError as error:
            raise PermanentError(
                f"The GitHub App '{self._app_id}' is not installed at '{repository}'. Install it there, on the app's page "
                "under 'Install App', and choose this repository."
            ) from error
        body = {"repositories": [repository.partition("/")[2]], "permissions": _PERMISSIONS}
        address = f"{self._api}/app/installations/{int(found['id'])}/access_tokens"
        doing = f"get a token of the app's installation for '{repository}'"
        made = self.send(Ask(url=address, method="POST", body=body, right="app"), app, doing)
        return _Token(str(made["token"]), datetime.fromisoformat(made["expires_at"]))

    @functools.cached_property
    def _key(self) -> RSAPrivateKey:
        return _read_key(self._private_key)

    def _jwt(self) -> str:
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        now = self._now()
        claims = {
            "iat": int((now - _BACK).timestamp()),
            "exp": int((now + _AHEAD).timestamp()),
            "iss": self._app_id,
        }
        signed = f"{_encoded({'alg': 'RS256', 'typ': 'JWT'})}.{_encoded(claims)}"
        signature = self._key.sign(signed.encode(), PKCS1v15(), SHA256())
        return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _encoded(value: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _read_key(text: str) -> RSAPrivateKey:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    # A key that went through an environment variable often has its line breaks written out.
    pem = text.strip().replace("\\n", "\n").encode()
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise PermanentError(
            "The private key of the GitHub App cannot be read. Give the RSA key in PEM as GitHub let you download it, "
            "'-----BEGIN RSA PRIVATE KEY-----' and its line breaks with it."
        )
    return key
