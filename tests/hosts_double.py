"""
A real HTTP server on loopback that plays the repository hosts, and a second one that plays their archive hosts.

A request that is not of the documented form is answered 400 and noted in `violations`, so that a test fails that sends one.
`trouble` lets it answer 429 or 500, or cut the line before or after the work was done.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from hosts_forms import FORMS, LINK_SECRET, NAMES, TOKEN, Call, Form, GitHub, Reply, Repository, host_of

from mlops_core.adapters.hosts import build_sources
from mlops_core.adapters.hosts.http_source import HttpSourceHost
from mlops_core.adapters.hosts.options import HostOptions
from mlops_core.adapters.http_retry import Patience, Timing
from mlops_core.domain.ids import ProjectName
from mlops_core.ports import ProjectRecord

HOSTS = sorted(FORMS)
Trouble = Reply | Literal["cut before", "cut after", "half"] | None


@dataclass
class HostsDouble:
    """What the servers know and saw."""

    base: str = ""
    archive_base: str = ""
    forms: dict[str, Form] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    trouble: Callable[[Call], Trouble] = lambda _: None
    lock: threading.Lock = field(default_factory=threading.Lock)
    made: list[HttpSourceHost] = field(default_factory=list)

    def add(self, host: str, git_dir: Path) -> Repository:
        """Let a bare repository be `acme/x` at a host."""
        repository = self.forms[host].repositories[NAMES.get(host, "acme/x")] = Repository(git_dir)
        return repository

    def reset(self) -> None:
        """Forget all but the addresses. Raises AssertionError where a request was not of the documented form."""
        for source in self.made:
            source.close()
        found, self.violations = self.violations, []
        self.made, self.calls, self.trouble = [], [], lambda _: None
        self.forms = {host: form(self.base, self.archive_base) for host, form in FORMS.items()}
        assert found == []

    @property
    def github(self) -> GitHub:
        form = self.forms["github"]
        assert isinstance(form, GitHub)
        return form

    def options(self, host: str, **changed: Any) -> HostOptions:
        address = f"{self.base}/{host}" + ("/org" if host == "azure-devops" else "")
        archives = (urlsplit(self.archive_base).netloc,) if host == "github" else ()
        return HostOptions(**{"token": TOKEN, "base_url": address, "archive_hosts": archives, **changed})

    def source(
        self, host: str, *, timing: Timing | None = None, patience: Patience | None = None, **changed: Any
    ) -> HttpSourceHost:
        made = build_sources(
            {host: self.options(host, **changed)},
            run_address=lambda run_id: f"https://headrace.example.com/runs/{run_id}",
            plain_http=True,
            timing=timing or Timing(sleep=lambda _: None),
            patience=patience,
        )
        self.made.append(made[host])
        return made[host]

    def answer(self, call: Call) -> Reply:
        """Answer as the host would; note what it would not understand."""
        form = next((each for each in self.forms.values() if call.path.startswith(each.prefix + "/")), None)
        if form is None:
            return self._violation(call, "there is no such host")
        inside = Call(call.method, call.path.removeprefix(form.prefix), call.query, call.headers, call.body)
        try:
            return self._by_rules(form, inside)
        except (AssertionError, KeyError) as error:
            return self._violation(call, f"{type(error).__name__}: {error}")

    def _by_rules(self, form: Form, call: Call) -> Reply:
        found = re.match(form.repository + r"(?=/|$)", call.path)
        rest = call.path[found.end() :] if found else call.path
        for rule in form.rules:
            matched = re.fullmatch(rule.path, rest)
            if rule.method != call.method or matched is None:
                continue
            self._check(call, rule.may, rule.must, rule.body, rule.needed)
            if not form.authenticated(call):
                return form.not_authenticated()
            repository = form.repositories.get(found["repo"]) if found else None
            if found and repository is None:
                return form.absent()
            return rule.answer(call, repository, *matched.groups())
        return self._violation(call, "there is no such operation")

    @staticmethod
    def _check(call: Call, may: Any, must: Any, body: Any, needed: Any) -> None:
        assert call.query.keys() <= may | must, f"unknown query {sorted(call.query.keys() - may - must)}"
        assert must <= call.query.keys(), f"missing query {sorted(must - call.query.keys())}"
        if not body:
            assert call.body is None, "a body that is not documented"
            return
        assert call.headers.get("content-type", "").startswith("application/json"), "content type"
        assert call.body.keys() <= body.keys(), f"unknown keys {sorted(call.body.keys() - body.keys())}"
        assert needed <= call.body.keys(), f"missing keys {sorted(needed - call.body.keys())}"
        for key, value in call.body.items():
            assert body[key](value), f"'{key}' may not be {value!r}"

    def _violation(self, call: Call, what: str) -> Reply:
        self.violations.append(f"{call.method} {call.path} {dict(call.query)} {call.body}: {what}")
        return Reply(400, {"message": what})

    def archive(self, call: Call) -> Reply:
        """Answer as an archive host: by the secret in the link, never by a token."""
        if {"authorization", "private-token"} & call.headers.keys() or call.query.get("token") != LINK_SECRET:
            return self._violation(call, "a token, or no link, at an archive host")
        form, commit = self.forms[call.path.split("/")[1]], call.path.split("/")[2]
        known = list(form.repositories.values())
        return form.archived(next((each for each in known if each.has(commit)), known[0]), commit)


def _handler(double: HostsDouble, answer: Callable[[Call], Reply]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: Any) -> None:
            return

        def _do(self) -> None:
            parts = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            call = Call(
                self.command, parts.path, dict(parse_qsl(parts.query)), headers, json.loads(raw) if raw else None
            )
            with double.lock:
                double.calls.append(call)
                trouble = double.trouble(call)
                reply = trouble if isinstance(trouble, Reply) else Reply()
                if trouble != "cut before" and not isinstance(trouble, Reply):
                    reply = answer(call)
            if trouble in ("cut before", "cut after"):
                self.close_connection = True
                return
            self._write(reply, half=trouble == "half")

        def _write(self, reply: Reply, *, half: bool) -> None:
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {"content-type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if half else body)
            self.close_connection = self.close_connection or half

        do_GET = do_POST = _do  # noqa: N815 - names of http.server

    return Handler


@contextmanager
def running() -> Iterator[HostsDouble]:
    """Run both servers. Raises AssertionError at the end where a request was not of the documented form."""
    double = HostsDouble()
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(double, ask)) for ask in (double.answer, double.archive)]
    double.base, double.archive_base = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    double.reset()
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield double
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()
    double.reset()


def make_repository(folder: Path, *, branches: int = 5, message: str = "x") -> tuple[Path, str]:
    """Make a bare repository with a few branches. Returns: It, and the newest commit of `main`."""
    work, bare = folder / "work", folder / "x.git"
    files = {
        "mlops.yaml": "project: x\n",
        "sub/mlops.yaml": "project: sub\n",
        "sub/smoke.json": "{}",
        "a b#ä.txt": "odd",
    }
    for name, content in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(content)
    (work / "run.sh").write_text("#!/bin/sh\n")
    (work / "run.sh").chmod(0o755)
    git = ["git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    for command in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "--all"],
        ["commit", "--quiet", "-m", message],
    ):
        subprocess.run([*git, *command], check=True)
    for number in range(branches - 1):
        subprocess.run([*git, "branch", f"feature/main-{number}"], check=True)
    subprocess.run(["git", "clone", "--quiet", "--bare", str(work), str(bare)], check=True)
    return bare, subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def project_at(host: str, *, manifest: str = "mlops.yaml") -> ProjectRecord:
    address = f"https://{host}.example.com/acme/x.git"
    return ProjectRecord(name=ProjectName("x"), host=host, repository="acme/x", clone_url=address, manifest=manifest)


__all__ = ["HOSTS", "HostsDouble", "host_of", "make_repository", "project_at", "running"]
