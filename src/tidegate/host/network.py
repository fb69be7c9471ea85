"""Links down to NICs, and the way to each peer as the kernel chose it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace

from tidegate.host import links, netlink_format, procnet
from tidegate.host.facts import Link, Route
from tidegate.host.reading import Reading
from tidegate.host.told import told
from tidegate.result import Topic

_RTF_UP, _RTF_REJECT, _RTF_LOCAL = 0x1, 0x200, 0x80000000
_ARP_COMPLETE, _ARP_PERMANENT = 0x2, 0x4
_DEPTH_MAX = 16
# Devices that hold no address of a next hop on a wire.
_NO_NEIGHBOUR = frozenset({"tun", "ppp", "wireguard", "sit", "gre", "ipip", "loopback"})
# At the bottom of a way these lead to another part of the same machine.
INSIDE = frozenset({"veth", "bridge", "tun", "tap", "dummy", "netkit"})


@dataclass(slots=True)
class Network:
    """Links, addresses, routes and neighbours of the one network namespace that the record shows."""

    reading: Reading
    links: dict[str, Link]
    local: dict[str, str]  # own addresses, and where each was read
    asked: dict[str, netlink_format.Route]  # what the kernel chose, by peer
    table: tuple[procnet.RouteLine, ...]
    neighbours: dict[tuple[str, str], str]  # (address, device) to state
    known: dict[str, Route] = field(default_factory=dict)

    def route_to(self, peer: str) -> Route:
        """How packets to a peer leave; a route that cannot be told is a gap."""
        if peer not in self.known:
            self.known[peer] = self._route(peer)
        return self.known[peer]

    def _route(self, peer: str) -> Route:
        own = self.own(peer)
        answer = self.asked.get(_bare(peer))
        if own or (answer and answer.kind == "local"):
            evidence = own or f"{netlink_format.ROUTES}: {peer} is local"
            return Route(peer=peer, device="lo", local=True, links=("lo",), evidence=evidence)
        if answer and answer.device:
            evidence = f"{netlink_format.ROUTES}: {peer}"
            return self._through(peer, answer.device, answer.gateway, answer.source, evidence)
        if answer and (answer.error or answer.kind != "unicast"):
            self.reading.gap(
                netlink_format.ROUTES,
                "cannot be seen",
                Topic.NETWORK,
                f"no route to {peer}: {answer.error or answer.kind}",
            )
        line = best_route(self.table, peer)
        if line is None:
            self.reading.gap(
                f"route to {peer}", "not held", Topic.NETWORK, "neither asked for nor in proc/net/route"
            )
            return Route(peer=peer, device="")
        name = "route" if line.bits == 32 else "ipv6_route"
        return self._through(
            peer, line.device, line.gateway, "", f"proc/net/{name}: longest prefix /{line.prefix}"
        )

    def _through(self, peer: str, device: str, gateway: str, source: str, evidence: str) -> Route:
        link = self.links.get(device)
        hop = "" if link and link.kind in _NO_NEIGHBOUR else gateway or peer
        return self.descend(
            Route(
                peer=peer,
                device=device,
                gateway=gateway,
                source=source,
                neighbour=hop,
                neighbour_state=self.neighbours.get((_bare(hop), device)),
                evidence=evidence,
            )
        )

    def own(self, peer: str) -> str:
        """Where it was read that an address is this host's own, or nothing."""
        try:
            address = ipaddress.ip_address(_bare(peer))
        except ValueError:
            return ""
        return "a loopback address" if address.is_loopback else self.local.get(str(address), "")

    def descend(self, route: Route) -> Route:
        """The route with the links from its device down to NICs."""
        seen: dict[str, None] = {}
        nics: dict[str, None] = {}
        self._below(route.device, seen, nics, 0)
        return replace(route, links=tuple(seen), nics=tuple(nics))

    def _below(self, name: str, seen: dict[str, None], nics: dict[str, None], depth: int) -> None:
        if not name or name in seen or depth > _DEPTH_MAX:
            return
        seen[name] = None
        link = self.links.get(name)
        if link is None:
            return
        if not link.lower and links.is_nic(link):
            nics[name] = None
        for below in link.lower:
            self._below(below, seen, nics, depth + 1)

    def inside(self, route: Route) -> str:
        """The device by which a route ends inside this machine (a container's veth, a guest's tap), or nothing.

        A tun device alone may be a tunnel to anywhere; below a bridge it is a guest's.
        """
        if route.nics or not route.links:
            return ""
        kinds = {name: self.links[name].kind for name in route.links if name in self.links}
        if len(kinds) < len(route.links) or not set(kinds.values()) <= INSIDE:
            return ""
        if kinds.get(route.device) == "tun":
            return ""
        return route.links[-1]


def network_of(reading: Reading) -> Network:
    """Everything about links and routes."""
    found = links.links_of(reading)
    asked = told(reading, netlink_format.ROUTES, netlink_format.Routes, Topic.NETWORK, must=False)
    head = procnet.ROUTE_HEAD
    routes = () if asked else reading.rows("proc/net/route", Topic.NETWORK, procnet.route_line, head=head)
    routes6 = reading.rows("proc/net/ipv6_route", Topic.NETWORK, procnet.route6_line)
    return Network(
        reading=reading,
        links=found,
        local=_local_addresses(reading, routes6),
        asked={_bare(one.peer): one for one in asked.routes} if asked else {},
        table=(*routes, *routes6),
        neighbours=_neighbours(reading),
    )


def _neighbours(reading: Reading) -> dict[tuple[str, str], str]:
    answer = told(reading, netlink_format.NEIGHBOURS, netlink_format.Neighbours, Topic.NETWORK, must=False)
    if answer:
        return {(one.address, one.device): one.state for one in answer.neighbours}
    lines = reading.rows("proc/net/arp", Topic.NETWORK, procnet.arp_line, head=procnet.ARP_HEAD)
    return {(line.address, line.device): _arp_state(line) for line in lines}


def _arp_state(line: procnet.ArpLine) -> str:
    if line.flags & _ARP_PERMANENT:
        return "PERMANENT"
    return "REACHABLE" if line.flags & _ARP_COMPLETE else "INCOMPLETE"


def best_route(routes: tuple[procnet.RouteLine, ...], peer: str) -> procnet.RouteLine | None:
    """The longest prefix, then the lowest metric: the main table as it is; policy routing is not seen here."""
    try:
        address = ipaddress.ip_address(_bare(peer))
    except ValueError:
        return None
    bits = address.max_prefixlen
    fits = [
        one
        for one in routes
        if one.bits == bits
        and one.flags & _RTF_UP
        and not one.flags & (_RTF_REJECT | _RTF_LOCAL)
        and int(address) >> (bits - one.prefix) == one.network >> (bits - one.prefix)
    ]
    return max(fits, key=lambda one: (one.prefix, -one.metric), default=None)


def _local_addresses(reading: Reading, routes6: tuple[procnet.RouteLine, ...]) -> dict[str, str]:
    """From netlink; else IPv4 from fib_trie's `host LOCAL` leaves, IPv6 from the local routes."""
    answer = told(reading, netlink_format.ADDRESSES, netlink_format.Addresses, Topic.NETWORK, must=False)
    if answer:
        return {_bare(one.address): f"{netlink_format.ADDRESSES}: {one.address}" for one in answer.addresses}
    made: dict[str, str] = {}
    leaf = ""
    for line in (reading.text("proc/net/fib_trie", Topic.NETWORK) or "").splitlines():
        words = line.split()
        if words[:1] in (["|--"], ["+--"]) and len(words) > 1:
            leaf = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"]:
            made[leaf] = "proc/net/fib_trie: host LOCAL"
    for route in routes6:
        if route.flags & _RTF_LOCAL and route.prefix == 128:
            made[str(ipaddress.IPv6Address(route.network))] = "proc/net/ipv6_route: local"
    return made


def _bare(address: str) -> str:
    """Without zone and prefix length."""
    return address.partition("%")[0].partition("/")[0]
