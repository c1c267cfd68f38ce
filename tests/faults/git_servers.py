"""Servers on loopback that count who comes: a trap that nobody may connect to, and a genuine git host over https."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "azure"))

from tls import make_certificate


class Trap:
    """Listens, counts every connection, and hangs up."""

    def __init__(self) -> None:
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._count)
        self._thread.start()

    def _count(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if connection.recv(4, socket.MSG_PEEK | socket.MSG_WAITALL)[:4] == b"stop":
                    return
                self.connections += 1

    def close(self) -> None:
        """Stop listening."""
        with socket.create_connection(("127.0.0.1", self.port)) as last:
            last.sendall(b"stop")
        self._thread.join(10)
        self._listener.close()


@dataclass
class GitHost:
    """A git host over https, which sends some addresses on to others."""

    name: str
    certificate: Path
    redirects: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By the first part of the path: with which status, to where."""
    asked: list[str] = field(default_factory=list)
    """Paths that were asked for."""


@contextmanager
def git_host(root: Path, folder: Path) -> Iterator[GitHost]:
    """Serve the bare repositories of a folder by git's own `http-backend`."""
    made = make_certificate(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    host = GitHost(f"localhost:{server.server_address[1]}", made.certificate)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, host, root)

        do_POST = do_GET  # noqa: N815 - http.server's name

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server.RequestHandlerClass = Handler
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def _answer(request: BaseHTTPRequestHandler, host: GitHost, root: Path) -> None:
    host.asked.append(request.path)
    first = request.path.split("/")[1]
    if first in host.redirects:
        status, target = host.redirects[first]
        request.send_response(status)
        request.send_header("location", target)
        request.send_header("content-length", "0")
        request.end_headers()
        return
    path, _, query = request.path.partition("?")
    environment = {
        "PATH": os.environ["PATH"],  # noqa: TID251 - of a test's own command
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_METHOD": request.command,
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
        "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
    }
    body = request.rfile.read(int(request.headers.get("content-length", 0)))
    done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True)
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
    request.send_response(int(fields.pop("Status", "200 OK").split()[0]))
    for name, value in {**fields, "content-length": str(len(content))}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(content)
