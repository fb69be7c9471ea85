"""What netlink said, as a record keeps it: one JSON file under `netlink/` for each question asked.

Written by `host/netlink.py` on a live host, decoded strictly by readers: a file that does not fit is damaged. A
question that could not be asked (no netlink, no right) is a member with status ABSENT or DENIED instead of a file.
Unknown keys are ignored, so that a newer record stays readable; a missing key takes its default, `None`: not told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec

from tidegate.host.record import Member, Status

LINKS = "netlink/links.json"
ADDRESSES = "netlink/addresses.json"
ROUTES = "netlink/routes.json"
NEIGHBOURS = "netlink/neighbours.json"
SOCKETS = "netlink/sockets.json"
PACKET = "netlink/packet.json"
ETHTOOL = "netlink/ethtool.json"

Amount = Annotated[int, msgspec.Meta(ge=0)]  # below zero is damage: sums are made of these

ALL = (LINKS, ADDRESSES, ROUTES, NEIGHBOURS, SOCKETS, PACKET, ETHTOOL)


class Link(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RTM_GETLINK, one device."""

    name: str
    index: int
    kind: str = ""  # IFLA_INFO_KIND: bond, vlan, bridge, veth, tun, wireguard, vxlan, ...
    mtu: Amount | None = None
    address: str = ""
    up: bool | None = None  # IFF_UP and operstate not down
    master: int | None = None  # index of the bond or bridge it belongs to
    lower: int | None = None  # IFLA_LINK: index of the device below (vlan, macvlan); of the peer for veth
    peer_elsewhere: bool = False  # IFLA_LINK_NETNSID: the device below is in another network namespace
    xdp: str = "none"  # none, native, generic, offload, multi
    qdisc: str | None = None
    queues_rx: Amount | None = None
    bond_mode: str | None = None


class Links(msgspec.Struct, frozen=True):
    """netlink/links.json."""

    links: list[Link]


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """RTM_GETADDR: an address of this host."""

    address: str
    prefix: int
    index: int


class Addresses(msgspec.Struct, frozen=True):
    """netlink/addresses.json."""

    addresses: list[Address]


class Route(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RTM_GETROUTE for one peer: what the kernel itself would choose, policy rules included."""

    peer: str
    device: str = ""  # name of the outgoing device
    gateway: str = ""
    source: str = ""
    kind: str = "unicast"  # unicast, local, blackhole, unreachable, ...
    error: str = ""  # why the kernel has none


class Routes(msgspec.Struct, frozen=True):
    """netlink/routes.json."""

    routes: list[Route]


class Neighbour(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RTM_GETNEIGH, one entry."""

    address: str
    device: str
    state: str  # PERMANENT, REACHABLE, STALE, DELAY, PROBE, FAILED, INCOMPLETE, NOARP, NONE
    lladdr: str = ""


class Neighbours(msgspec.Struct, frozen=True):
    """netlink/neighbours.json."""

    neighbours: list[Neighbour]


class Socket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """sock_diag (INET_DIAG) with INET_DIAG_SKMEMINFO, one socket. Sizes in bytes, as the kernel counts them."""

    kind: str  # tcp, udp
    family: str  # inet, inet6
    state: str  # ESTAB, LISTEN, ... as ss prints them
    local: str
    local_port: int
    remote: str
    remote_port: int
    inode: int
    uid: int
    rmem: int | None = None  # sk_rmem_alloc
    rcvbuf: Amount | None = None  # sk_rcvbuf
    wmem: int | None = None  # sk_wmem_alloc
    sndbuf: Amount | None = None  # sk_sndbuf
    fwd: int | None = None  # sk_forward_alloc
    queued: int | None = None  # sk_wmem_queued
    optmem: int | None = None
    backlog: int | None = None
    drops: int | None = None


class Sockets(msgspec.Struct, frozen=True):
    """netlink/sockets.json. `complete`: every protocol and family asked for answered to the end."""

    sockets: list[Socket]
    complete: bool = True


class PacketSocket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """packet_diag: one AF_PACKET socket."""

    inode: int
    protocol: int
    index: int
    rcvbuf: Amount | None = None
    rmem: int | None = None
    ring: bool | None = (
        None  # has a mapped receive ring: packets are copied into it (tpacket_rcv), not queued
    )


class PacketSockets(msgspec.Struct, frozen=True):
    """netlink/packet.json."""

    packet: list[PacketSocket]


class Device(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """ethtool netlink (or its ioctl): one device. None: the driver does not tell."""

    name: str
    driver: str = ""
    rx: Amount | None = None  # receive ring slots, as set
    rx_max: Amount | None = None
    channels_rx: Amount | None = None
    channels_combined: Amount | None = None
    features: dict[str, bool] | None = None


class Devices(msgspec.Struct, frozen=True):
    """netlink/ethtool.json."""

    devices: list[Device]


T = TypeVar("T")


def decode(data: bytes, shape: type[T]) -> T:
    """One file decoded strictly; msgspec.ValidationError or DecodeError names the place in it."""
    return msgspec.json.decode(data, type=shape)


def member(members: Mapping[str, Member], path: str, shape: type[T]) -> T | None:
    """One file of a record that was just made, decoded; None where the question had no answer."""
    one = members.get(path)
    return decode(one.data, shape) if one is not None and one.status is Status.FOUND else None


def encode(value: msgspec.Struct) -> bytes:
    """One file's bytes, a line for each entry, so that two records can be compared with diff."""
    parts = []
    for name in value.__struct_fields__:
        item = getattr(value, name)
        if isinstance(item, list):
            lines = b",\n".join(msgspec.json.encode(one, order="deterministic") for one in item)
            shown = b"[\n" + lines + b"\n]" if item else b"[]"
        else:
            shown = msgspec.json.encode(item)
        parts.append(msgspec.json.encode(name) + b":" + shown)
    return b"{" + b",\n".join(parts) + b"}\n"
