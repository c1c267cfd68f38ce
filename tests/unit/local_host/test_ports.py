"""A port that cannot be had is told of with why, and what to do."""

from __future__ import annotations

import errno
import socket

import pytest

from mlops_core.adapters.local.host import server
from mlops_core.adapters.local.host.server import open_socket
from mlops_core.domain.errors import RefusedError


def test_a_port_that_another_program_has_is_told_of_with_another_to_choose() -> None:
    with open_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RefusedError, match=f"Port {port} on 127.0.0.1 is in use.*--port {port + 1}"):
            open_socket("127.0.0.1", port)


def test_a_port_of_the_systems_is_not_said_to_be_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(socket.socket):
        def bind(self, _: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(server.socket, "socket", Refusing)

    with pytest.raises(RefusedError, match=r"Port 80 on 127.0.0.1 may not be opened by this user"):
        open_socket("127.0.0.1", 80)
