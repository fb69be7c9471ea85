"""What is known of a host, as frozen data: the one thing that findings, plan and reports look at.

Everything here is read from a `Record` (live hosts are recorded into memory first). A value that could
not be read is None, and a `Gap` in `Host.gaps` says why; an absent thing is an empty tuple *without* a gap.
Nothing here decides anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tidegate.reserve import Zone
from tidegate.result import ChainLink, Evidence, Gap


class UserKind(StrEnum):
    """What rides on the network."""

    SWAP = "swap"  # a swap partition or whole device
    SWAPFILE = "swapfile"
    MOUNT = "mount"
    DISK = "disk"  # a network disk that nothing mounts or swaps on


class Transport(StrEnum):
    """How a block user reaches its storage."""

    NBD = "nbd"
    ISCSI = "iscsi"
    NVME_TCP = "nvme-tcp"
    NFS = "nfs"
    SMB = "smb"
    RBD = "rbd"
    CEPHFS = "cephfs"
    DRBD = "drbd"
    AOE = "aoe"
    FUSE = "fuse"
    UBLK = "ublk"
    NINEP = "9p"
    RDMA = "rdma"  # iSER, NVMe/RDMA, NFS/RDMA: no skbs on real hardware
    OTHER = "other"  # recognised as not local, not known how


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The running kernel."""

    release: str  # uname -r
    version: tuple[int, int, int]  # 6.12.117 -> (6, 12, 117)
    machine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Zones and the settings that move them."""

    zones: tuple[Zone, ...]
    total_kib: int | None
    min_free_kib: int | None
    watermark_scale_factor: int | None
    watermark_boost_factor: int | None
    lowmem_reserve_ratio: tuple[int, ...]
    thp_enabled: bool | None  # any size enabled: khugepaged then raises min_free_kbytes
    hugepage_kib: int | None  # PMD huge page: the pageblock size
    nodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """One socket from sock_diag, /proc/net/tcp or `ss` output."""

    family: str  # inet, inet6, unix, packet
    kind: str  # tcp, udp, raw, packet, mptcp, unix
    state: str  # ESTAB, LISTEN, ...
    local: str
    local_port: int
    remote: str
    remote_port: int
    inode: int
    uid: int | None = None
    pids: tuple[int, ...] = ()  # owners; empty with `owners_known`: the kernel's own socket
    owners_known: bool = False
    rcvbuf_bytes: int | None = None  # sk_rcvbuf (skmem rb)
    sndbuf_bytes: int | None = None  # sk_sndbuf (skmem tb)
    rmem_bytes: int | None = None  # skmem r
    wmem_bytes: int | None = None  # skmem t or w, the larger
    fwd_bytes: int | None = None
    drops: int | None = None
    rcvbuf_locked: bool | None = None  # SOCK_RCVBUF_LOCK (from INET_DIAG_SOCKOPT or size above default)
    sndbuf_locked: bool | None = None
    protocol: int | None = None  # packet sockets: ethertype bound to (0x0003 = all)
    evidence: str = ""  # e.g. "netlink/inet_diag.json: sockets[3]"


@dataclass(frozen=True, slots=True, kw_only=True)
class RxRing:
    """Receive rings of a NIC."""

    slots: int | None  # per queue, as set now
    slots_max: int | None
    queues: int | None  # receive queues


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A network device: a NIC, or something on top of NICs."""

    name: str
    index: int
    kind: str  # "" for a plain device; bond, vlan, bridge, veth, tun, wireguard, vxlan, macvlan, dsa, ...
    driver: str  # ethtool/sysfs driver; "" for virtual devices
    up: bool | None
    mtu: int | None
    address: str
    ring: RxRing
    lower: tuple[str, ...] = ()  # devices it stands on
    upper: tuple[str, ...] = ()
    threaded: bool | None = None  # threaded NAPI
    features: Mapping[str, bool] | None = None  # ethtool features, kernel names
    qdisc: str | None = None
    xdp: str | None = None  # none, native, generic, offload, multi
    bond_mode: str | None = None  # e.g. 802.3ad
    rps: bool | None = None  # any rps_cpus bit set
    speed_mbit: int | None = None
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How packets to one peer leave this host."""

    peer: str
    device: str  # "" when not known
    gateway: str = ""
    source: str = ""
    local: bool = False  # the peer is this host
    links: tuple[str, ...] = ()  # from the route's device down to NICs
    nics: tuple[str, ...] = ()  # the devices at the bottom
    neighbour: str = ""  # address resolved on the wire: gateway or peer
    neighbour_state: str | None = None  # PERMANENT, REACHABLE, STALE, ... or None
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A block queue's limits."""

    device: str
    nr_requests: int | None
    max_sectors_kib: int | None
    scheduler: str | None
    hw_queues: int | None
    wbt_usec: int | None
    read_ahead_kib: int | None
    size_kib: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Where a transport talks to."""

    address: str
    port: int
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockUser:
    """A swap, mount or disk that rides on the network, with its whole chain."""

    name: str  # unique, for people: "swap /dev/nbd0", "mount /srv"
    kind: UserKind
    transport: Transport
    writable: bool
    chain: tuple[ChainLink, ...]  # top to bottom, ending at the NIC
    leaf: str  # the bottom block device, file system source or daemon: nbd0, sda, server:/export
    peers: tuple[Peer, ...] = ()
    sockets: tuple[Socket, ...] = ()
    connections: int | None = None  # how many connections there should be; None when not known
    routes: tuple[Route, ...] = ()
    queue: Queue | None = None
    daemons: tuple[int, ...] = ()  # pids in the path (serving or reconnecting)
    server_local: bool | None = None  # the server runs on this machine
    server_evidence: Evidence | None = None
    userspace: tuple[str, ...] = ()  # user-space parts that *serve* IO: sshfs, ublk, qemu-nbd, tls-proxy ...
    swaps: bool = False  # anonymous memory goes through it, itself or by something on top
    front: tuple[str, ...] = ()  # zswap, zram writeback, bcache in front
    legs: int = (
        1  # how often a request above reaches this leaf (a mirror whose legs share it); one user a leaf
    )
    copies: int = 0  # encryption above copies


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """One thread of a daemon."""

    tid: int
    comm: str
    flags: int | None  # field 9 of stat: PF_*


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A user-space process in (or beside) the path of block IO."""

    pid: int
    comm: str
    role: str  # serves, reconnects, path-manager, proxy, server (serves other hosts or this one)
    threads: tuple[Thread, ...]
    locked_kib: int | None  # VmLck
    resident_kib: int | None
    oom_score_adj: int | None
    cgroup: str | None
    memory_max: int | None  # bytes; None with memory_max_known: no limit
    memory_max_known: bool
    exe_device: str | None  # major:minor or mount of the binary, if it could be read
    exe_on_user: str | None  # name of the BlockUser the binary lives on
    users: tuple[str, ...] = ()  # block users it stands in the path of
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketSocket:
    """An AF_PACKET socket: may park packets without bound on time."""

    protocol: int  # ethertype; 0x0003 = ETH_P_ALL (skipped for reserve packets)
    interface: int
    rcvbuf_bytes: int | None
    inode: int
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A line of mountinfo."""

    id: int
    device: str  # major:minor
    root: str
    point: str
    fstype: str
    source: str
    options: tuple[str, ...]  # per mount and per superblock together


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host, read."""

    name: str
    taken: str
    source: str
    kernel: Kernel
    page_bytes: int
    cpus: int | None
    memory: Memory | None
    users: tuple[BlockUser, ...]
    links: tuple[Link, ...]
    sockets: tuple[Socket, ...]
    packet_sockets: tuple[PacketSocket, ...]
    daemons: tuple[Daemon, ...]
    mounts: tuple[Mount, ...]
    sysctls: Mapping[str, str]  # "vm.min_free_kbytes" -> "1830"
    counters: Mapping[str, int]  # "vmstat.oom_kill", "TcpExt.PFMemallocDrop", "sockstat.TCP.mem"
    modules: frozenset[str]
    texts: Mapping[str, str]  # small files that single rules look at (kubelet config, fstab), by record path
    gaps: tuple[Gap, ...]
    container: bool  # sees one network namespace only
    namespaces: int | None = None  # other network namespaces that exist and could not be seen
    made: bool = False  # a hand-made record, not from a machine


_NUMBER = re.compile(r"[0-9]{1,20}")  # up to what an unsigned long prints; no limit is below zero


def sysctl_int(host: Host, name: str) -> int | None:
    """A sysctl that holds one number, or None when it was not read or holds something else."""
    numbers = sysctl_ints(host, name)
    return numbers[0] if len(numbers) == 1 else None


def sysctl_ints(host: Host, name: str) -> tuple[int, ...]:
    """A sysctl that holds several numbers (tcp_mem); empty when it was not read or holds something else."""
    words = host.sysctls.get(name, "").split()
    return tuple(map(int, words)) if all(map(_NUMBER.fullmatch, words)) else ()


def link(host: Host, name: str) -> Link | None:
    """The network device of that name."""
    return next((one for one in host.links if one.name == name), None)


def nics_of(host: Host, user: BlockUser) -> tuple[Link, ...]:
    """The NICs a block user's packets go through, each once."""
    names = dict.fromkeys(name for route in user.routes for name in route.nics)
    return tuple(one for name in names if (one := link(host, name)) is not None)
