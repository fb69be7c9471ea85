"""Servers outside the guest start, answer and leave nothing behind."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tidegate.errors import Lacking
from tidegate.rig import servers, tools
from tidegate.rig.scenario import Server, ServerKind


def test_a_taken_port_is_not_given() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert servers.free_port(port) != port


def test_a_child_ends_with_its_block(tmp_path: Path) -> None:
    with servers.child(["sleep", "600"], log=tmp_path / "log") as process:
        assert process.poll() is None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tools.PACKAGES, "no-such-program", "no-such-package")
    with pytest.raises(Lacking, match=r"no-such-program.*no-such-package"):
        tools.program("no-such-program")


@pytest.mark.skipif(bool(tools.missing(["nbdkit"])), reason="no nbdkit here")
def test_an_nbd_server_says_its_magic_and_ends(tmp_path: Path) -> None:
    with servers.served([Server(kind=ServerKind.NBD, size_mib=1)], tmp_path) as words:
        where = ("127.0.0.1", int(words["NBD_PORT"]))
        with socket.create_connection(where, timeout=5) as link:
            assert link.recv(8) == b"NBDMAGIC"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where, timeout=5)


@pytest.mark.skipif(bool(tools.missing(["nbdkit"])), reason="no nbdkit here")
def test_a_server_that_ends_at_once_is_said_with_its_last_words(tmp_path: Path) -> None:
    with (
        pytest.raises(Lacking, match="nbd server"),
        servers.served([Server(kind=ServerKind.NBD, size_mib=-1)], tmp_path),
    ):
        raise AssertionError
