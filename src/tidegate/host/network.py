"""Links down to NICs, and the way to each peer."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace

from tidegate.host import procnet
from tidegate.host.facts import Link, Route, RxRing
from tidegate.host.reading import Reading
from tidegate.result import Topic

_RTF_UP, _RTF_REJECT, _RTF_LOCAL = 0x1, 0x200, 0x80000000
_ARP_COMPLETE, _ARP_PERMANENT = 0x2, 0x4
_DEPTH_MAX = 16


@dataclass(slots=True)
class Network:
    """Links, addresses, routes and neighbours of the one network namespace that the record shows."""

    reading: Reading
    links: dict[str, Link]
    local: dict[str, str]  # own addresses, and where each was read
    routes: tuple[procnet.RouteLine, ...]
    neighbours: dict[str, str]  # address to state
    known: dict[str, Route] = field(default_factory=dict)

    def route_to(self, peer: str) -> Route:
        """How packets to a peer leave; a route that cannot be told is a gap."""
        if peer not in self.known:
            self.known[peer] = self._route(peer)
        return self.known[peer]

    def _route(self, peer: str) -> Route:
        own = self.own(peer)
        if own:
            return Route(peer=peer, device="lo", local=True, links=("lo",), evidence=own)
        line = best_route(self.routes, peer)
        if line is None:
            self.reading.gap("proc/net/route", "not held", Topic.NETWORK, f"no route to {peer} in it")
            return Route(peer=peer, device="")
        hop = line.gateway or peer
        route = Route(
            peer=peer,
            device=line.device,
            gateway=line.gateway,
            neighbour=hop,
            neighbour_state=self.neighbours.get(hop),
            evidence=f"proc/net/{'route' if line.bits == 32 else 'ipv6_route'}: longest prefix /{line.prefix}",
        )
        return self.descend(route)

    def own(self, peer: str) -> str:
        """Where it was read that an address is this host's own, or nothing."""
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return ""
        if address.is_loopback:
            return "a loopback address"
        return self.local.get(str(address), "")

    def descend(self, route: Route) -> Route:
        """The route with the links from its device down to NICs."""
        seen: dict[str, None] = {}
        nics: dict[str, None] = {}
        self._below(route.device, seen, nics, 0)
        if not nics and not route.local:
            detail = f"what {route.device or 'the way'} to {route.peer} stands on cannot be seen"
            self.reading.gap(f"sys/class/net/{route.device}", "cannot be seen", Topic.NETWORK, detail)
        return replace(route, links=tuple(seen), nics=tuple(nics))

    def _below(self, name: str, seen: dict[str, None], nics: dict[str, None], depth: int) -> None:
        if not name or name in seen or depth > _DEPTH_MAX:
            return
        seen[name] = None
        link = self.links.get(name)
        if link is None:
            return
        if not link.lower and not link.kind and name != "lo":
            nics[name] = None
        for below in link.lower:
            self._below(below, seen, nics, depth + 1)


def network_of(reading: Reading) -> Network:
    """Everything about links and routes."""
    links = {
        name: _link(reading, name) for name in reading.names("sys/class/net") if name != "bonding_masters"
    }
    if not links:
        reading.missing("sys/class/net", Topic.NETWORK)
    routes = reading.rows("proc/net/route", Topic.NETWORK, procnet.route_line, head=procnet.ROUTE_HEAD)
    routes6 = reading.rows("proc/net/ipv6_route", Topic.NETWORK, procnet.route6_line)
    arps = reading.rows("proc/net/arp", Topic.NETWORK, procnet.arp_line, head=procnet.ARP_HEAD)
    return Network(
        reading=reading,
        links=links,
        local=_local_addresses(reading, routes6),
        routes=(*routes, *routes6),
        neighbours={one.address: _arp_state(one) for one in arps},
    )


def _arp_state(line: procnet.ArpLine) -> str:
    if line.flags & _ARP_PERMANENT:
        return "PERMANENT"
    return "REACHABLE" if line.flags & _ARP_COMPLETE else "INCOMPLETE"


def _link(reading: Reading, name: str) -> Link:
    folder = f"sys/class/net/{name}"
    below = [one.removeprefix("lower_") for one in reading.names(folder) if one.startswith("lower_")]
    above = [one.removeprefix("upper_") for one in reading.names(folder) if one.startswith("upper_")]
    state = reading.word(f"{folder}/operstate", Topic.NETWORK)
    queues = [one for one in reading.names(f"{folder}/queues") if one.startswith("rx-")]
    threaded = reading.number(f"{folder}/threaded", Topic.NETWORK)
    return Link(
        name=name,
        index=reading.number(f"{folder}/ifindex", Topic.NETWORK, must=True) or 0,
        kind=_kind(reading, folder, name),
        driver=_driver(reading, folder),
        up=None if state is None else state in ("up", "unknown"),
        mtu=reading.number(f"{folder}/mtu", Topic.NETWORK),
        address=reading.word(f"{folder}/address", Topic.NETWORK) or "",
        ring=RxRing(slots=None, slots_max=None, queues=len(queues) or None),
        lower=tuple(below),
        upper=tuple(above),
        threaded=None if threaded is None else bool(threaded),
        bond_mode=_bond_mode(reading, folder),
        rps=_rps(reading, folder, queues),
        speed_mbit=_speed(reading, folder),
        evidence=folder,
    )


def _driver(reading: Reading, folder: str) -> str:
    place = reading.record.members.get(f"{folder}/device/driver")
    return place.target.rsplit("/", 1)[-1] if place and place.target else ""


def _kind(reading: Reading, folder: str, name: str) -> str:
    if name == "lo":
        return "loopback"
    for below, kind in (("bonding", "bond"), ("bridge", "bridge"), ("tun_flags", "tun")):
        if reading.has(f"{folder}/{below}"):
            return kind
    event = reading.peek(f"{folder}/uevent") or ""
    kinds = [line.removeprefix("DEVTYPE=") for line in event.splitlines() if line.startswith("DEVTYPE=")]
    return kinds[0] if kinds and kinds[0] != "wlan" else ""


def _bond_mode(reading: Reading, folder: str) -> str | None:
    text = reading.word(f"{folder}/bonding/mode", Topic.NETWORK)
    return text.split()[0] if text else None


def _rps(reading: Reading, folder: str, queues: list[str]) -> bool | None:
    masks = [reading.word(f"{folder}/queues/{queue}/rps_cpus", Topic.NETWORK) for queue in queues]
    known = [mask for mask in masks if mask is not None]
    return any(mask.strip("0,") for mask in known) if known else None


def _speed(reading: Reading, folder: str) -> int | None:
    text = (reading.peek(f"{folder}/speed") or "").strip()
    return int(text) if text.isascii() and text.isdigit() else None


def best_route(routes: tuple[procnet.RouteLine, ...], peer: str) -> procnet.RouteLine | None:
    """The longest prefix, then the lowest metric: the main table as it is; policy routing is not seen here."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    bits = address.max_prefixlen
    fits = [
        one
        for one in routes
        if one.bits == bits
        and one.flags & _RTF_UP
        and not one.flags & _RTF_REJECT
        and int(address) >> (bits - one.prefix) == one.network >> (bits - one.prefix)
    ]
    return max(fits, key=lambda one: (one.prefix, -one.metric), default=None)


def _local_addresses(reading: Reading, routes6: tuple[procnet.RouteLine, ...]) -> dict[str, str]:
    """IPv4 from fib_trie's `host LOCAL` leaves, IPv6 from the local routes."""
    made: dict[str, str] = {}
    leaf = ""
    for line in (reading.text("proc/net/fib_trie", Topic.NETWORK) or "").splitlines():
        words = line.split()
        if words[:1] in (["|--"], ["+--"]):
            leaf = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"]:
            made[leaf] = "proc/net/fib_trie: host LOCAL"
    for route in routes6:
        if route.flags & _RTF_LOCAL and route.prefix == 128:
            made[str(ipaddress.IPv6Address(route.network))] = "proc/net/ipv6_route: local"
    return made
