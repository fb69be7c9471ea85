"""Small hosts as frozen values: a swap over NBD on a virtio guest, and what differs from it by `replace`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tidegate.host.facts import (
    BlockUser,
    Host,
    Kernel,
    Link,
    Memory,
    Peer,
    Queue,
    Route,
    RxRing,
    Socket,
    Transport,
    UserKind,
)
from tidegate.reserve import Zone
from tidegate.result import ChainLink, Condition, Evidence, Reserve, Row, ZoneLevels

SERVER = "10.0.2.2"

ZONE = Zone(
    node=0,
    name="DMA32",
    free=382,
    boost=0,
    min=423,
    low=528,
    high=633,
    promo=738,
    spanned=61440,
    present=61308,
    managed=54000,
    cma=None,
    free_cma=0,
    protection=(0, 0, 0, 0),
    pcp=31,
    highatomic=0,
)

MEMORY = Memory(
    zones=(ZONE,),
    total_kib=240_000,
    min_free_kib=1830,
    watermark_scale_factor=10,
    watermark_boost_factor=0,
    lowmem_reserve_ratio=(256, 256, 32, 0, 0),
    thp_enabled=False,
    hugepage_kib=2048,
    nodes=1,
)

NIC = Link(
    name="eth0",
    index=2,
    kind="",
    driver="virtio_net",
    up=True,
    mtu=1500,
    address="52:54:00:12:34:56",
    ring=RxRing(slots=256, slots_max=256, queues=1),
    threaded=False,
    features={"tx-scatter-gather": True, "tx-tcp-segmentation": True},
    qdisc="fq_codel",
    xdp="none",
    rps=False,
    evidence="netlink/ethtool.json: eth0",
)

ROUTE = Route(
    peer=SERVER,
    device="eth0",
    links=("eth0",),
    nics=("eth0",),
    neighbour=SERVER,
    neighbour_state="REACHABLE",
    evidence="netlink/routes.json: routes[0]",
)

SOCKET = Socket(
    family="inet",
    kind="tcp",
    state="ESTAB",
    local="10.0.2.15",
    local_port=40000,
    remote=SERVER,
    remote_port=10809,
    inode=1234,
    owners_known=True,
    rcvbuf_bytes=262_144,
    sndbuf_bytes=262_144,
    rmem_bytes=0,
    wmem_bytes=0,
    fwd_bytes=0,
    rcvbuf_locked=True,
    sndbuf_locked=True,
    evidence="netlink/inet_diag.json: sockets[0]",
)

SWAP = BlockUser(
    name="swap /dev/nbd0",
    kind=UserKind.SWAP,
    transport=Transport.NBD,
    writable=True,
    chain=(
        ChainLink(
            kind="swap",
            name="/dev/nbd0",
            evidence=(Evidence(source="proc/swaps", value="/dev/nbd0 partition"),),
        ),
        ChainLink(kind="nbd", name="nbd0"),
        ChainLink(kind="nic", name="eth0"),
    ),
    leaf="nbd0",
    peers=(Peer(address=SERVER, port=10809),),
    sockets=(SOCKET,),
    connections=1,
    routes=(ROUTE,),
    queue=Queue(
        device="nbd0",
        nr_requests=256,
        max_sectors_kib=1280,
        scheduler="mq-deadline",
        hw_queues=1,
        wbt_usec=2000,
        read_ahead_kib=128,
    ),
    server_local=False,
    swaps=True,
)

MOUNT = replace(
    SWAP,
    name="mount /srv",
    kind=UserKind.MOUNT,
    transport=Transport.NFS,
    chain=(
        ChainLink(
            kind="mount", name="/srv", evidence=(Evidence(source="proc/self/mountinfo", value="nfs4 /srv"),)
        ),
    ),
    leaf="server:/export",
    queue=None,
    swaps=False,
)

SYSCTLS = {
    "vm.min_free_kbytes": "1830",
    "vm.watermark_boost_factor": "0",
    "vm.watermark_scale_factor": "10",
    "vm.page-cluster": "0",
    "net.core.high_order_alloc_disable": "1",
    "net.core.skb_defer_max": "0",
    "net.core.busy_read": "0",
    "net.core.busy_poll": "0",
    "net.ipv4.ipfrag_high_thresh": "262144",
    "net.ipv6.ip6frag_high_thresh": "262144",
    "net.ipv4.tcp_mem": "2421\t3228\t4842",
    "net.ipv4.udp_mem": "4842\t6456\t9684",
    "net.ipv4.tcp_rmem": "4096\t131072\t1652544",
    "net.ipv4.tcp_wmem": "4096\t16384\t1652544",
}

HOST = Host(
    name="guest",
    taken="2026-11-20T10:00:00Z",
    source="tests",
    kernel=Kernel(release="6.12.117-cloud-amd64", version=(6, 12, 117), machine="x86_64"),
    page_bytes=4096,
    cpus=1,
    memory=MEMORY,
    users=(SWAP,),
    links=(NIC,),
    sockets=(SOCKET,),
    packet_sockets=(),
    daemons=(),
    mounts=(),
    sysctls=SYSCTLS,
    counters={"sockstat.TCP.mem": 10, "TcpExt.PFMemallocDrop": 0, "TcpExt.TCPMemoryPressures": 0},
    modules=frozenset({"nbd", "virtio_net"}),
    texts={"proc/cmdline": "iommu=off"},
    gaps=(),
    container=False,
    made=True,
)

LEVELS = ZoneLevels(
    node=0,
    name="DMA32",
    managed=54000,
    free=382,
    boost=0,
    min=423,
    low=528,
    high=633,
    floor=158,
    lowmem_reserve=0,
    exclusive=158,
)


def reserve(
    need: int | None = 100,
    exclusive: int | None = 158,
    *,
    kept: bool | None = False,
    rows: tuple[Row, ...] = (),
) -> Reserve:
    """A sum with its one deciding condition."""
    return Reserve(
        page_bytes=4096,
        need_pages=need,
        exclusive_pages=exclusive,
        band_pages=53,
        pin_pages=14_000,
        rows=rows or (Row(holder="nbd0 connection 1", pages=need, why="2 * SNDBUF + 2 * RCVBUF"),),
        zones=(LEVELS,),
        conditions=(
            Condition(
                id="settings_alone",
                left_pages=475,
                right_pages=14_100,
                holds=kept,
                text="high - 3/8 min exceeds pins",
            ),
        ),
    )


def with_user(user: BlockUser = SWAP, host: Host = HOST, **changes: Any) -> Host:
    """The host with one block user changed."""
    return replace(host, users=(replace(user, **changes),))


def with_nic(host: Host = HOST, **changes: Any) -> Host:
    """The host with its NIC changed."""
    return replace(host, links=(replace(NIC, **changes),))


def without_users(host: Host = HOST) -> Host:
    """The host with nothing over the network."""
    return replace(host, users=(), sockets=())
