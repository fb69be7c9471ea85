"""Asks the running kernel over netlink, through pyroute2, and keeps the answers as JSON members of a record.

Nothing here needs Linux at import time. A question that cannot be asked leaves its member ABSENT or DENIED with the
reason; the others are asked all the same.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import msgspec

from tidegate.host import netlink_format as form
from tidegate.host import sock_diag
from tidegate.host.archive import NETLINK_BYTES_MAX
from tidegate.host.record import Member, Status
from tidegate.host.sock_diag import STORAGE_PORTS, attributes_of, status_of

# include/uapi/linux/neighbour.h
_NEIGHBOUR = {
    0x01: "INCOMPLETE", 0x02: "REACHABLE", 0x04: "STALE", 0x08: "DELAY", 0x10: "PROBE", 0x20: "FAILED",
    0x40: "NOARP", 0x80: "PERMANENT", 0x00: "NONE",
}  # fmt: skip
# include/uapi/linux/rtnetlink.h: RTN_*
_ROUTES = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
}
# include/uapi/linux/if_link.h: XDP_ATTACHED_*, as pyroute2 calls them
_XDP = {"xdp": "native", "xdpgeneric": "generic", "xdpoffload": "offload", "xdpmulti": "multi"}
# drivers/net/bonding, include/uapi/linux/if_bonding.h
_BOND = {
    0: "balance-rr", 1: "active-backup", 2: "balance-xor", 3: "broadcast", 4: "802.3ad", 5: "balance-tlb",
    6: "balance-alb",
}  # fmt: skip
_PEERS_MAX = 4096  # each takes half a millisecond


def read_netlink(members: Mapping[str, Member]) -> tuple[Member, ...]:
    """Every question as a member. `members` is what was read before: peers are looked for in it."""
    asked: list[Member] = []
    answers: dict[str, msgspec.Struct] = {}

    def ask(path: str, question: Callable[[], msgspec.Struct]) -> None:
        try:
            answer = question()
            answers[path] = answer
            asked.append(_member(path, answer))
        except ImportError as error:
            asked.append(Member(path=path, status=Status.ABSENT, detail=f"pyroute2: {error}"))
        except Exception as error:  # noqa: BLE001 - pyroute2 raises NetlinkError, OSError, struct.error, KeyError ...
            asked.append(
                Member(path=path, status=status_of(error), detail=f"{type(error).__name__}: {error}")
            )

    ask(form.LINKS, _links)
    ask(form.ADDRESSES, _addresses)
    ask(form.NEIGHBOURS, _neighbours)
    ask(form.SOCKETS, sock_diag.sockets)
    ask(form.PACKET, sock_diag.packet_sockets)
    ask(form.ETHTOOL, _ethtool)
    found = cast("form.Sockets | None", answers.get(form.SOCKETS))
    peers = peers_of(found.sockets if found else (), members)
    ask(form.ROUTES, lambda: _routes(peers))
    return tuple(asked)


def settled(members: Mapping[str, Member], owned: frozenset[int]) -> Member | None:
    """The sockets once more, without those that came or went while owners were looked for; None where nothing changes.

    A socket without owner is the kernel's own, so one that was closed in between must not look like it. Asked again
    only where a socket has no owner; where owners may not be seen nothing is dropped.
    """
    before = form.member(members, form.SOCKETS, form.Sockets)
    if before is None or any(one.status is Status.DENIED for path, one in members.items() if _is_fd(path)):
        return None
    ownerless = {one.inode for one in before.sockets if one.inode} - owned
    if not ownerless:
        return None
    try:
        gone = ownerless - {one.inode for one in sock_diag.sockets().sockets}
    except Exception:  # noqa: BLE001 - as in read_netlink; the first answer then stands
        return None
    if not gone:
        return None
    kept = [one for one in before.sockets if one.inode not in gone]
    return _member(form.SOCKETS, form.Sockets(kept, complete=before.complete))


def _member(path: str, answer: msgspec.Struct) -> Member:
    data = form.encode(answer)
    if len(data) > NETLINK_BYTES_MAX:
        return Member(path=path, status=Status.DAMAGED, detail=f"more than {NETLINK_BYTES_MAX:,} bytes")
    return Member(path=path, status=Status.FOUND, data=data)


def _is_fd(path: str) -> bool:
    return path.startswith("proc/") and path.endswith("/fd")


def _links() -> form.Links:
    from pyroute2 import IPRoute

    with IPRoute() as route:
        return form.Links([_link(message) for message in route.get_links()])


def _link(message: Mapping[str, Any]) -> form.Link:
    said = attributes_of(message)
    info = attributes_of(said.get("IFLA_LINKINFO") or {})
    data = info.get("IFLA_INFO_DATA")
    data = attributes_of(data) if isinstance(data, dict) else {}
    xdp = attributes_of(said.get("IFLA_XDP") or {})
    mode = data.get("IFLA_BOND_MODE")
    flags = int(message["flags"])
    return form.Link(
        name=said["IFLA_IFNAME"],
        index=message["index"],
        kind=info.get("IFLA_INFO_KIND") or "",
        mtu=said.get("IFLA_MTU"),
        address=said.get("IFLA_ADDRESS") or "",
        up=bool(flags & 1) and said.get("IFLA_OPERSTATE") != "DOWN",
        master=said.get("IFLA_MASTER"),
        lower=said.get("IFLA_LINK") or _tunnelled_through(data),
        peer_elsewhere=said.get("IFLA_LINK_NETNSID") is not None,
        xdp=_XDP.get(xdp.get("IFLA_XDP_ATTACHED") or "", "none"),
        qdisc=said.get("IFLA_QDISC"),
        queues_rx=said.get("IFLA_NUM_RX_QUEUES"),
        bond_mode=_BOND.get(mode) if isinstance(mode, int) else None,
    )


def _tunnelled_through(data: Mapping[str, Any]) -> int | None:
    """A tunnel's device below stands among its own attributes: IFLA_VXLAN_LINK, IFLA_GRE_LINK, IFLA_IPTUN_LINK."""
    links = (value for name, value in data.items() if name.endswith("_LINK") and isinstance(value, int))
    return next((value for value in links if value > 0), None)


def _addresses() -> form.Addresses:
    from pyroute2 import IPRoute

    with IPRoute() as route:
        found = []
        for message in route.get_addr():
            said = attributes_of(message)
            address = said.get("IFA_LOCAL") or said.get("IFA_ADDRESS")
            if address:
                found.append(
                    form.Address(address=address, prefix=message["prefixlen"], index=message["index"])
                )
        return form.Addresses(found)


def _names() -> dict[int, str]:
    from pyroute2 import IPRoute

    with IPRoute() as route:
        return {message["index"]: attributes_of(message)["IFLA_IFNAME"] for message in route.get_links()}


def _neighbours() -> form.Neighbours:
    from pyroute2 import IPRoute

    names = _names()
    with IPRoute() as route:
        found = []
        for message in route.get_neighbours():
            said = attributes_of(message)
            address = said.get("NDA_DST")
            if address and not ipaddress.ip_address(address).is_multicast:
                found.append(
                    form.Neighbour(
                        address=address,
                        device=names.get(message["ifindex"], ""),
                        state=_NEIGHBOUR.get(message["state"], str(message["state"])),
                        lladdr=said.get("NDA_LLADDR") or "",
                    )
                )
        return form.Neighbours(found)


def _routes(peers: Iterable[str]) -> form.Routes:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    names = _names()
    found = []
    with IPRoute() as route:
        for peer in peers:
            try:
                answers = route.route("get", dst=peer)
            except NetlinkError as error:
                found.append(form.Route(peer=peer, kind="unreachable", error=str(error)))
                continue
            for message in list(answers)[:1]:
                said = attributes_of(message)
                via = said.get("RTA_GATEWAY") or (said.get("RTA_VIA") or {}).get("addr") or ""
                found.append(
                    form.Route(
                        peer=peer,
                        device=names.get(said.get("RTA_OIF", 0), ""),
                        gateway=via,
                        source=said.get("RTA_PREFSRC") or "",
                        kind=_ROUTES.get(message["type"], str(message["type"])),
                    )
                )
    return form.Routes(found)


def _ethtool() -> form.Devices:
    from pyroute2 import Ethtool

    with Ethtool() as tool:
        return form.Devices([_device(tool, name) for _, name in sorted(_names().items())])


def _device(tool: Any, name: str) -> form.Device:
    rings, channels, features = (
        _try(lambda: tool.get_rings(name)),
        _try(lambda: tool.get_channels(name)),
        _try(lambda: tool.get_features(name)),
    )
    return form.Device(
        name=name,
        rx=getattr(rings, "rx", None),
        rx_max=getattr(rings, "rx_max", None),
        channels_rx=getattr(channels, "rx_count", None),
        channels_combined=getattr(channels, "combined_count", None),
        features=_features(features),
    )


def _try(question: Callable[[], Any]) -> Any:
    """One answer of a driver; most drivers do not know most questions."""
    try:
        return question()
    except Exception:  # noqa: BLE001 - NetlinkError, OSError, NotSupportedError, KeyError by driver and version
        return None


# The features that findings look at; the whole set is some sixty a device.
_FEATURES = (
    "rx-gro",
    "rx-gro-hw",
    "rx-lro",
    "tx-scatter-gather",
    "tx-tcp-segmentation",
    "tx-generic-segmentation",
)


def _features(said: Any) -> dict[str, bool] | None:
    known = getattr(said, "features", None)
    if not known:
        return None
    return {name: bool(known[name].enable) for name in _FEATURES if name in known}


def peers_of(sockets: Iterable[form.Socket], members: Mapping[str, Member]) -> tuple[str, ...]:
    """Remote addresses whose route matters, a few thousand at most: what sysfs and mounts name, then connections, those
    to ports of storage first.
    """
    found: dict[str, None] = {}
    for path, member in members.items():
        name = path.rsplit("/", 1)[-1]
        if name in {"address", "persistent_address", "dstaddr", "client_addr"} and path.startswith("sys/"):
            for word in member.data.decode("ascii", "replace").replace(",", " ").split():
                _take_address(word.removeprefix("traddr="), found)
    table = members.get("proc/self/mountinfo")
    for line in (table.data if table else b"").decode("utf-8", "replace").splitlines():
        for word in line.replace(",", " ").split():
            if word.startswith(("addr=", "mountaddr=")):
                _take_address(word.split("=", 1)[1], found)
    connected = [one for one in sockets if one.kind == "tcp" and one.state not in {"LISTEN", "TIME-WAIT"}]
    for one in sorted(connected, key=lambda one: one.remote_port not in STORAGE_PORTS):
        _take_address(one.remote.removeprefix("::ffff:"), found)
    return tuple(list(found)[:_PEERS_MAX])


def _take_address(word: str, found: dict[str, None]) -> None:
    try:
        address = ipaddress.ip_address(word)
    except ValueError:
        return
    if not address.is_unspecified:
        found[str(address)] = None
