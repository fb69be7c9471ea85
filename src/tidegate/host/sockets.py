"""Sockets with their buffers and owners: from sock_diag where the record has it, else from /proc/net."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tidegate.host import procnet
from tidegate.host.facts import PacketSocket, Socket
from tidegate.host.processes import Processes
from tidegate.host.reading import Reading
from tidegate.result import Topic

_TABLES = (
    ("proc/net/tcp", "tcp", "sl"),
    ("proc/net/tcp6", "tcp", "sl"),
)


def sockets_of(reading: Reading, processes: Processes) -> tuple[Socket, ...]:
    """All TCP sockets with their owners."""
    found: list[Socket] = []
    for path, kind, head in _TABLES:
        must = path == "proc/net/tcp"
        lines = reading.rows(path, Topic.SOCKETS, procnet.inet_line, head=head, must=must)
        found += [_from_line(line, kind, f"{path}: inode {line.inode}") for line in lines]
    return tuple(_owned(found, processes))


def _from_line(line: procnet.TcpLine, kind: str, evidence: str) -> Socket:
    return Socket(
        family=line.family,
        kind=kind,
        state=line.state,
        local=plain(line.local),
        local_port=line.local_port,
        remote=plain(line.remote),
        remote_port=line.remote_port,
        inode=line.inode,
        uid=line.uid,
        rmem_bytes=line.rx_queue,
        wmem_bytes=line.tx_queue,
        evidence=evidence,
    )


def _owned(sockets: Iterable[Socket], processes: Processes) -> Iterable[Socket]:
    for socket in sockets:
        pids = processes.owners.get(socket.inode, ())
        yield replace(socket, pids=pids, owners_known=bool(pids) or processes.complete)


def plain(address: str) -> str:
    """An IPv4 address mapped into IPv6 is the IPv4 address."""
    return address.removeprefix("::ffff:") if "." in address else address


def packet_sockets_of(reading: Reading) -> tuple[PacketSocket, ...]:
    """AF_PACKET sockets."""
    path = "proc/net/packet"
    lines = reading.rows(path, Topic.SOCKETS, procnet.packet_line, head=procnet.PACKET_HEAD)
    return tuple(
        PacketSocket(
            protocol=line.protocol,
            interface=line.interface,
            rcvbuf_bytes=None,
            inode=line.inode,
            evidence=f"{path}: inode {line.inode}",
        )
        for line in lines
    )


def to_peer(
    sockets: Iterable[Socket], address: str, port: int, *, local_port: int | None = None
) -> tuple[Socket, ...]:
    """Connections to an address and port that may carry data."""
    return tuple(
        one
        for one in sockets
        if one.kind in ("tcp", "mptcp")
        and one.remote == address
        and one.remote_port == port
        and one.state not in ("LISTEN", "TIME-WAIT")
        and (local_port is None or one.local_port == local_port)
    )


def listening(sockets: Iterable[Socket], port: int) -> Socket | None:
    """A socket that listens on a port."""
    return next((one for one in sockets if one.state == "LISTEN" and one.local_port == port), None)
