"""Sockets as the kernel tells them, against the same sockets as this process knows them."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.host import procnet, sock_diag

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sock_diag is Linux's")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as ours,
        listener.accept()[0] as theirs,
    ):
        yield listener, ours, theirs


def inode(one: socket.socket) -> int:
    return os.fstat(one.fileno()).st_ino


def test_tcp_sockets_with_their_buffers(
    pair: tuple[socket.socket, socket.socket, socket.socket],
) -> None:
    listener, ours, _ = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 60000)
    answer = sock_diag.sockets()
    by_inode = {one.inode: one for one in answer.sockets}
    mine, listening = by_inode[inode(ours)], by_inode[inode(listener)]
    assert (mine.kind, mine.family, mine.state, listening.state) == ("tcp", "inet", "ESTAB", "LISTEN")
    assert (mine.local, mine.local_port) == ours.getsockname()
    assert (mine.remote, mine.remote_port) == ours.getpeername()
    assert mine.uid == os.geteuid()
    assert mine.sndbuf == ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    assert mine.rcvbuf == ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert answer.complete


def test_what_waits_out_its_end_is_left_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, place = listener.accept()[0], ours.getsockname()
        ours.close()
        theirs.close()
        assert place in {(one.local, one.local_port) for one in _waiting()}
        assert place not in {(one.local, one.local_port) for one in sock_diag.sockets().sockets}


def _waiting() -> list[procnet.TcpLine]:
    """What /proc/net/tcp shows in TIME-WAIT."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return [one for one in map(procnet.inet_line, lines) if one.state == "TIME-WAIT"]


def test_udp_and_ipv6() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
        try:
            one.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        found = {each.inode: each for each in sock_diag.sockets().sockets}[inode(one)]
        assert (found.kind, found.family, found.local) == ("udp", "inet6", "::1")
        assert found.local_port == one.getsockname()[1]


def test_what_waits_in_a_socket_is_counted(
    pair: tuple[socket.socket, socket.socket, socket.socket],
) -> None:
    _, ours, theirs = pair
    ours.sendall(b"x" * 4096)
    theirs.recv(1, socket.MSG_PEEK)  # it is there
    found = {one.inode: one for one in sock_diag.sockets().sockets}[inode(theirs)]
    assert (found.rmem or 0) >= 4096


@pytest.mark.root
def test_packet_sockets() -> None:
    try:
        every = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
    except PermissionError:
        pytest.skip("packet sockets need CAP_NET_RAW")
    with every, socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as bound:
        bound.bind(("lo", 0x88A2))
        found = {one.inode: one for one in sock_diag.packet_sockets().packet}
        assert (found[inode(every)].protocol, found[inode(every)].index) == (0x0003, 0)
        assert found[inode(bound)].protocol == 0x88A2
        assert found[inode(bound)].index == socket.if_nametoindex("lo")
        assert found[inode(bound)].rcvbuf == bound.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert found[inode(bound)].ring is False


def message(family: int, state: int, attributes: bytes = b"") -> bytes:
    ports = struct.pack(">HH", 10809, 40000)
    places = socket.inet_aton("10.0.0.1").ljust(16, b"\0") + socket.inet_aton("10.0.0.2").ljust(16, b"\0")
    return bytes([family, state, 0, 0]) + ports + places + bytes(24) + struct.pack("=2I", 7, 99) + attributes


def test_attributes_of_any_length() -> None:
    memory = struct.pack("=HH9I", 40, 7, *range(1, 10))
    short = struct.pack("=HH2I", 12, 7, 1, 2)  # an older kernel tells fewer numbers
    unknown = struct.pack("=HHB3x", 5, 99, 1)
    whole = sock_diag.socket_of("tcp", message(2, 1, unknown + memory))
    assert (whole.local_port, whole.remote, whole.uid, whole.inode) == (10809, "10.0.0.2", 7, 99)
    assert (whole.rmem, whole.rcvbuf, whole.sndbuf, whole.drops) == (1, 2, 4, 9)
    part = sock_diag.socket_of("tcp", message(2, 1, short))
    assert (part.rmem, part.rcvbuf, part.wmem, part.drops) == (1, 2, None, None)
    assert sock_diag.socket_of("tcp", message(2, 200, struct.pack("=HH", 0, 7))).state == "200"
