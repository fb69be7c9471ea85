"""Network devices: what sysfs, rtnetlink and ethtool say of each, as one."""

from __future__ import annotations

from dataclasses import replace

from tidegate.host import netlink_format
from tidegate.host.facts import Link, RxRing
from tidegate.host.reading import Reading, is_number
from tidegate.host.record import Status
from tidegate.host.told import told
from tidegate.result import Topic

_CLASS = "sys/class/net"
# Kinds whose device below is given by IFLA_LINK; for veth it is the peer, for tunnels it may be nothing.
_STANDS_ON_LINK = frozenset(
    {"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec", "dsa", "vxlan", "geneve", "hsr"}
)
_PHYSICAL = frozenset({"", "can", "wwan", "ipoib"})


def is_nic(link: Link) -> bool:
    """The bottom of a way: a device with hardware (or a hypervisor) behind it."""
    return link.kind in _PHYSICAL and link.name != "lo"


def links_of(reading: Reading) -> dict[str, Link]:
    """All network devices by name."""
    answer = told(reading, netlink_format.LINKS, netlink_format.Links, Topic.NETWORK, must=False)
    spoken = {one.name: one for one in answer.links} if answer else {}
    tools = told(reading, netlink_format.ETHTOOL, netlink_format.Devices, Topic.NETWORK)
    devices = {one.name: one for one in tools.devices} if tools else {}
    names = [name for name in reading.names(_CLASS) if name != "bonding_masters"]
    if not names and not spoken:
        reading.gap(_CLASS, "not held", Topic.NETWORK, "no network device is shown")
    every = dict.fromkeys((*names, *spoken))
    made = {name: _link(reading, name, spoken.get(name), devices.get(name)) for name in every}
    return _stacked(made, spoken)


def _threaded(reading: Reading, path: str) -> bool | None:
    """Threaded NAPI; not told by an sos report, which is no gap: the one rule that looks at it says so itself."""
    if reading.status(path) is Status.NOT_HELD:
        return None
    number = reading.number(path, Topic.NETWORK)
    return None if number is None else number > 0


def _link(
    reading: Reading, name: str, spoken: netlink_format.Link | None, device: netlink_format.Device | None
) -> Link:
    folder = f"{_CLASS}/{name}"
    below = [one.removeprefix("lower_") for one in reading.names(folder) if one.startswith("lower_")]
    above = [one.removeprefix("upper_") for one in reading.names(folder) if one.startswith("upper_")]
    queues = [one for one in reading.names(f"{folder}/queues") if one.startswith("rx-")]
    kind = _kind(reading, folder, name, spoken)
    mtu = spoken.mtu if spoken else None
    index = spoken.index if spoken else reading.number(f"{folder}/ifindex", Topic.NETWORK, must=True)
    threaded = _threaded(reading, f"{folder}/threaded") if kind in _PHYSICAL else None
    return Link(
        name=name,
        index=index or 0,
        kind=kind,
        driver=_driver(reading, folder, device) if kind in _PHYSICAL else "",
        up=_up(reading, folder, spoken),
        mtu=mtu if mtu is not None else reading.number(f"{folder}/mtu", Topic.NETWORK),
        address=(spoken.address if spoken else "") or (reading.peek(f"{folder}/address") or "").strip(),
        ring=_ring(device, len(queues) or (spoken.queues_rx if spoken else None)),
        lower=tuple(below),
        upper=tuple(above),
        threaded=threaded,
        features=dict(device.features) if device and device.features is not None else None,
        qdisc=spoken.qdisc if spoken else None,
        xdp=spoken.xdp if spoken else None,
        bond_mode=_bond_mode(reading, folder, spoken) if kind == "bond" else None,
        rps=_rps(reading, folder, queues),
        speed_mbit=_speed(reading, folder),
        evidence=f"{netlink_format.LINKS}: {name}" if spoken else folder,
    )


def _ring(device: netlink_format.Device | None, sysfs_queues: int | None) -> RxRing:
    """Receive rings; the channels that the driver tells, else the receive queues there are."""
    if device is None:
        return RxRing(slots=None, slots_max=None, queues=sysfs_queues)
    channels = [count for count in (device.channels_rx, device.channels_combined) if count is not None]
    return RxRing(slots=device.rx, slots_max=device.rx_max, queues=sum(channels) or sysfs_queues)


def _driver(reading: Reading, folder: str, device: netlink_format.Device | None) -> str:
    if device and device.driver:
        return device.driver
    place = reading.link(f"{folder}/device/driver", Topic.NETWORK)
    return place.rsplit("/", 1)[-1] if place else ""


def _kind(reading: Reading, folder: str, name: str, spoken: netlink_format.Link | None) -> str:
    if name == "lo":
        return "loopback"
    if spoken and spoken.kind:
        return spoken.kind
    for below, kind in (("bonding", "bond"), ("bridge", "bridge"), ("tun_flags", "tun")):
        if reading.has(f"{folder}/{below}"):
            return kind
    event = reading.peek(f"{folder}/uevent") or ""
    kinds = [line.removeprefix("DEVTYPE=") for line in event.splitlines() if line.startswith("DEVTYPE=")]
    if kinds and kinds[0] not in ("wlan", "wwan"):
        return kinds[0]
    member = reading.record.members.get(folder)
    virtual = member is not None and "/virtual/" in member.target
    # A veth and a few others say nothing of their kind in sysfs; behind them is no hardware all the same.
    return "virtual" if virtual and not reading.has(f"{folder}/device") else ""


def _up(reading: Reading, folder: str, spoken: netlink_format.Link | None) -> bool | None:
    if spoken and spoken.up is not None:
        return spoken.up
    state = reading.word(f"{folder}/operstate", Topic.NETWORK)
    return None if state is None else state in ("up", "unknown")


def _bond_mode(reading: Reading, folder: str, spoken: netlink_format.Link | None) -> str | None:
    if spoken and spoken.bond_mode:
        return spoken.bond_mode
    text = reading.word(f"{folder}/bonding/mode", Topic.NETWORK)
    return text.split()[0] if text else None


def _rps(reading: Reading, folder: str, queues: list[str]) -> bool | None:
    masks = [reading.word(f"{folder}/queues/{queue}/rps_cpus", Topic.NETWORK) for queue in queues]
    known = [mask for mask in masks if mask is not None]
    return any(mask.strip("0,") for mask in known) if known else None


def _speed(reading: Reading, folder: str) -> int | None:
    """Unreadable while a link is down, and -1 where nothing is known."""
    text = (reading.peek(f"{folder}/speed") or "").strip()
    return int(text) if is_number(text) else None


def _stacked(found: dict[str, Link], spoken: dict[str, netlink_format.Link]) -> dict[str, Link]:
    """Devices with what they stand on: sysfs' lower_* links, bond and bridge ports by their master, IFLA_LINK."""
    by_index = {link.index: name for name, link in found.items()}
    lower: dict[str, dict[str, None]] = {name: dict.fromkeys(link.lower) for name, link in found.items()}
    for name, one in spoken.items():
        if one.master is not None and one.master in by_index and _is_port_of(found[by_index[one.master]]):
            lower[by_index[one.master]][name] = None
        stands = one.lower is not None and not one.peer_elsewhere and found[name].kind in _STANDS_ON_LINK
        if stands and one.lower in by_index:
            lower[name][by_index[one.lower or 0]] = None
    upper: dict[str, dict[str, None]] = {name: dict.fromkeys(link.upper) for name, link in found.items()}
    for name, belows in lower.items():
        for below in belows:
            if below in upper:
                upper[below][name] = None
    return {
        name: replace(link, lower=tuple(lower[name]), upper=tuple(upper[name]))
        for name, link in found.items()
    }


def _is_port_of(master: Link) -> bool:
    """A VRF is a master too, but packets do not go down from it to its ports."""
    return master.kind in ("bond", "bridge", "team", "ovs-system", "openvswitch", "hsr")
