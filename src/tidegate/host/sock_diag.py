"""sock_diag: TCP, UDP and packet sockets with their memory, asked of the running kernel through pyroute2.

Nothing here needs Linux at import time.
"""

from __future__ import annotations

import errno
import ipaddress
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

from tidegate.host import netlink_format as form
from tidegate.host.record import Status

# include/net/tcp_states.h, as ss prints them
STATES = (
    "UNKNOWN", "ESTAB", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "UNCONN", "CLOSE-WAIT",
    "LAST-ACK", "LISTEN", "CLOSING", "NEW-SYN-RECV",
)  # fmt: skip
# Who listens here serves block IO, to others or to this machine: nbd, iscsi, nvme, nfs, smb, 9p, ceph.
STORAGE_PORTS = frozenset({10809, 3260, 4420, 8009, 2049, 445, 564, 3300, 6789})
_TIME_WAIT = 6  # include/net/tcp_states.h
_INET_DIAG_SKMEMINFO = 7
_SKMEMINFO = 1 << (_INET_DIAG_SKMEMINFO - 1)  # as an extension bit
_TCP, _UDP, _INET, _INET6, _PACKET = 6, 17, 2, 10, 17
_UNKNOWN = frozenset({errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.ENOENT, errno.EOPNOTSUPP})


def status_of(error: Exception) -> Status:
    """Whether a question failed because this kernel does not know it, or because it may not be asked."""
    code = getattr(error, "code", getattr(error, "errno", None))
    return Status.ABSENT if code in _UNKNOWN else Status.DENIED


def attributes_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message's attributes by name, without those that pyroute2 does not know."""
    return {name: value for name, value in message.get("attrs", ()) if name != "UNKNOWN"}


def sockets() -> form.Sockets:
    """Every TCP and UDP socket of this network namespace. Raises what pyroute2 raises.

    Those in TIME-WAIT are not asked for: they hold no packets and belong to nobody, and a busy host has more of them
    than of all others.
    """
    from pyroute2.netlink.diag import DiagSocket

    found: list[form.Socket] = []
    complete = True
    with DiagSocket() as diag:
        diag.bind()
        for kind, protocol in (("tcp", _TCP), ("udp", _UDP)):
            for family in (_INET, _INET6):
                try:
                    found += _dump(diag, kind, family, protocol)
                except Exception as error:  # udp_diag may not be there; tcp_diag must
                    if kind == "tcp" and family == _INET:
                        raise
                    complete = complete and status_of(error) is Status.ABSENT
    found.sort(key=lambda one: (one.kind, one.local_port, one.remote, one.remote_port, one.inode))
    return form.Sockets(found, complete=complete)


def _dump(diag: Any, kind: str, family: int, protocol: int) -> list[form.Socket]:
    """One dump. pyroute2 asks and listens; its general decoding is too slow for tens of thousands of sockets."""
    from pyroute2.netlink import NLM_F_MATCH, NLM_F_MULTI, NLM_F_REQUEST, NLM_F_ROOT
    from pyroute2.netlink.diag import SOCK_DIAG_BY_FAMILY, SS_ALL, inet_diag_req
    from pyroute2.netlink.nlsocket import Marshal

    found: list[form.Socket] = []
    # Stands for a message decoded here: pyroute2 looks at its header, and takes a datagram without any for the end.
    done_here = {"header": {"type": SOCK_DIAG_BY_FAMILY, "flags": NLM_F_MULTI, "error": None}}

    def take(data: bytes, offset: int, length: int) -> Any:
        found.append(socket_of(kind, data[offset + 16 : offset + length]))
        return done_here

    class Answers(Marshal):  # type: ignore[misc] # pyroute2 has no types
        def get_parser(self, key: int, flags: int, sequence_number: int) -> Any:
            if key == SOCK_DIAG_BY_FAMILY:
                return take
            return super().get_parser(key, flags, sequence_number)

    request = inet_diag_req()
    request["sdiag_family"] = family
    request["sdiag_protocol"] = protocol
    request["idiag_states"] = SS_ALL & ~(1 << _TIME_WAIT)
    request["idiag_ext"] = _SKMEMINFO
    diag.set_marshal(Answers())
    flags = NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH
    for _ in diag.nlm_request(request, SOCK_DIAG_BY_FAMILY, flags):
        pass
    return found


# struct inet_diag_msg: family, state, timer, retrans; ports in network order; 16 bytes of either address; interface,
# cookie, expires, rqueue, wqueue; uid, inode
_INET_DIAG = struct.Struct("=4B 4s 16s 16s 24x 2I")
_ATTRIBUTE = struct.Struct("=HH")


def socket_of(kind: str, data: bytes) -> form.Socket:
    """One socket out of an inet_diag_msg and its attributes (include/uapi/linux/inet_diag.h)."""
    family, state, _, _, ports, source, destination, uid, inode = _INET_DIAG.unpack_from(data)
    local_port, remote_port = struct.unpack(">HH", ports)
    memory: tuple[int | None, ...] = (None,) * 9
    place = _INET_DIAG.size
    while place + 4 <= len(data):
        length, name = _ATTRIBUTE.unpack_from(data, place)
        if length < 4:
            break
        if name == _INET_DIAG_SKMEMINFO:
            count = min((length - 4) // 4, 9)
            memory = (*struct.unpack_from(f"={count}I", data, place + 4), *(None,) * (9 - count))
        place += (length + 3) & ~3
    # struct sk_meminfo order: SK_MEMINFO_* of include/uapi/linux/sock_diag.h
    rmem, rcvbuf, wmem, sndbuf, fwd, queued, optmem, backlog, drops = memory
    return form.Socket(
        kind=kind,
        family="inet" if family == _INET else "inet6",
        state=STATES[state] if state < len(STATES) else str(state),
        local=_address(family, source),
        local_port=local_port,
        remote=_address(family, destination),
        remote_port=remote_port,
        inode=inode,
        uid=uid,
        rmem=rmem,
        rcvbuf=rcvbuf,
        wmem=wmem,
        sndbuf=sndbuf,
        fwd=fwd,
        queued=queued,
        optmem=optmem,
        backlog=backlog,
        drops=drops,
    )


@lru_cache(maxsize=4096)
def _address(family: int, data: bytes) -> str:
    address = ipaddress.IPv4Address(data[:4]) if family == _INET else ipaddress.IPv6Address(data)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return f"::ffff:{address.ipv4_mapped}"  # as inet_ntop and ss print it
    return str(address)


def _words(value: object) -> dict[int, int]:
    """32-bit words out of the hexadecimal string that pyroute2 gives for an attribute it does not know."""
    if not isinstance(value, str):
        return {}
    data = bytes.fromhex(value.replace(":", ""))
    return dict(enumerate(struct.unpack(f"={len(data) // 4}I", data[: len(data) // 4 * 4])))


def packet_sockets() -> form.PacketSockets:
    """packet_diag, which pyroute2 has no message for: declared in its own terms (include/uapi/linux/packet_diag.h)."""
    from pyroute2.netlink import NLM_F_MATCH, NLM_F_REQUEST, NLM_F_ROOT, nlmsg
    from pyroute2.netlink.diag import SOCK_DIAG_BY_FAMILY, DiagSocket
    from pyroute2.netlink.nlsocket import Marshal

    class Request(nlmsg):  # type: ignore[misc] # pyroute2 has no types
        fields = (
            ("sdiag_family", "B"),
            ("sdiag_protocol", "B"),
            ("pad", "H"),
            ("pdiag_ino", "I"),
            ("pdiag_show", "I"),
            ("pdiag_cookie", "Q"),
        )

    class Answer(nlmsg):  # type: ignore[misc]
        fields = (("family", "B"), ("type", "B"), ("num", "H"), ("ino", "I"), ("cookie", "Q"))
        nla_map = (
            (0, "PACKET_DIAG_INFO", "hex"),
            (2, "PACKET_DIAG_RX_RING", "hex"),
            (6, "PACKET_DIAG_MEMINFO", "hex"),
        )

    class Answers(Marshal):  # type: ignore[misc]
        msg_map: ClassVar = {SOCK_DIAG_BY_FAMILY: Answer}

    request = Request()
    request["sdiag_family"] = _PACKET
    request["pdiag_show"] = 0x01 | 0x04 | 0x10  # PACKET_SHOW_ INFO, RING_CFG, MEMINFO
    with DiagSocket() as diag:
        diag.set_marshal(Answers())
        diag.bind()
        said = diag.nlm_request(request, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH)
        found = []
        for message in said:
            attributes = attributes_of(message)
            memory, info = (
                _words(attributes.get("PACKET_DIAG_MEMINFO")),
                _words(attributes.get("PACKET_DIAG_INFO")),
            )
            found.append(
                form.PacketSocket(
                    inode=message["ino"],
                    protocol=message["num"],  # in host order: net/packet/diag.c does the ntohs
                    index=info.get(0, 0),
                    rcvbuf=memory.get(1),
                    rmem=memory.get(0),
                    ring="PACKET_DIAG_RX_RING" in attributes,
                )
            )
    return form.PacketSockets(sorted(found, key=lambda one: one.inode))
