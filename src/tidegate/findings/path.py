"""The path from NIC to socket: frames that are refused, or parked without bound on time.

Kernel files: net/core/dev.c, net/ipv4/ip_fragment.c, drivers/net/tun.c. What leaves is in `transmit`.
"""

from __future__ import annotations

from tidegate.findings.exposure import (
    floor_evidence,
    graded,
    graded_why,
    on_the_wire,
    over_users,
    settings_alone,
    sysctl_evidence,
    user_evidence,
)
from tidegate.findings.nic import KEPT, driver_name, nic_evidence, over_nics, user_marks
from tidegate.findings.rule import Judgement, Rule, absent, applies, unknown
from tidegate.host.facts import BlockUser, Host, Link, Transport, link, nics_of, sysctl_int
from tidegate.result import Cure, Evidence, Reserve, Severity, Shown, Topic
from tidegate.setting_ids import (
    EARLY_DROP,
    IP6FRAG_HIGH_THRESH,
    IP6FRAG_HIGH_THRESH_TARGET,
    IPFRAG_HIGH_THRESH,
    IPFRAG_HIGH_THRESH_TARGET,
    of,
)
from tidegate.units import human_bytes

# net/core/dev.c:skb_pfmemalloc_protocol lets these through while the buffer is marked; all others are
# dropped.
_LISTED = {0x0800: "IPv4", 0x0806: "ARP", 0x86DD: "IPv6", 0x8100: "802.1Q", 0x88A8: "802.1AD"}
# Kinds of links whose own frames are none of these.
_UNLISTED_KINDS = {
    "ppp": "PPPoE sessions",
    "pppoe": "PPPoE sessions",
    "dsa": "frames of a DSA conduit",
    "macsec": "MACsec",
    "hsr": "HSR/PRP",
    "batadv": "batman-adv",
}
_NFQUEUE = "proc/net/netfilter/nfnetlink_queue"


def _route_links(host: Host, user: BlockUser) -> tuple[Link, ...]:
    """Every device that the user's packets pass, top to bottom, each once."""
    names = dict.fromkeys(name for route in user.routes for name in (*route.links, *route.nics))
    return tuple(one for name in names if (one := link(host, name)) is not None)


def _d7(host: Host, reserve: Reserve) -> Judgement:
    def of_user(user: BlockUser) -> Judgement:
        parked = (*_packet_sockets(host), *_guests(host, user), *_verdict_queues(host))
        nics = nics_of(host, user)
        if not on_the_wire(user):
            return absent(f"the packets of {user.name} pass no NIC")
        if not parked:
            if "nfnetlink_queue" in host.modules and _NFQUEUE not in host.texts:
                return unknown(f"{_NFQUEUE} was not read", severity=Severity.STALL)
            return absent("no packet socket, guest or verdict queue can park packets")
        if settings_alone(reserve):
            return absent(KEPT, *parked)
        marked = user_marks(host, user)
        if marked is False:
            return absent("no NIC in the path hands up pages of the reserve", *map(nic_evidence, nics))
        if marked is None:
            return unknown(
                ("whether parked packets hold reserve pages is not known"), *parked, severity=Severity.STALL
            )
        return applies(
            f"packets in pages of the reserve may wait for a reader in user space: {parked[0].meaning}",
            *parked,
            subjects=(user.name, *(one.name for one in nics)),
            severity=Severity.STALL,
            cure=Cure(
                settings=tuple(of(EARLY_DROP, one.name) for one in nics),
                curable=False,
                instead=(
                    "an early drop at ingress; or bind the packet socket to ETH_P_ALL, which skips marked "
                    "packets"
                ),
            ),
        )

    return over_users(host, of_user)


def _packet_sockets(host: Host) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            source=one.evidence or "proc/net/packet",
            value=f"protocol {one.protocol:#06x}, rcvbuf {one.rcvbuf_bytes}",
            meaning=f"an AF_PACKET socket bound to {_LISTED[one.protocol]}",
        )
        for one in host.packet_sockets
        if one.protocol in _LISTED
    )


def _guests(host: Host, user: BlockUser) -> tuple[Evidence, ...]:
    """Taps that stand on the same NIC, beside it in a bridge or on top of it."""
    passed = {one.name for one in _route_links(host, user)}
    bridges = [one for one in host.links if one.kind == "bridge" and passed & {one.name, *one.lower}]
    beside = {name for bridge in bridges for name in bridge.lower} - passed
    found = [
        one
        for one in host.links
        if (one.name in beside and driver_name(one) in {"tun", "tap"})
        or (one.kind == "macvtap" and passed & set(one.lower))
    ]
    return tuple(
        Evidence(
            source=one.evidence or f"sys/class/net/{one.name}",
            value=f"{one.name}: {driver_name(one)}",
            meaning=f"a guest's tap ({one.name}) on the path of {user.name}",
        )
        for one in found
    )


def _verdict_queues(host: Host) -> tuple[Evidence, ...]:
    lines = host.texts.get(_NFQUEUE, "").split("\n")
    return tuple(
        Evidence(source=_NFQUEUE, value=line.strip(), meaning="an NFQUEUE that waits for verdicts")
        for line in lines
        if line.strip()
    )


D7 = Rule(
    id="D7",
    title="reserve packets can be parked on the way to user space",
    place="path",
    severity=Severity.STALL,
    argument="Bounded in amount by the queue, not in time; the sum decides whether the rest suffices.",
    shown=Shown.INFERRED,
    needs=frozenset({Topic.USERS, Topic.NETWORK, Topic.SOCKETS, Topic.LIMITS}),
    judge=_d7,
    cure=Cure(curable=False, instead="an early drop at ingress (the guard)"),
    mechanism=(
        "Marked packets skip taps that listen to everything, and nothing else: packet sockets bound to "
        "one protocol, taps of guests behind a bridge, NFQUEUE and forwarding take them without a test. A "
        "guest's monitor that is itself swapped out does not read its tap until memory is free."
    ),
    functions=(
        "net/core/dev.c:__netif_receive_skb_core",
        "net/packet/af_packet.c:packet_rcv",
        "drivers/net/tun.c:tun_net_xmit",
        "net/netfilter/nfnetlink_queue.c:nfqnl_enqueue_packet",
    ),
    reproduce=(
        "socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP)) with 64 MB of receive buffer that is never read, "
        "e1000e; or a bridge with the tap of a stopped guest."
    ),
    sources=("Linux 6.12.117, read", "P. Zijlstra 2008, NF_QUEUE vs emergency skbs: not merged"),
)


def _d8(host: Host, reserve: Reserve) -> Judgement:
    return over_users(host, lambda user: _d8_of(host, reserve, user), by_swap=True)


def _d8_of(host: Host, reserve: Reserve, user: BlockUser) -> Judgement:
    links = _route_links(host, user)
    storage = [one for one in links if one.kind in _UNLISTED_KINDS]
    control = [one for one in links if one.bond_mode in {"802.3ad", "4"}]
    aoe = user.transport is Transport.AOE
    evidence = tuple(
        Evidence(
            source=one.evidence or f"sys/class/net/{one.name}",
            value=f"{one.name}: {one.kind or driver_name(one)} {one.bond_mode or ''}".strip(),
        )
        for one in (*storage, *control)
    )
    if not (aoe or storage or control):
        if on_the_wire(user) and not links:
            return unknown(f"the devices under {user.name} are not known")
        return absent(f"{user.name} goes in frames that pass while their buffer is marked")
    marked = user_marks(host, user)
    if marked is False:
        return absent(f"no NIC under {user.name} marks its buffers", *evidence)
    kept = settings_alone(reserve)
    if kept:
        return absent(KEPT, *evidence)
    bad = aoe or bool(storage)
    severity = graded(user) if bad else Severity.STALL
    if kept is None or marked is None:
        return unknown(
            (f"whether buffers under {user.name} are marked is not known"), *evidence, severity=severity
        )
    if bad:
        what = "AoE" if aoe else _UNLISTED_KINDS[storage[0].kind]
        why = (
            f"{user.name} goes in {what}, and every such frame is dropped while its buffer is from the "
            "reserve"
        )
        return applies(
            graded_why(why, user),
            *user_evidence(user),
            *evidence,
            *floor_evidence(reserve),
            severity=severity,
        )
    return applies(
        f"LACP frames of {control[0].name} are dropped while their buffers are from the reserve: the bond "
        f"may lose the link under {user.name}",
        *evidence,
        severity=severity,
    )


D8 = Rule(
    id="D8",
    title="frames of a type that the reserve refuses",
    place="path",
    severity=Severity.DEADLOCK,
    argument=(
        "Where storage itself goes in such frames no reply arrives while memory is short; where only link "
        "control does, it is a stall."
    ),
    shown=Shown.SOURCE,
    needs=frozenset({Topic.USERS, Topic.NETWORK, Topic.MEMORY, Topic.LIMITS}),
    judge=_d8,
    cure=Cure(
        curable=False,
        instead=(
            "carry storage in plain IP or VLAN frames; a static bond mode (active-backup, balance-xor) "
            "instead of LACP"
        ),
    ),
    mechanism=(
        "While a buffer is marked only ARP, IPv4, IPv6, 802.1Q and 802.1AD pass; everything else is "
        "dropped before it is looked at. LACP, STP, LLDP, 802.1X, PPPoE sessions, MPLS, MACsec without "
        "offload, HSR, AoE and every frame on a DSA conduit are among the rest. So the storage's own "
        "frames vanish, or the bond under them loses its partner."
    ),
    functions=("net/core/dev.c:skb_pfmemalloc_protocol", "net/core/dev.c:__netif_receive_skb_core"),
    reproduce="Bond mode 4 with lacp_rate fast over e1000e, the load of D1; or an AoE target.",
    sources=("Linux 6.12.117, read",),
)


def _d19(host: Host, _reserve: Reserve) -> Judgement:
    def of_user(_user: BlockUser) -> Judgement:
        limits = {
            IPFRAG_HIGH_THRESH: IPFRAG_HIGH_THRESH_TARGET,
            IP6FRAG_HIGH_THRESH: IP6FRAG_HIGH_THRESH_TARGET,
        }
        values = {name: sysctl_int(host, name) for name in limits}
        evidence = tuple(sysctl_evidence(host, name, "bytes") for name in limits)
        large = [name for name, value in values.items() if value is not None and value > limits[name]]
        if large:
            size = sum(values[name] or 0 for name in large)
            return applies(
                f"incomplete datagrams of anybody may hold {human_bytes(size)} for 30 to 60 s",
                *evidence,
                severity=Severity.STALL,
                cure=Cure(settings=tuple(large)),
            )
        if values[IPFRAG_HIGH_THRESH] is None:
            return unknown(f"{IPFRAG_HIGH_THRESH} was not read", *evidence, severity=Severity.STALL)
        return absent("incomplete datagrams hold little", *evidence)

    return over_users(host, of_user)


D19 = Rule(
    id="D19",
    title="incomplete datagrams hold memory",
    place="path",
    severity=Severity.STALL,
    argument="Bounded: 30 s for IPv4, 60 s for IPv6, and high_thresh in amount.",
    shown=Shown.SOURCE,
    needs=frozenset({Topic.USERS, Topic.LIMITS}),
    judge=_d19,
    cure=Cure(settings=(IPFRAG_HIGH_THRESH, IP6FRAG_HIGH_THRESH)),
    mechanism=(
        "Fragments are queued before anybody asks for whom they are, marked ones too: up to 4 MiB for "
        "each of IPv4 and IPv6 (and again where conntrack reassembles), for 30 or 60 seconds. That is "
        "more than the whole reserve of a small host."
    ),
    functions=("net/ipv4/ip_fragment.c:ip_frag_queue", "net/ipv6/reassembly.c:ip6_frag_queue"),
    reproduce="UDP fragments without their tails, e1000e, the load of D1.",
    sources=("Linux 6.12.117, read",),
)


def _d20(host: Host, _reserve: Reserve) -> Judgement:
    def of_user(user: BlockUser) -> Judgement:
        under = [one for one in _route_links(host, user) if one.kind == "wireguard"]
        if under:
            return applies(
                f"{user.name} goes through WireGuard ({under[0].name}), whose keys are renewed by ordinary "
                "workers",
                Evidence(
                    source=under[0].evidence or (f"sys/class/net/{under[0].name}"),
                    value=(f"{under[0].name}: wireguard"),
                ),
                subjects=(user.name, under[0].name),
                severity=Severity.FAULT,
            )
        beside = [one for one in host.links if one.kind == "wireguard" and one.up]
        if beside:
            return applies(
                f"{beside[0].name} is WireGuard: anybody who can reach its port may park 4,096 packets in "
                "the reserve",
                Evidence(
                    source=beside[0].evidence or (f"sys/class/net/{beside[0].name}"),
                    value=(f"{beside[0].name}: wireguard"),
                ),
                subjects=(beside[0].name,),
                severity=Severity.NOTE,
            )
        return absent("no WireGuard here")

    return over_users(host, of_user)


D20 = Rule(
    id="D20",
    title="WireGuard shares or carries the reserve",
    place="path",
    severity=Severity.FAULT,
    argument="Needs a key that runs out during the shortage, or a sender who floods handshakes; else a note.",
    shown=Shown.SOURCE,
    needs=frozenset({Topic.USERS, Topic.NETWORK}),
    judge=_d20,
    cure=Cure(
        curable=False,
        instead="do not carry swap over WireGuard; let only its peers reach its port (a filter at ingress)",
    ),
    mechanism=(
        "WireGuard's UDP sockets carry SOCK_MEMALLOC, so packets that nobody has authenticated yet are "
        "admitted to the reserve: up to 4,096 handshakes wait for a worker without PF_MEMALLOC. Keys are "
        "renewed every two minutes by such workers; when that fails for three minutes the tunnel is "
        "silent."
    ),
    functions=(
        ("drivers/net/wireguard/socket.c:set_sock_opts"),
        ("drivers/net/wireguard/receive.c:wg_packet_receive"),
    ),
    reproduce="NBD through a WireGuard tunnel, the load of D1, and a flood of handshake initiations.",
    sources=("Linux 6.12.117, read",),
    condition="while the keys of WireGuard ({subjects}) can be renewed",
)


def _rps_backlog(host: Host, _reserve: Reserve) -> Judgement:
    def of_nic(user: BlockUser, nic: Link) -> Judgement:
        evidence = Evidence(
            source=f"sys/class/net/{nic.name}/queues",
            value=f"rps_cpus {'not read' if nic.rps is None else 'set' if nic.rps else 'none'}",
        )
        if nic.rps is None:
            return unknown(f"rps_cpus of {nic.name} was not read", evidence, severity=Severity.LOSS)
        if not nic.rps:
            return absent(f"{nic.name} hands its packets up directly", evidence)
        return applies(
            f"packets of {nic.name} wait in the per-CPU backlog, where everybody's packets crowd out "
            f"replies to {user.name}",
            evidence,
            sysctl_evidence(host, "net.core.netdev_max_backlog"),
            subjects=(user.name, nic.name),
            severity=Severity.LOSS,
        )

    return over_nics(host, of_nic)


RPS_BACKLOG = Rule(
    id="rps-backlog",
    title="replies share the softnet backlog with everybody",
    place="path",
    severity=Severity.LOSS,
    argument="A reply that finds the backlog full is lost and comes again; the backlog drains by itself.",
    shown=Shown.SOURCE,
    needs=frozenset({Topic.USERS, Topic.NETWORK}),
    judge=_rps_backlog,
    cure=Cure(curable=False, instead="turn RPS off for that NIC: echo 0 into each queues/rx-*/rps_cpus"),
    mechanism=(
        "With receive packet steering (and for netif_rx, veth and tunnels) packets wait in one queue for "
        "each CPU, netdev_max_backlog long, before anybody looks whether they are block IO. The patch of "
        "2005 let flagged packets bypass that queue; mainline does not."
    ),
    functions=("net/core/dev.c:enqueue_to_backlog", "net/core/dev.c:get_rps_cpu"),
    reproduce="echo f > /sys/class/net/eth0/queues/rx-0/rps_cpus, a flood, netdev_max_backlog 100.",
    sources=("Linux 6.12.117, read",),
)

RULES = (D7, D8, D19, D20, RPS_BACKLOG)
