"""For each finding one host where it applies and one where it is absent, with the severity that it has
there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.findings import hosts
from tests.findings.hosts import HOST, MOUNT, NIC, ROUTE, SOCKET, SWAP, reserve, with_nic, with_user

from tidegate.host.facts import (
    BlockUser,
    Daemon,
    Host,
    Kernel,
    Link,
    Mount,
    PacketSocket,
    RxRing,
    Thread,
    Transport,
    UserKind,
)
from tidegate.result import ChainLink, Reserve, Row, Severity

FLUSHER = 0x00580100
FITS = reserve()  # the need fits; foreign traffic still reaches the floor


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A host and its sum where the finding applies, and where it is absent."""

    applies: Host
    absent: Host
    severity: Severity
    applies_sum: Reserve = FITS
    absent_sum: Reserve = FITS


def daemon(
    role: str = ("serves"), flags: int | None = 0x400100, locked_kib: int | None = 0, **changes: object
) -> Daemon:
    """A program in the path of the swap, without IO_FLUSHER or locked memory."""
    made = Daemon(
        pid=700,
        comm="nbdkit",
        role=role,
        threads=(Thread(tid=700, comm="nbdkit", flags=flags), Thread(tid=701, comm="worker", flags=flags)),
        locked_kib=locked_kib,
        resident_kib=9000,
        oom_score_adj=0,
        cgroup="/system.slice/nbdkit.service",
        memory_max=None,
        memory_max_known=True,
        exe_device="254:1",
        exe_on_user=None,
        users=(SWAP.name,),
        evidence="proc/700/task/700/stat",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


SAFE_DAEMON = daemon(flags=FLUSHER, locked_kib=64_000)
READY_CLIENT = daemon("reconnects", flags=FLUSHER, locked_kib=64_000, comm="nbd-client")


def with_daemon(one: Daemon, host: Host = HOST) -> Host:
    """The host with one program in the path."""
    return replace(host, daemons=(one,))


def with_link(extra: Link, host: Host = HOST) -> Host:
    """The host with one more network device."""
    return replace(host, links=(*host.links, extra))


def with_sysctl(name: str, value: str, host: Host = HOST) -> Host:
    """The host with one sysctl changed."""
    return replace(host, sysctls={**host.sysctls, name: value})


def with_counter(name: str, value: int) -> Host:
    """The host with one counter changed."""
    return replace(HOST, counters={**HOST.counters, name: value})


def with_text(path: str, text: str, host: Host = HOST) -> Host:
    """The host with one small file."""
    return replace(host, texts={**host.texts, path: text})


def with_mount(fstype: str) -> Host:
    """The host with a mount of that type."""
    one = Mount(id=30, device="0:30", root="/", point="/data", fstype=fstype, source="data", options=("rw",))
    return replace(HOST, mounts=(one,))


NEWER = replace(HOST, kernel=Kernel(release="6.19.2", version=(6, 19, 2), machine="x86_64"))
E1000E = with_nic(driver="e1000e")
IGB = with_nic(driver="igb", ring=RxRing(slots=4096, slots_max=4096, queues=4))
RING_ROW = Row(
    holder="receive rings of eth0 (igb)", pages=16_384, why="4 x 4096 slots", subject="eth0", kind="need"
)
SMB_SWAP = replace(SWAP, transport=Transport.SMB, kind=UserKind.SWAPFILE)
FUSE_MOUNT = replace(MOUNT, transport=Transport.FUSE, userspace=("sshfs",))
BOND = replace(NIC, name="bond0", kind="bond", driver="bonding", bond_mode="802.3ad", lower=("eth0",))
TAP = replace(NIC, name="tap0", kind="tun", driver="tun")
BRIDGE = replace(NIC, name="br0", kind="bridge", driver="bridge", lower=("eth0", "tap0"))
PACKET = PacketSocket(
    protocol=0x0800, interface=2, rcvbuf_bytes=67_108_864, inode=99, evidence=("proc/net/packet")
)
LARGE_ZONE = replace(hosts.ZONE, managed=400_000, highatomic=512)
LARGE = replace(HOST, memory=replace(hosts.MEMORY, zones=(LARGE_ZONE,)))
KUBELET = """kind: KubeletConfiguration
evictionHard:
  memory.available: {}
evictionMinimumReclaim:
  memory.available: 1Mi
"""


def _on_wireguard(user: BlockUser) -> Host:
    tunnel = replace(NIC, name="wg0", kind="wireguard", driver="", up=True)
    host = with_user(user, routes=(replace(ROUTE, device="wg0", links=("wg0", "eth0")),))
    return with_link(tunnel, host)


CASES: dict[str, Case] = {
    "D1": Case(applies=HOST, absent=NEWER, severity=Severity.DEADLOCK),
    "D2": Case(applies=with_nic(driver="e1000"), absent=E1000E, severity=Severity.DEADLOCK),
    "D3": Case(applies=E1000E, absent=E1000E, absent_sum=reserve(kept=True), severity=Severity.DEADLOCK),
    "D4": Case(applies=LARGE, absent=HOST, severity=Severity.NOTE),
    "D5": Case(applies=IGB, applies_sum=reserve(rows=(RING_ROW,)), absent=HOST, severity=Severity.STALL),
    "D6": Case(applies=HOST, applies_sum=reserve(need=900), absent=HOST, severity=Severity.STALL),
    "D7": Case(
        applies=replace(E1000E, packet_sockets=(PACKET,)),
        absent=replace(E1000E, packet_sockets=(replace(PACKET, protocol=3),)),
        severity=Severity.STALL,
    ),
    "D8": Case(
        applies=with_user(SWAP, with_nic(driver=("igb")), transport=Transport.AOE),
        absent=E1000E,
        severity=Severity.DEADLOCK,
    ),
    "D9-serving": Case(
        applies=with_daemon(daemon()), absent=with_daemon(SAFE_DAEMON), severity=Severity.DEADLOCK
    ),
    "D9-reconnect": Case(
        applies=with_daemon(daemon("reconnects", comm="nbd-client")),
        absent=with_daemon(READY_CLIENT),
        severity=Severity.FAULT,
    ),
    "D10": Case(
        applies=HOST,
        absent=with_user(routes=(replace(ROUTE, neighbour_state="PERMANENT"),)),
        severity=Severity.FAULT,
    ),
    "D11": Case(applies=with_user(SMB_SWAP, with_nic(driver="igb")), absent=HOST, severity=Severity.DEADLOCK),
    "D12": Case(
        applies=with_daemon(daemon("reconnects", memory_max=16 << 20)),
        absent=with_daemon(daemon("reconnects")),
        severity=Severity.STALL,
    ),
    "D13": Case(
        applies=HOST,
        absent=with_user(sockets=(replace(SOCKET, fwd_bytes=524_288),)),
        severity=Severity.STALL,
    ),
    "D14": Case(
        applies=with_user(server_local=True, routes=(replace(ROUTE, local=True),)),
        absent=HOST,
        severity=Severity.DEADLOCK,
    ),
    "D15": Case(applies=HOST, applies_sum=reserve(need=6_200), absent=HOST, severity=Severity.DEADLOCK),
    "D16": Case(applies=HOST, absent=with_user(MOUNT), severity=Severity.STALL),
    "D17": Case(applies=with_nic(threaded=True), absent=HOST, severity=Severity.STALL),
    "D18": Case(
        applies=with_nic(features={"tx-scatter-gather": True, "tx-tcp-segmentation": False}),
        absent=HOST,
        severity=Severity.STALL,
    ),
    "D19": Case(
        applies=with_sysctl("net.ipv4.ipfrag_high_thresh", "4194304"), absent=HOST, severity=Severity.STALL
    ),
    "D20": Case(applies=_on_wireguard(SWAP), absent=HOST, severity=Severity.FAULT),
    "D21": Case(applies=with_mount("xfs"), absent=with_mount("ext4"), severity=Severity.STALL),
    "D22": Case(applies=with_nic(driver="usbnet"), absent=HOST, severity=Severity.DEADLOCK),
    "D23": Case(
        applies=with_text("proc/cmdline", "quiet iommu.strict=1 intel_iommu=on"),
        absent=HOST,
        severity=Severity.NOTE,
    ),
    "kubelet-eviction": Case(
        applies=with_text("var/lib/kubelet/config.yaml", KUBELET.format('"1Mi"')),
        absent=with_text("var/lib/kubelet/config.yaml", KUBELET.format('"100Mi"')),
        severity=Severity.NOTE,
    ),
    "tcp-mem-near": Case(
        applies=with_counter("sockstat.TCP.mem", 4_700), absent=HOST, severity=Severity.STALL
    ),
    "loop-over-network": Case(
        applies=with_user(
            replace(SWAP, transport=Transport.NFS),
            chain=(ChainLink(kind="swap", name="/dev/loop0"), ChainLink(kind="loop", name="loop0")),
        ),
        absent=HOST,
        severity=Severity.DEADLOCK,
    ),
    "io-flusher-inverted": Case(
        applies=with_daemon(
            daemon(
                threads=(
                    Thread(tid=700, comm="nbdkit", flags=FLUSHER),
                    Thread(tid=701, comm="worker", flags=0x400100),
                )
            )
        ),
        absent=with_daemon(SAFE_DAEMON),
        severity=Severity.DEADLOCK,
    ),
    "reserve-too-large": Case(
        applies=replace(HOST, memory=replace(hosts.MEMORY, min_free_kib=48_000)),
        absent=HOST,
        severity=Severity.LOSS,
    ),
    "shutdown-order": Case(
        applies=with_text("etc/fstab", "# a comment\n/dev/nbd0 none swap sw,nofail 0 0\n"),
        absent=with_text("etc/fstab", "/dev/nbd0 none swap sw,_netdev 0 0\n"),
        severity=Severity.FAULT,
    ),
    "pfmemalloc-drop": Case(
        applies=with_counter("TcpExt.PFMemallocDrop", 205), absent=HOST, severity=Severity.LOSS
    ),
    "exe-on-device": Case(
        applies=with_daemon(daemon(exe_on_user=SWAP.name)),
        absent=with_daemon(daemon()),
        severity=Severity.DEADLOCK,
    ),
    "watermark-boost": Case(
        applies=with_sysctl("vm.watermark_boost_factor", "15000"), absent=HOST, severity=Severity.NOTE
    ),
    "pin-accounting": Case(
        applies=with_sysctl("net.core.high_order_alloc_disable", "0"), absent=HOST, severity=Severity.NOTE
    ),
    "skb-defer": Case(
        applies=with_sysctl("net.core.skb_defer_max", "64", replace(HOST, cpus=4)),
        absent=replace(HOST, cpus=4),
        severity=Severity.NOTE,
    ),
    "rps-backlog": Case(applies=with_nic(rps=True), absent=HOST, severity=Severity.LOSS),
}
