"""Sockets with their buffers and owners: from sock_diag where the record has it, else from /proc/net."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tidegate.host import netlink_format, procnet
from tidegate.host.facts import PacketSocket, Socket
from tidegate.host.processes import Processes
from tidegate.host.reading import Garbled, Reading, is_number
from tidegate.host.record import Status
from tidegate.host.told import told
from tidegate.result import Topic

_TABLES = (("proc/net/tcp", "tcp"), ("proc/net/tcp6", "tcp"))
_PACKET = "proc/net/packet"
_PAGE = 4096
_COUNTED = (("proc/net/sockstat", "TCP.inuse", "inet"), ("proc/net/sockstat6", "TCP6.inuse", "inet6"))


def sockets_of(reading: Reading, processes: Processes, sysctls: Mapping[str, str]) -> tuple[Socket, ...]:
    """All TCP sockets (and UDP, where sock_diag was asked) with their owners."""
    answer = told(reading, netlink_format.SOCKETS, netlink_format.Sockets, Topic.SOCKETS)
    if answer and not answer.complete:
        reading.gap(
            netlink_format.SOCKETS, "cannot be seen", Topic.SOCKETS, "the kernel's answer did not end"
        )
    found = [_from_diag(one, number) for number, one in enumerate(answer.sockets)] if answer else []
    if not answer:
        for path, kind in _TABLES:
            must = path == _TABLES[0][0]
            lines = reading.rows(path, Topic.SOCKETS, procnet.inet_line, head="sl", must=must)
            found += [_from_line(line, kind, f"{path}: inode {line.inode}") for line in lines]
    _check_counted(reading, found)
    limits = _Limits(sysctls)
    return tuple(limits.judged(one) for one in _owned(found, processes))


def _check_counted(reading: Reading, found: Iterable[Socket]) -> None:
    """The kernel counts TCP sockets in use by family (/proc/net/sockstat): a list with far fewer lost some.

    Both are read at different moments, so a busy host may differ a little; an answer that was cut differs a lot.
    """
    shown = [one for one in found if one.kind == "tcp" and one.state not in ("TIME-WAIT", "NEW-SYN-RECV")]
    for path, name, family in _COUNTED:
        try:
            counted = procnet.sockstat(reading.peek(path) or "").get(name, 0)
        except Garbled:
            continue
        here = sum(1 for one in shown if one.family == family)
        if here < counted // 2 or (counted and not here):
            detail = f"{here} of the {counted} {family} TCP sockets that {path} counts"
            reading.gap(netlink_format.SOCKETS, Status.DAMAGED.value, Topic.SOCKETS, detail)


def _from_diag(one: netlink_format.Socket, number: int) -> Socket:
    sent = [size for size in (one.wmem, one.queued) if size is not None]
    return Socket(
        family=one.family,
        kind=one.kind,
        state=one.state,
        local=plain(one.local),
        local_port=one.local_port,
        remote=plain(one.remote),
        remote_port=one.remote_port,
        inode=one.inode,
        uid=one.uid,
        rcvbuf_bytes=one.rcvbuf,
        sndbuf_bytes=one.sndbuf,
        rmem_bytes=one.rmem,
        wmem_bytes=max(sent, default=None),
        fwd_bytes=one.fwd,
        drops=one.drops,
        evidence=f"{netlink_format.SOCKETS}: sockets[{number}]",
    )


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
        # Without inode a socket is nobody's yet or any more: not accepted, or closed and still sending. The kernel's
        # own sockets have one (net/socket.c: sock_alloc).
        pids = processes.owners.get(socket.inode, ()) if socket.inode else ()
        known = bool(pids) or (processes.complete and socket.inode != 0)
        yield replace(socket, pids=pids, owners_known=known)


class _Limits:
    """Tells a buffer that was set from one that autotuning made.

    The kernel shows SOCK_SNDBUF_LOCK to nobody. What it shows: autotuning never goes above tcp_wmem[2] and
    tcp_rmem[2] (tcp_sndbuf_expand, tcp_rcv_space_adjust) and starts at [1]. SO_SNDBUF and SO_RCVBUF store twice
    what was asked for, in practice whole pages; autotuning takes multiples of 2 * (2^k + 256), a segment's
    truesize, or odd numbers, whole pages by chance only. So two sizes of whole pages that are none of these were
    set; one alone may be chance (None). Anything else is taken for autotuned, which is the worse case.
    """

    def __init__(self, sysctls: Mapping[str, str]) -> None:
        self.send = _three(sysctls, "net.ipv4.tcp_wmem")
        self.receive = _three(sysctls, "net.ipv4.tcp_rmem")

    def judged(self, socket: Socket) -> Socket:
        if socket.kind != "tcp" or socket.sndbuf_bytes is None or socket.rcvbuf_bytes is None:
            return socket
        if self.send is None or self.receive is None:
            return socket
        send = _looks_set(socket.sndbuf_bytes, self.send) and not _truesizes(socket.sndbuf_bytes)
        receive = _looks_set(socket.rcvbuf_bytes, self.receive)
        chance = None if send != receive else True
        return replace(
            socket,
            sndbuf_locked=socket.sndbuf_bytes > self.send[2] or (send and chance),
            rcvbuf_locked=socket.rcvbuf_bytes > self.receive[2] or (receive and chance),
        )


def _looks_set(size: int, limits: tuple[int, int, int]) -> bool:
    """Whole pages, and neither the size a socket starts with nor the largest of autotuning."""
    return size % _PAGE == 0 and size not in (limits[1], limits[2])


def _truesizes(size: int) -> bool:
    """A number of segments as tcp_sndbuf_expand() counts them."""
    return any(size % (2 * ((1 << order) + 256)) == 0 for order in range(11, 18))


def _three(sysctls: Mapping[str, str], name: str) -> tuple[int, int, int] | None:
    words = sysctls.get(name, "").split()
    if len(words) != 3 or not all(map(is_number, words)):
        return None
    return int(words[0]), int(words[1]), int(words[2])


def plain(address: str) -> str:
    """An IPv4 address mapped into IPv6 is the IPv4 address."""
    return address.removeprefix("::ffff:") if "." in address else address


def packet_sockets_of(reading: Reading) -> tuple[PacketSocket, ...]:
    """AF_PACKET sockets."""
    lines = reading.rows(_PACKET, Topic.SOCKETS, procnet.packet_line, head=procnet.PACKET_HEAD)
    answer = told(reading, netlink_format.PACKET, netlink_format.PacketSockets, Topic.SOCKETS, must=False)
    found = {
        line.inode: PacketSocket(
            protocol=line.protocol,
            interface=line.interface,
            rcvbuf_bytes=None,
            inode=line.inode,
            evidence=f"{_PACKET}: inode {line.inode}",
        )
        for line in lines
    }
    for one in answer.packet if answer else ():
        found[one.inode] = PacketSocket(
            protocol=one.protocol,
            interface=one.index,
            rcvbuf_bytes=one.rcvbuf,
            inode=one.inode,
            evidence=f"{netlink_format.PACKET}: inode {one.inode}",
        )
    if not answer and _PACKET not in reading.record.members:
        reading.missing(_PACKET, Topic.SOCKETS, must=True)
    return tuple(found.values())


def to_peer(sockets: Iterable[Socket], address: str, port: int) -> tuple[Socket, ...]:
    """Connections to an address and port that may carry data."""
    return tuple(
        one
        for one in sockets
        if one.kind in ("tcp", "mptcp")
        and one.remote == address
        and one.remote_port == port
        and one.state not in ("LISTEN", "TIME-WAIT")
    )


def listening(sockets: Iterable[Socket], port: int) -> Socket | None:
    """A socket that listens on a port."""
    return next((one for one in sockets if one.state == "LISTEN" and one.local_port == port), None)
