"""What the commands in an sos report printed, as the answers that netlink gives on a live host.

The outputs of ss, ip and ethtool are made for people and have no library that reads them; what is taken from each is
little, and a line that does not fit is passed over, so that its fact stays not held.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise

from tidegate.host import netlink_format as form
from tidegate.host.reading import is_number

_SKMEM = re.compile(r"skmem:\(r(\d+),rb(\d+),t(\d+),tb(\d+),f(\d+),w(\d+),o(\d+),bl(\d+)(?:,d(\d+))?\)")
_USER = re.compile(r'\("[^"]*",pid=(\d+),fd=(\d+)\)')
_INODE = re.compile(r"\bino:(\d+)")
_UID = re.compile(r"\buid:(\d+)")
_LINK = re.compile(r"(\d+): ([^:@\s]+)(?:@([^:\s]+))?: <([^>]*)> (.*)")
_KINDS = re.compile(
    r"^\s+(bond|vlan|bridge|veth|tun|wireguard|vxlan|macvlan|macvtap|ipvlan|ipvtap|geneve|dsa|macsec|team|dummy|gre|gretap"
    r"|ipip|sit|ip6tnl|vti|vrf|ifb|hsr|netkit|xfrm)\b",
    re.MULTILINE,
)
# How `ip` says that an XDP program is attached; an id may follow.
_XDP = {"xdp": "native", "xdpgeneric": "generic", "xdpoffload": "offload", "xdpmulti": "multi"}


def netlink_answers(
    *,
    ss: str | None,
    addresses: str | None,
    links: str | None,
    neighbours: str | None,
    drivers: Mapping[str, str],
    rings: Mapping[str, str],
    channels: Mapping[str, str],
    features: Mapping[str, str],
) -> dict[str, bytes]:
    """Members under netlink/ for what the commands tell; none for a command that is not held."""
    made: dict[str, bytes] = {}
    if ss is not None:
        made[form.SOCKETS] = form.encode(_sockets(ss))
    if addresses is not None:
        made[form.ADDRESSES] = form.encode(form.Addresses(list(_addresses(addresses))))
    if links is not None:
        made[form.LINKS] = form.encode(form.Links(list(_links(links))))
    if neighbours is not None:
        made[form.NEIGHBOURS] = form.encode(form.Neighbours(list(_neighbours(neighbours))))
    if drivers:
        devices = [
            _device(name, drivers, rings.get(name, ""), channels.get(name, ""), features.get(name, ""))
            for name in sorted(drivers)
        ]
        made[form.ETHTOOL] = form.encode(form.Devices(devices))
    return made


def _sockets(output: str) -> form.Sockets:
    """The sockets that ss lists; not complete where a line cannot be read or the output ends in the middle of one."""
    found, complete = [], output.endswith("\n")
    for one in _each_socket(output):
        if one is None:
            complete = False
        else:
            found.append(one)
    return form.Sockets(found, complete=complete)


def _each_socket(output: str) -> Iterator[form.Socket | None]:
    for block in re.split(r"\n(?=\S)", output):
        words = block.split()
        if not words or words[0] not in {"tcp", "udp"}:
            continue
        local, remote = (_endpoint(word) for word in (*words[4:6], "", "")[:2])
        if local is None or remote is None:
            yield None
            continue
        memory = _SKMEM.search(block)
        numbers = [int(one) if one else None for one in memory.groups()] if memory else [None] * 9
        inode, uid = _INODE.search(block), _UID.search(block)
        yield form.Socket(
            kind=words[0],
            family="inet6" if ":" in local[0] else "inet",
            state=words[1],
            local=local[0],
            local_port=local[1],
            remote=remote[0],
            remote_port=remote[1],
            inode=int(inode[1]) if inode else 0,
            uid=int(uid[1]) if uid else 0,
            rmem=numbers[0],
            rcvbuf=numbers[1],
            wmem=numbers[2],
            sndbuf=numbers[3],
            fwd=numbers[4],
            queued=numbers[5],
            optmem=numbers[6],
            backlog=numbers[7],
            drops=numbers[8],
        )


def _endpoint(word: str) -> tuple[str, int] | None:
    address, _, port = word.rpartition(":")
    address = address.partition("%")[0].strip("[]")  # [fe80::1]%eth0:22
    address = "0.0.0.0" if address == "*" else address  # noqa: S104 - what ss prints for any address
    try:
        read = ipaddress.ip_address(address)
        number = 0 if port == "*" else int(port)
    except ValueError:
        return None
    mapped = read.ipv4_mapped if isinstance(read, ipaddress.IPv6Address) else None
    return f"::ffff:{mapped}" if mapped else str(read), number


def owners(output: str) -> Iterator[tuple[int, int, int]]:
    """Process, file number and inode of every socket that ss names an owner for."""
    for block in re.split(r"\n(?=\S)", output):
        words = block.split()
        inode = _INODE.search(block)
        if len(words) > 5 and words[0] in {"tcp", "udp"} and inode:
            for pid, number in _USER.findall(block):
                yield int(pid), int(number), int(inode[1])


def _addresses(output: str) -> Iterator[form.Address]:
    for line in output.splitlines():
        words = line.split()
        if len(words) > 3 and words[2] in {"inet", "inet6"} and "/" in words[3]:
            address, _, prefix = words[3].partition("/")
            if is_number(words[0].rstrip(":")) and is_number(prefix):
                yield form.Address(address=address, prefix=int(prefix), index=int(words[0].rstrip(":")))


def _links(output: str) -> Iterator[form.Link]:
    blocks = re.split(r"\n(?=\d+: )", output)
    heads = [(found, block) for block in blocks if (found := _LINK.match(block))]
    numbers = {found[2]: int(found[1]) for found, _ in heads}
    for found, block in heads:
        words = found[5].split()
        said = dict(pairwise(words))  # each word and the next; only after the names asked for is it a value
        address = re.search(r"link/\S+ (\S+)", block)
        kind = _KINDS.search(block)
        queues = re.search(r"numrxqueues (\d+)", block)
        bond = re.search(r"\bbond mode (\S+)", block)
        mtu = said.get("mtu", "")
        yield form.Link(
            name=found[2],
            index=int(found[1]),
            kind=kind[1] if kind else "",
            mtu=int(mtu) if is_number(mtu) else None,
            address=address[1] if address else "",
            up="UP" in found[4].split(",") and said.get("state") != "DOWN",
            master=numbers.get(said.get("master", "")),
            lower=numbers.get(found[3] or ""),
            peer_elsewhere="link-netnsid" in words,
            xdp=next((_XDP[one] for word in words if (one := word.partition("/")[0]) in _XDP), "none"),
            qdisc=said.get("qdisc"),
            queues_rx=int(queues[1]) if queues else None,
            bond_mode=bond[1] if bond else None,
        )


def _neighbours(output: str) -> Iterator[form.Neighbour]:
    for line in output.splitlines():
        words = line.split()
        if len(words) > 3 and words[1] == "dev":
            lladdr = words[words.index("lladdr") + 1] if "lladdr" in words[:-1] else ""
            yield form.Neighbour(address=words[0], device=words[2], state=words[-1], lladdr=lladdr)


def _device(name: str, drivers: Mapping[str, str], ring: str, channel: str, features: str) -> form.Device:
    driver = re.search(r"^driver: (\S+)", drivers[name], re.MULTILINE)
    most, _, now = ring.partition("Current hardware settings:")
    _, _, channels = channel.partition("Current hardware settings:")
    switches = re.findall(r"^([\w-]+): (on|off)", features, re.MULTILINE)
    return form.Device(
        name=name,
        driver=driver[1] if driver else "",
        rx=_number(now, "RX"),
        rx_max=_number(most, "RX"),
        channels_rx=_number(channels, "RX"),
        channels_combined=_number(channels, "Combined"),
        features={_SWITCHES.get(one, one): value == "on" for one, value in switches if one in _SWITCHES}
        or None,
    )


# ethtool's names for the kernel's features that findings look at.
_SWITCHES = {
    "generic-receive-offload": "rx-gro",
    "rx-gro-hw": "rx-gro-hw",
    "large-receive-offload": "rx-lro",
    "tx-scatter-gather": "tx-scatter-gather",
    "scatter-gather": "tx-scatter-gather",
    "tcp-segmentation-offload": "tx-tcp-segmentation",
    "generic-segmentation-offload": "tx-generic-segmentation",
}


def _number(text: str, name: str) -> int | None:
    found = re.search(rf"^{name}:\s+(\d+)\s*$", text, re.MULTILINE)
    return int(found[1]) if found else None


def date_of(output: str) -> str:
    """The date that `date --utc` printed as ISO 8601; empty where it cannot be read."""
    words = output.split()
    forms = {6: "%a %b %d %H:%M:%S %Z %Y", 7: "%a %b %d %I:%M:%S %p %Z %Y"}
    try:
        when = datetime.strptime(" ".join(words), forms.get(len(words), "")).replace(tzinfo=UTC)
    except ValueError:
        return ""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
