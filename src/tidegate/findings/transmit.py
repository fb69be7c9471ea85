"""The path from socket to wire: packets that cannot be addressed, cut or mapped.

Kernel files: net/core/neighbour.c, net/core/skbuff.c:skb_segment, kernel/dma/mapping.c.
"""

from __future__ import annotations

from tidegate.findings.exposure import on_the_wire, over_users
from tidegate.findings.nic import over_nics
from tidegate.findings.rule import Judgement, Rule, absent, applies, unknown
from tidegate.host.facts import BlockUser, Host, Link, Route, link
from tidegate.result import Cure, Evidence, Reserve, Severity, Shown, Topic
from tidegate.setting_ids import NEIGHBOUR, of

_POINT_TO_POINT = frozenset({"ppp", "pppoe", "wireguard", "tun"})


def _d10(host: Host, _reserve: Reserve) -> Judgement:
    def of_user(user: BlockUser) -> Judgement:
        routes = [route for route in user.routes if not route.local]
        if not routes:
            if on_the_wire(user):
                return unknown(f"the route of {user.name} is not known", severity=Severity.FAULT)
            return absent(f"the packets of {user.name} stay on this machine")
        open_ = [route for route in routes if not _settled(host, route)]
        evidence = tuple(
            Evidence(
                source=route.evidence or "netlink/neighbours.json",
                value=f"{route.neighbour or 'not known'} {route.neighbour_state or 'no entry'}",
                meaning=f"next hop to {route.peer} through {route.device}",
            )
            for route in (open_ or routes)
        )
        if not open_:
            return absent(f"the next hop of {user.name} is permanent", *evidence)
        if not all(route.neighbour for route in open_):
            return unknown(f"the next hop of {user.name} is not known", *evidence, severity=Severity.FAULT)
        names = dict.fromkeys(route.neighbour for route in open_)
        return applies(
            f"the neighbour entry of {', '.join(names)} can expire, and to resolve it again takes memory "
            "outside of the reserve",
            *evidence,
            subjects=tuple(names),
            severity=Severity.FAULT,
            cure=Cure(settings=tuple(of(NEIGHBOUR, name) for name in names)),
        )

    return over_users(host, of_user)


def _settled(host: Host, route: Route) -> bool:
    """Nothing needs resolving: a permanent entry, or a device that resolves no addresses."""
    device = link(host, route.device)
    no_arp = device is not None and device.kind in _POINT_TO_POINT
    return no_arp or route.neighbour_state in {"PERMANENT", "NOARP"}


D10 = Rule(
    id="D10",
    title="the neighbour entry of the server can expire",
    place="path",
    severity=Severity.FAULT,
    argument="Needs the entry to be confirmed anew, three lost requests in a row, at the wrong moment.",
    shown=Shown.SOURCE,
    needs=frozenset({Topic.USERS, Topic.NETWORK}),
    judge=_d10,
    cure=Cure(instead="a permanent neighbour entry for server or gateway"),
    mechanism=(
        "The packet that asks for an address (ARP, neighbour solicitation) is plain GFP_ATOMIC, also for "
        "a flagged socket. After three failures the entry is FAILED, packets to the server are dropped, "
        "and the stream's acknowledgements stop."
    ),
    functions=("net/ipv4/arp.c:arp_solicit", "net/core/neighbour.c:neigh_probe"),
    reproduce="net.ipv4.neigh.eth0.base_reachable_time_ms=1000, gc_stale_time=1, the load of D1.",
    sources=("Linux 6.12.117, read",),
    condition="while the neighbour entry of {subjects} stays valid",
)


def _d18(host: Host, _reserve: Reserve) -> Judgement:
    def of_nic(user: BlockUser, nic: Link) -> Judgement:
        names = ("tx-scatter-gather", "tx-tcp-segmentation")
        features = nic.features or {}
        evidence = Evidence(
            source=nic.evidence or "netlink/ethtool.json",
            value=", ".join(f"{name} {_on_off(features.get(name))}" for name in names),
            meaning=nic.name,
        )
        missing = [name for name in names if features.get(name) is False]
        if missing:
            return applies(
                f"{nic.name} has {' and '.join(missing)} off: each segment is copied into new, ordinary "
                "memory before it can leave",
                evidence,
                subjects=(user.name, nic.name),
                severity=Severity.STALL,
            )
        if any(name not in features for name in names):
            return unknown(f"the offloads of {nic.name} were not read", evidence, severity=Severity.STALL)
        return absent(f"{nic.name} segments and gathers itself", evidence)

    return over_nics(host, of_nic)


def _on_off(value: bool | None) -> str:
    return {True: "on", False: "off", None: "not read"}[value]


D18 = Rule(
    id="D18",
    title="the NIC cannot segment or gather",
    place="path",
    severity=Severity.STALL,
    argument="A segment that cannot be made is lost before the wire and sent again after a timeout.",
    shown=Shown.SOURCE,
    needs=frozenset({Topic.USERS, Topic.NETWORK}),
    judge=_d18,
    cure=Cure(
        curable=False,
        instead=(
            "a NIC with TSO and scatter-gather (ethtool -K NIC tso on sg on, where they are only turned off)"
        ),
    ),
    mechanism=(
        "Without TSO or scatter-gather the stack cuts the large segment itself: skb_segment allocates as "
        "many bytes again, GFP_ATOMIC and without permission, since the mark is not on packets that "
        "leave. At the floor that fails and the segment is dropped before the wire."
    ),
    functions=("net/core/skbuff.c:skb_segment", "net/core/dev.c:validate_xmit_skb"),
    reproduce="pcnet or usb-net, or ethtool -K eth0 tso off sg off, the load of D1.",
    sources=("Linux 6.12.117, read",),
)


def _d23(host: Host, _reserve: Reserve) -> Judgement:
    def of_user(user: BlockUser) -> Judgement:
        line = host.texts.get("proc/cmdline")
        if line is None:
            return unknown("the kernel's command line was not read", severity=Severity.NOTE)
        words = line.split()
        mapped = [word for word in words if word.startswith(_DMA_MAPPED) and not word.endswith(_DMA_DIRECT)]
        evidence = Evidence(source="proc/cmdline", value=" ".join(mapped) or "no word on IOMMU or swiotlb")
        if mapped:
            return applies(
                f"packets are mapped for DMA ({mapped[0]}), and mapping may allocate: {user.name} waits "
                "when it fails",
                evidence,
            )
        if any(word in _NO_IOMMU for word in words):
            return absent("packets need no mapping for DMA", evidence)
        return unknown(
            ("whether DMA goes through an IOMMU is not seen from here"), evidence, severity=Severity.NOTE
        )

    return over_users(host, of_user)


_DMA_MAPPED = ("iommu=", "intel_iommu=", "amd_iommu=", "iommu.strict=", "swiotlb=", "mem_encrypt=")
_DMA_DIRECT = ("=off", "=pt", "=soft", "=noforce", "strict=0")
_NO_IOMMU = frozenset({"iommu=off", "iommu=pt", "intel_iommu=off", "amd_iommu=off", "iommu.passthrough=1"})

D23 = Rule(
    id="D23",
    title="mapping a packet for the device may allocate",
    place="path",
    severity=Severity.NOTE,
    argument=(
        "Not read in the source of any IOMMU driver; a packet that cannot be mapped is dropped and sent "
        "again."
    ),
    shown=Shown.INFERRED,
    needs=frozenset({Topic.USERS, Topic.HOST}),
    judge=_d23,
    cure=Cure(curable=False, instead="iommu=pt where the devices are trusted"),
    mechanism=(
        "Behind an IOMMU, or with bounce buffers (swiotlb, encrypted guests), handing a packet to the "
        "device may need a page table page or a bounce buffer, taken with GFP_ATOMIC and without "
        "permission."
    ),
    functions=("kernel/dma/mapping.c:dma_map_page_attrs", "kernel/dma/swiotlb.c:swiotlb_map"),
    reproduce="A guest with an emulated IOMMU and iommu.strict=1, the load of D1.",
    sources=("inference: allocation flags of IOMMU drivers were not read",),
)


RULES = (D10, D18, D23)
