"""
The documented forms of the repository hosts' APIs, played over real bare repositories: what `hosts_double` answers from.

Each rule names a method, a path, the query keys that may be there and those that must, and for bodies every key with the
check of its value. The forms come from the pages that the modules `mlops_core/adapters/hosts/*_api.py` name, not from those
modules.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "t0k3n-of-the-operator"
LINK_SECRET = "s3cr3t-of-the-link"
SHA = "[0-9a-f]{40}"


@dataclass(frozen=True)
class Call:
    """A request: the path as it was sent, after the host's own prefix."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes | Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    method: str
    path: str
    answer: Callable[..., Reply]
    may: frozenset[str] = frozenset()
    must: frozenset[str] = frozenset()
    body: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)
    needed: frozenset[str] = frozenset()


@dataclass
class Repository:
    """A bare repository under its name at a host, with the statuses that were set."""

    git_dir: Path
    statuses: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def git(self, *arguments: str) -> bytes | None:
        done = subprocess.run(["git", f"--git-dir={self.git_dir}", *arguments], capture_output=True)
        return done.stdout if done.returncode == 0 else None

    def has(self, commit: str) -> bool:
        return self.git("cat-file", "-e", f"{commit}^{{commit}}") is not None

    def branches(self) -> list[tuple[str, str]]:
        lines = (self.git("for-each-ref", "--format=%(objectname) %(refname:strip=2)", "refs/heads/") or b"").decode()
        return [(name, commit) for commit, name in (line.split(" ", 1) for line in lines.splitlines())]


def text(most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and 0 < len(value) <= most


def one_of(*values: str) -> Callable[[Any], bool]:
    return lambda value: value in values


def link(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"https?://\S{1,2000}", value))


def keys(*names: str) -> frozenset[str]:
    return frozenset(names)


class Form:
    """One kind of host. Subclasses give rules; a rule's answer gets the call, the repository and the path's groups."""

    prefix = ""
    repository = ""
    rules: tuple[Rule, ...] = ()
    page = 2

    def __init__(self, base: str, archive_base: str) -> None:
        self.base = base
        self.archive_base = archive_base
        self.repositories: dict[str, Repository] = {}

    def authenticated(self, call: Call) -> bool:
        return call.headers.get("authorization") == f"Bearer {TOKEN}"

    def not_authenticated(self) -> Reply:
        return Reply(401, {"message": f"Bad credentials, not {TOKEN}"})

    def absent(self) -> Reply:
        return Reply(404, {"message": "Not Found"})

    def seen(self, call: Call, repo: Repository) -> Reply:
        return Reply(200, {"id": 1, "full_name": "x"})

    def raw(self, repo: Repository, commit: str, path: str, kind: str = "text/plain") -> Reply:
        found = repo.git("cat-file", "blob", f"{commit}:{unquote(path)}")
        return self.absent() if found is None else Reply(200, found, {"content-type": kind})

    def commit(self, repo: Repository, commit: str, key: str) -> Reply:
        return Reply(200, {key: commit, "message": "x"}) if repo.has(commit) else self.absent()

    def archived(self, repo: Repository, ref: str, form: str = "tar.gz", *, around: str = "around/") -> Reply:
        found = repo.git("archive", f"--format={form}", *([f"--prefix={around}"] if around else []), ref)
        return self.absent() if found is None else Reply(200, found, {"content-type": "application/octet-stream"})

    def set_status(self, call: Call, repo: Repository, commit: str) -> Reply:
        if not repo.has(commit):
            return Reply(422, {"message": f"No commit found for SHA: {commit}"})
        repo.statuses.append((commit, call.body))
        return Reply(201, {"id": len(repo.statuses)})

    def paged(self, call: Call, items: list[Any]) -> Reply:
        """Page by number with `Link`, as GitHub, GitLab and Gitea do; never as many as asked for."""
        number = int(call.query.get("page", "1"))
        part = items[(number - 1) * self.page : number * self.page]
        more = number * self.page < len(items)
        header = (
            {"link": f'<{self.base}/next?page={number + 1}>; rel="next", <{self.base}/x>; rel="last"'} if more else {}
        )
        return Reply(200, part, header)


class GitHub(Form):
    prefix = "/github/api/v3"
    repository = r"/repos/(?P<repo>[^/]+/[^/]+)"

    def __init__(self, base: str, archive_base: str) -> None:
        super().__init__(base, archive_base)
        self.app_id, self.app_key, self.installed = "4711", "", True
        self.made_tokens: dict[str, str] = {}
        self.expires_at = "2026-01-01T01:00:00Z"
        self.app_seconds: Callable[[], float] = lambda: 0.0
        status = {
            "state": one_of("error", "failure", "pending", "success"),
            "target_url": link, "description": text(140), "context": text(255),
        }  # fmt: skip
        wanted = {"repositories": lambda value: value == ["x"], "permissions": self._permissions}
        self.rules = (
            Rule("GET", "", self.seen),
            Rule("GET", f"/git/commits/({SHA})", lambda _, repo, sha: self.commit(repo, sha, "sha")),
            Rule("GET", "/contents/(.+)", self._contents, keys("ref"), keys("ref")),
            Rule("GET", "/git/matching-refs/heads/(.+)", self._matching),
            Rule("GET", "/branches", self._branches, keys("per_page", "page")),
            Rule("POST", f"/statuses/({SHA})", self.set_status, body=status, needed=keys("state")),
            Rule("GET", f"/tarball/({SHA})", self._tarball),
            Rule("GET", "/installation", self._installation),
            Rule("POST", "/app/installations/12/access_tokens", self._access_token, body=wanted),
        )

    def authenticated(self, call: Call) -> bool:
        assert call.headers["accept"].startswith(("application/vnd.github+", "application/vnd.github.raw")), "accept"
        assert call.headers["x-github-api-version"] == "2022-11-28"
        assert call.headers["user-agent"], "GitHub refuses requests without a user agent"
        scheme, _, value = call.headers.get("authorization", "").partition(" ")
        if call.path.endswith(("/installation", "/access_tokens")):
            return scheme == "Bearer" and self._jwt(value)
        return scheme == "Bearer" and (value == TOKEN or value in self.made_tokens)

    def _jwt(self, token: str) -> bool:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        head, claims, signature = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
        try:
            signed = token.rpartition(".")[0].encode()
            self.app_key.public_key().verify(signature, signed, PKCS1v15(), SHA256())  # type: ignore[attr-defined]  # set by tests
        except InvalidSignature:
            return False
        said, now = json.loads(claims), self.app_seconds()
        assert json.loads(head) == {"alg": "RS256", "typ": "JWT"}
        assert said.keys() == {"iat", "exp", "iss"}
        assert said["exp"] - now <= 600, "GitHub refuses an 'exp' of more than ten minutes ahead"
        return bool(said["iss"] == self.app_id and said["iat"] <= now < said["exp"])

    @staticmethod
    def _permissions(value: Any) -> bool:
        return bool(value == {"contents": "read", "statuses": "write"})

    def _installation(self, call: Call, repo: Repository) -> Reply:
        return Reply(200, {"id": 12, "app_id": 4711}) if self.installed else self.absent()

    def _access_token(self, call: Call, repo: None) -> Reply:
        token = f"ghs_made{len(self.made_tokens)}"
        self.made_tokens[token] = self.expires_at
        return Reply(201, {"token": token, "expires_at": self.expires_at, "permissions": call.body["permissions"]})

    def _contents(self, call: Call, repo: Repository, path: str) -> Reply:
        assert "raw" in call.headers["accept"], "without the raw media type, content comes in base64"
        return self.raw(repo, call.query["ref"], path, "application/vnd.github.raw+json; charset=utf-8")

    def _matching(self, call: Call, repo: Repository, start: str) -> Reply:
        if not repo.branches():
            return Reply(409, {"message": "Git Repository is empty."})
        found = [each for each in repo.branches() if each[0].startswith(unquote(start))]
        return Reply(
            200, [{"ref": f"refs/heads/{name}", "object": {"type": "commit", "sha": sha}} for name, sha in found]
        )

    def _branches(self, call: Call, repo: Repository) -> Reply:
        items = [{"name": name, "commit": {"sha": sha, "url": "x"}} for name, sha in repo.branches()]
        return self.paged(call, items)

    def _tarball(self, call: Call, repo: Repository, sha: str) -> Reply:
        return Reply(302, b"", {"location": f"{self.archive_base}/github/{sha}?token={LINK_SECRET}"})


class GitLab(Form):
    prefix = "/gitlab/api/v4"
    repository = r"/projects/(?P<repo>[^/]+%2F[^/]+)"

    def __init__(self, base: str, archive_base: str) -> None:
        super().__init__(base, archive_base)
        status = {
            "state": one_of("pending", "running", "success", "failed", "canceled", "skipped"),
            "name": text(255), "context": text(255), "ref": text(255), "target_url": link, "description": text(255),
            "coverage": lambda value: isinstance(value, float), "pipeline_id": lambda value: isinstance(value, int),
        }  # fmt: skip
        self.rules = (
            Rule("GET", "", self.seen),
            Rule("GET", f"/repository/commits/({SHA})", lambda _, repo, sha: self.commit(repo, sha, "id")),
            Rule("GET", "/repository/files/([^/]+)/raw", self._file, keys("ref", "lfs"), keys("ref")),
            Rule("GET", "/repository/branches", self._branches, keys("search", "per_page", "page", "regex")),
            Rule("POST", f"/statuses/({SHA})", self._status, body=status, needed=keys("state")),
            Rule("GET", r"/repository/archive\.tar\.gz", self._archive, keys("sha", "path"), keys("sha")),
        )

    def authenticated(self, call: Call) -> bool:
        return call.headers.get("private-token") == TOKEN

    def _file(self, call: Call, repo: Repository, path: str) -> Reply:
        return self.raw(repo, call.query["ref"], path)

    def _branches(self, call: Call, repo: Repository) -> Reply:
        search = call.query.get("search", "")
        found = [
            {"name": name, "commit": {"id": sha, "short_id": sha[:8]}}
            for name, sha in repo.branches()
            if (name.startswith(search[1:]) if search.startswith("^") else search in name)
        ]
        return self.paged(call, found)

    def _status(self, call: Call, repo: Repository, sha: str) -> Reply:
        known = [body for at, body in repo.statuses if (at, body["name"]) == (sha, call.body["name"])]
        if known and known[-1]["state"] == call.body["state"] == "running":
            return Reply(
                400, {"message": "Cannot transition status via :run from :running (Reason(s): Status cannot ...)"}
            )
        return self.set_status(call, repo, sha)

    def _archive(self, call: Call, repo: Repository) -> Reply:
        return self.archived(repo, call.query["sha"])


class AzureDevOps(Form):
    prefix = "/azure-devops/org"
    repository = r"/(?P<repo>[^/]+/_apis/git/repositories/[^/]+)"

    def __init__(self, base: str, archive_base: str) -> None:
        super().__init__(base, archive_base)
        at = keys("versionDescriptor.versionType", "versionDescriptor.version", "api-version")
        items = at | keys("path", "scopePath", "recursionLevel", "$format", "zipForUnix", "download")
        refs = keys("filter", "filterContains", "$top", "continuationToken", "api-version", "peelTags")
        status = {
            "state": one_of("notSet", "pending", "succeeded", "failed", "error", "notApplicable"),
            "description": text(4000), "targetUrl": link,
            "context": lambda value: value.keys() == {"name", "genre"} and all(map(text(256), value.values())),
        }  # fmt: skip
        version = keys("api-version")
        self.rules = (
            Rule("GET", "", self.seen, version, version),
            Rule("GET", f"/commits/({SHA})", lambda _, repo, sha: self.commit(repo, sha, "commitId"), version, version),
            Rule("GET", "/items", self._items, items, at),
            Rule("GET", "/refs", self._refs, refs, version),
            Rule(
                "POST",
                f"/commits/({SHA})/statuses",
                self.set_status,
                version,
                version,
                status,
                keys("state", "context"),
            ),
        )

    def authenticated(self, call: Call) -> bool:
        assert call.query.get("api-version") == "7.1"
        return call.headers.get("authorization") == "Basic " + base64.b64encode(f":{TOKEN}".encode()).decode()

    def not_authenticated(self) -> Reply:
        return Reply(203, b"<html>Azure DevOps Services | Sign In</html>", {"content-type": "text/html"})

    def _items(self, call: Call, repo: Repository) -> Reply:
        query = call.query
        assert query["versionDescriptor.versionType"] == "commit"
        if query.get("$format") == "zip":
            assert (query["scopePath"], query["recursionLevel"]) == ("/", "full")
            return self.archived(repo, f"{query['versionDescriptor.version']}^{{tree}}", "zip", around="")
        assert call.headers["accept"] == "application/octet-stream", "otherwise metadata comes as JSON"
        return self.raw(repo, query["versionDescriptor.version"], query["path"].removeprefix("/"))

    def _refs(self, call: Call, repo: Repository) -> Reply:
        names = [(f"refs/heads/{name}", sha) for name, sha in repo.branches()]
        start = f"refs/{call.query.get('filter', '')}"
        found = [{"name": name, "objectId": sha} for name, sha in names if name.startswith(start)]
        begin = int(call.query.get("continuationToken", "0"))
        more = begin + self.page < len(found)
        header = {"x-ms-continuationtoken": str(begin + self.page)} if more else {}
        part = found[begin : begin + self.page]
        return Reply(200, {"value": part, "count": len(part)}, header)


class Bitbucket(Form):
    prefix = "/bitbucket"
    repository = r"(?:/2\.0/repositories)?/(?P<repo>[^/]+/[^/]+)"

    def __init__(self, base: str, archive_base: str) -> None:
        super().__init__(base, archive_base)
        status = {
            "key": text(40), "state": one_of("FAILED", "INPROGRESS", "STOPPED", "SUCCESSFUL"), "name": text(255),
            "url": link, "description": text(255), "refname": text(255),
        }  # fmt: skip
        self.rules = (
            Rule("GET", "", self.seen),
            Rule("GET", f"/commit/({SHA})", lambda _, repo, sha: self.commit(repo, sha, "hash")),
            Rule("GET", f"/src/({SHA})/(.+)", lambda _, repo, sha, path: self.raw(repo, sha, path)),
            Rule("GET", "/refs/branches", self._branches, keys("q", "pagelen", "page", "sort", "after")),
            Rule(
                "POST",
                f"/commit/({SHA})/statuses/build",
                self.set_status,
                body=status,
                needed=keys("key", "state", "url"),
            ),
            Rule("GET", rf"/get/({SHA})\.tar\.gz", lambda _, repo, sha: self.archived(repo, sha)),
        )

    def _branches(self, call: Call, repo: Repository) -> Reply:
        assert int(call.query.get("pagelen", "10")) <= 100
        wanted = re.fullmatch(r'name = "(.*)"', call.query.get("q", ""))
        found = [
            {"type": "branch", "name": name, "target": {"hash": sha}}
            for name, sha in repo.branches()
            if wanted is None or name == wanted[1]
        ]
        begin = int(call.query.get("after", "0"))
        answer: dict[str, Any] = {"values": found[begin : begin + self.page], "pagelen": self.page}
        if begin + self.page < len(found):
            answer["next"] = f"{self.base}{self.prefix}{call.path}?after={begin + self.page}"
        return Reply(200, answer)


class BitbucketServer(Form):
    prefix = "/bitbucket-server/rest/api/latest"
    repository = r"/projects/(?P<repo>[^/]+/repos/[^/]+)"

    def __init__(self, base: str, archive_base: str) -> None:
        super().__init__(base, archive_base)
        status = {
            "key": text(255), "state": one_of("CANCELLED", "FAILED", "INPROGRESS", "SUCCESSFUL", "UNKNOWN"),
            "name": text(255), "url": link, "description": text(255),
        }  # fmt: skip
        self.rules = (
            Rule("GET", "", self.seen),
            Rule("GET", f"/commits/({SHA})", lambda _, repo, sha: self.commit(repo, sha, "id")),
            Rule(
                "GET",
                "/raw/(.+)",
                lambda call, repo, path: self.raw(repo, call.query["at"], path),
                keys("at"),
                keys("at"),
            ),
            Rule("GET", "/branches", self._branches, keys("filterText", "limit", "start", "boostMatches", "orderBy")),
            Rule("POST", f"/commits/({SHA})/builds", self._status, body=status, needed=keys("key", "state", "url")),
            Rule("GET", "/archive", self._archive, keys("at", "format", "prefix", "path"), keys("at", "format")),
        )

    def _status(self, call: Call, repo: Repository, sha: str) -> Reply:
        self.set_status(call, repo, sha)
        return Reply(204, b"")

    def _archive(self, call: Call, repo: Repository) -> Reply:
        assert call.query["format"] in ("zip", "tar", "tar.gz", "tgz")
        return self.archived(repo, call.query["at"])

    def _branches(self, call: Call, repo: Repository) -> Reply:
        wanted = call.query.get("filterText", "").lower()
        found = [
            {"id": f"refs/heads/{name}", "displayId": name, "type": "BRANCH", "latestCommit": sha}
            for name, sha in repo.branches()
            if wanted in name.lower()
        ]
        begin = int(call.query.get("start", "0"))
        last = begin + self.page >= len(found)
        body = {"values": found[begin : begin + self.page], "isLastPage": last, "start": begin, "limit": self.page}
        return Reply(200, body if last else {**body, "nextPageStart": begin + self.page})


class Gitea(Form):
    prefix = "/gitea/api/v1"
    repository = r"/repos/(?P<repo>[^/]+/[^/]+)"

    def __init__(self, base: str, archive_base: str) -> None:
        super().__init__(base, archive_base)
        status = {
            "state": one_of("pending", "success", "error", "failure", "warning", "skipped"),
            "target_url": link, "description": lambda value: isinstance(value, str), "context": text(255),
        }  # fmt: skip
        self.rules = (
            Rule("GET", "", self.seen),
            Rule("GET", f"/git/commits/({SHA})", self._commit, keys("stat", "verification", "files")),
            Rule("GET", "/raw/(.+)", lambda call, repo, path: self.raw(repo, call.query["ref"], path), keys("ref")),
            Rule("GET", "/branches", self._branches, keys("page", "limit")),
            Rule("GET", "/branches/(.+)", self._branch),
            Rule("POST", f"/statuses/({SHA})", self.set_status, body=status),
            Rule("GET", rf"/archive/({SHA})\.tar\.gz", lambda _, repo, sha: self.archived(repo, sha)),
        )

    def authenticated(self, call: Call) -> bool:
        return call.headers.get("authorization") == f"token {TOKEN}"

    def _commit(self, call: Call, repo: Repository, sha: str) -> Reply:
        return self.commit(repo, sha, "sha")

    def _branches(self, call: Call, repo: Repository) -> Reply:
        return self.paged(call, [{"name": name, "commit": {"id": sha}} for name, sha in repo.branches()])

    def _branch(self, call: Call, repo: Repository, wanted: str) -> Reply:
        found = [{"name": name, "commit": {"id": sha}} for name, sha in repo.branches() if name == unquote(wanted)]
        return Reply(200, found[0]) if found else self.absent()


FORMS: Mapping[str, type[Form]] = {
    "github": GitHub,
    "gitlab": GitLab,
    "azure-devops": AzureDevOps,
    "bitbucket": Bitbucket,
    "bitbucket-server": BitbucketServer,
    "gitea": Gitea,
}
# How a repository that we call `acme/x` is named in paths.
NAMES = {
    "gitlab": "acme%2Fx",
    "azure-devops": "acme/_apis/git/repositories/x",
    "bitbucket-server": "acme/repos/x",
}


def host_of(url: str) -> str:
    return urlsplit(url).path.split("/")[1]
