"""Sockets: what they hold, what they may not take, and whose packets they lose.

Kernel files: net/core/sock.c, net/core/filter.c, net/ipv4/tcp_input.c, net/core/skbuff.c.
"""

from __future__ import annotations

from tidegate.drivers import Driver
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
from tidegate.findings.nic import KEPT, nic_evidence, over_drivers, soft_rdma, user_marks
from tidegate.findings.rule import Judgement, Rule, absent, applies, unknown
from tidegate.host.facts import (
    BlockUser,
    Daemon,
    Host,
    Link,
    Socket,
    Transport,
    nics_of,
    sysctl_int,
    sysctl_ints,
)
from tidegate.host.load import flagged
from tidegate.result import Cure, Evidence, Reserve, Severity, Shown, Topic
from tidegate.setting_ids import (
    CAP,
    HIGH_ORDER_ALLOC_DISABLE,
    HIGH_ORDER_ALLOC_DISABLE_TARGET,
    MIN_FREE,
    PAGE_CLUSTER,
    RESERVE_MEM,
    SKB_DEFER_MAX,
    SKB_DEFER_MAX_TARGET,
    TCP_MEM,
    TCP_RMEM,
    of,
)
from tidegate.units import KIB, human_bytes

# Neither goes through tcp_mem: no socket at all, or no TCP.
_NO_TCP = frozenset({Transport.AOE, Transport.RDMA})
# sk_forward_alloc stays below a page or two unless SO_RESERVE_MEM holds a share: 4890b686f408 (in v6.0).
_RESERVED_SHARE_MIN_BYTES = 64 * KIB
_TCP_MEM_NEAR = 0.95  # where published alert rules for tcp_mem stand


def socket_evidence(user: BlockUser, socket: Socket) -> Evidence:
    """A block connection with its buffers."""
    locked = {True: "locked", False: "autotuned", None: "not known whether locked"}[socket.rcvbuf_locked]
    return Evidence(
        source=socket.evidence or "netlink/inet_diag.json",
        value=f"rcvbuf {socket.rcvbuf_bytes}, sndbuf {socket.sndbuf_bytes} bytes, {locked}",
        meaning=f"connection of {user.name} to {socket.remote}:{socket.remote_port}",
    )


def _d6(host: Host, reserve: Reserve) -> Judgement:
    def of_user(user: BlockUser) -> Judgement:
        if user.transport is Transport.OTHER:
            return unknown(f"what carries {user.name} is not known", severity=Severity.STALL)
        if not flagged(user):
            return absent(f"the sockets of {user.name} are not flagged: no reserve page waits in them")
        need, exclusive = reserve.need_pages, reserve.exclusive_pages
        evidence = tuple(socket_evidence(user, one) for one in user.sockets[:2])
        if need is None or exclusive is None:
            return unknown(
                f"what may wait out of order for {user.name} cannot be summed", severity=Severity.STALL
            )
        if need <= exclusive:
            return absent(
                (f"a full out-of-order queue of {user.name} is in the sum, and the sum fits"), *evidence
            )
        return applies(
            f"segments of {user.name} behind a lost one hold reserve pages until it comes again, and the "
            f"reserve ({exclusive:,} pages) is smaller than all that may be held ({need:,})",
            *user_evidence(user),
            *evidence,
            sysctl_evidence(host, TCP_RMEM),
            severity=Severity.STALL,
            cure=Cure(settings=(of(CAP, user.name), TCP_RMEM, PAGE_CLUSTER, MIN_FREE)),
        )

    return over_users(host, of_user)


D6 = Rule(
    id="D6",
    title="a lost segment leaves the reserve in the out-of-order queue",
    place="socket",
    severity=Severity.STALL,
    argument="One retransmission that gets through ends it; what the queue holds is in the sum of D15.",
    shown=Shown.INFERRED,
    needs=frozenset({Topic.USERS, Topic.SOCKETS, Topic.MEMORY, Topic.LIMITS}),
    judge=_d6,
    cure=Cure(settings=(TCP_RMEM, PAGE_CLUSTER, MIN_FREE)),
    mechanism=(
        "On a flagged connection segments that arrive behind a lost one stay in the out-of-order queue on "
        "reserve pages until the lost one arrives again. The queue is pruned when the receive buffer or "
        "tcp_mem is short, never because pages are short. When what is held leaves no page for the ring, "
        "the retransmission is lost as well, and the sender's timer doubles."
    ),
    functions=("net/ipv4/tcp_input.c:tcp_data_queue_ofo", "net/ipv4/tcp_input.c:tcp_prune_ofo_queue"),
    reproduce="e1000e or pcnet, reads of large swap clusters (vm.page-cluster 5), 2 % loss on the wire.",
    sources=("Linux 6.12.117, read",),
)


def _d11(host: Host, reserve: Reserve) -> Judgement:
    def of_user(user: BlockUser) -> Judgement:
        if flagged(user) and not user.userspace:
            return absent(f"the sockets of {user.name} carry SOCK_MEMALLOC", *user_evidence(user))
        if user.transport is Transport.RDMA and not soft_rdma(host):
            return absent(f"{user.name} goes over RDMA hardware, not through sockets")
        if not on_the_wire(user):
            return absent(f"the packets of {user.name} pass no NIC", *user_evidence(user))
        marked = user_marks(host, user)
        evidence = (*user_evidence(user), *map(nic_evidence, nics_of(host, user)), *floor_evidence(reserve))
        if marked is False:
            return absent(f"no NIC in the path of {user.name} hands up marked buffers", *evidence)
        kept = settings_alone(reserve)
        if kept:
            return absent(KEPT, *evidence)
        if kept is None or marked is None:
            return unknown(
                (f"whether replies to {user.name} can arrive in reserve pages is not known"), *evidence
            )
        return applies(
            graded_why(
                f"replies to {user.name} ({user.transport.value}) that arrive in reserve pages are dropped "
                "at a socket without SOCK_MEMALLOC, for as long as memory is short",
                user,
            ),
            *evidence,
            severity=graded(user),
        )

    return over_users(host, of_user, by_swap=True)


D11 = Rule(
    id="D11",
    title="the transport's sockets are not flagged",
    place="socket",
    severity=Severity.DEADLOCK,
    argument="At the floor every buffer is a marked one, so every reply is dropped and nothing is freed.",
    shown=Shown.SOURCE,
    needs=frozenset({Topic.USERS, Topic.NETWORK, Topic.MEMORY, Topic.LIMITS}),
    judge=_d11,
    cure=Cure(
        settings=(MIN_FREE,),
        curable=False,
        instead=(
            "carry swap over NBD, iSCSI or NVMe/TCP, or over NFS as a swap file; no setting flags these "
            "sockets"
        ),
    ),
    mechanism=(
        "Only nbd, iscsi_tcp, nvme-tcp and (while it swaps) sunrpc set SOCK_MEMALLOC. SMB, Ceph and rbd, "
        "DRBD, NFS without swap, 9p, usbip, soft iWARP and every user-space program do not, and user "
        "space cannot. A packet whose buffer came from the reserve is dropped at such a socket, so a NIC "
        "that marks its buffers loses exactly the replies that would free memory."
    ),
    functions=(
        "net/core/filter.c:sk_filter_trim_cap",
        "fs/smb/client/connect.c:generic_ip_connect",
        "net/ceph/messenger.c:ceph_tcp_connect",
    ),
    reproduce="Swap on DRBD or over SMB on a guest with e1000e, the load of D1; PFMemallocDrop climbs.",
    sources=(
        "Linux 6.12.117, read",
        "Linux kernel commit 4e8aea30f775: swap over SMB3 is experimental",
    ),
)


def _limit(daemon: Daemon) -> str:
    if daemon.memory_max is None:
        return "none" if daemon.memory_max_known else "not read"
    return str(daemon.memory_max)


def _d12(host: Host, _reserve: Reserve) -> Judgement:
    def of_user(user: BlockUser) -> Judgement:
        if user.transport is Transport.OTHER:
            return unknown(f"what carries {user.name} is not known", severity=Severity.STALL)
        if not flagged(user):
            return absent(f"{user.name} is not carried by flagged sockets")
        makers = [one for one in host.daemons if user.name in one.users and one.role != "server"]
        limited = [one for one in makers if one.memory_max is not None]
        evidence = tuple(
            Evidence(
                source=one.evidence or f"proc/{one.pid}/cgroup",
                value=f"{one.cgroup}: memory.max {_limit(one)}",
                meaning=f"{one.comm} ({one.pid})",
            )
            for one in (limited or makers)
        )
        if limited:
            return applies(
                f"{limited[0].comm} of {user.name} lives in a cgroup with memory.max "
                f"{human_bytes(limited[0].memory_max or 0)}: unmarked replies are refused at that limit",
                *evidence,
                subjects=(user.name, limited[0].comm),
                severity=Severity.STALL,
            )
        if not makers or any(not one.memory_max_known for one in makers):
            return unknown(
                f"which cgroup the sockets of {user.name} belong to is not known: its connector has "
                "gone or its limit was not read",
                *evidence,
                severity=Severity.STALL,
            )
        return absent(f"the connector of {user.name} has no memory limit", *evidence)

    return over_users(host, of_user)


D12 = Rule(
    id="D12",
    title="the connection was made in a memory-limited cgroup",
    place="socket",
    severity=Severity.STALL,
    argument="Replies pass again when the group's own use falls; sends are forced through the limit.",
    shown=Shown.SOURCE,
    needs=frozenset({Topic.USERS, Topic.DAEMONS}),
    judge=_d12,
    cure=Cure(
        curable=False,
        instead=(
            "start the connector in a cgroup without memory.max (not in the root group: SO_RESERVE_MEM "
            "needs one)"
        ),
    ),
    mechanism=(
        "A socket is charged to the cgroup of the process that made it, and stays so when the kernel "
        "takes it over. memory.max of that unit becomes a hidden limit for block IO: charges under "
        "PF_MEMALLOC are forced through, unmarked received packets are refused and counted as TCPRcvQDrop."
    ),
    functions=("mm/memcontrol.c:mem_cgroup_sk_alloc", "net/core/sock.c:__sk_mem_raise_allocated"),
    reproduce="A systemd unit with MemoryMax=16M that runs nbd-client, then swap to the device.",
    sources=(
        "Linux 6.12.117, read",
        "Linux kernel commit 720ca52 (net-memcg: avoid stalls when under memory pressure)",
    ),
)


def _share_is_reserved(host: Host, socket: Socket) -> bool:
    return host.kernel.version >= (6, 0, 0) and (socket.fwd_bytes or 0) >= _RESERVED_SHARE_MIN_BYTES


def _d13(host: Host, _reserve: Reserve) -> Judgement:
    def of_user(user: BlockUser) -> Judgement:
        if user.transport in _NO_TCP:
            return absent(f"{user.name} does not go over TCP")
        tcp = [one for one in user.sockets if one.kind in {"tcp", "mptcp"}]
        evidence = (*(socket_evidence(user, one) for one in tcp[:2]), sysctl_evidence(host, TCP_MEM))
        if not tcp and user.sockets:
            return absent(f"{user.name} does not go over TCP", *evidence)
        if not tcp:
            return unknown(f"the connections of {user.name} were not seen", severity=Severity.STALL)
        if all(_share_is_reserved(host, one) for one in tcp):
            return absent(f"each connection of {user.name} holds a share of tcp_mem of its own", *evidence)
        return applies(
            f"{user.name} shares tcp_mem with every other TCP socket: when others fill it, replies are "
            "refused with thousands of pages free",
            *evidence,
            severity=Severity.STALL,
            cure=Cure(settings=(of(RESERVE_MEM, user.name),)),
        )

    return over_users(host, of_user)


D13 = Rule(
    id="D13",
    title="tcp_mem can be used up by others",
    place="socket",
    severity=Severity.STALL,
    argument="Run: it crawls in steps of 10 to 25 s and ends when the flooding connections close.",
    shown=Shown.RUN,
    needs=frozenset({Topic.USERS, Topic.SOCKETS, Topic.LIMITS}),
    judge=_d13,
    cure=Cure(
        instead="SO_RESERVE_MEM on the block sockets, before they are handed to the kernel",
    ),
    mechanism=(
        "tcp_mem bounds the pages of all TCP sockets together. Over its hard limit a received segment "
        "that is not marked is refused and the window closed, and a sender sleeps with the transport's "
        "lock held. No allocation fails and no watermark is touched: free memory, a larger reserve and an "
        "early drop change nothing. SO_RESERVE_MEM gives a socket a share of its own; the socket must be "
        "made in a cgroup other than the root, with the memory controller on."
    ),
    functions=(
        "net/core/sock.c:__sk_mem_raise_allocated",
        "net/core/sock.c:sock_reserve_memory",
        "net/core/stream.c:sk_stream_wait_memory",
        "net/ipv4/tcp_input.c:tcp_try_rmem_schedule",
    ),
    reproduce="tcp_mem of 16 MB on a small guest, 40 connections into a process that never reads, then swap.",
    sources=(
        "Linux 6.12.117, run: early drop or larger reserve alone stalled 8 of 8, none with SO_RESERVE_MEM",
        "bpftune case studies: tcp_mem exhaustion on iSCSI hosts",
    ),
)


def _tcp_mem_near(host: Host, _reserve: Reserve) -> Judgement:
    limits, used = sysctl_ints(host, TCP_MEM), host.counters.get("sockstat.TCP.mem")
    if len(limits) != 3 or used is None:
        return unknown("tcp_mem or the pages in use (sockstat) were not read", sysctl_evidence(host, TCP_MEM))
    evidence = (
        Evidence(source="proc/net/sockstat", value=f"TCP mem {used}", meaning="pages of all TCP sockets now"),
        sysctl_evidence(host, TCP_MEM, "low, pressure and high in pages"),
    )
    if used >= limits[2] * _TCP_MEM_NEAR:
        return applies(
            f"TCP sockets hold {used:,} of at most {limits[2]:,} pages",
            *evidence,
            severity=Severity.STALL if host.users else Severity.LOSS,
        )
    if used >= limits[1]:
        why = f"TCP sockets hold {used:,} pages, above the pressure mark of {limits[1]:,}"
        return applies(why, *evidence, severity=Severity.NOTE)
    return absent(f"TCP sockets hold {used:,} of at most {limits[2]:,} pages", *evidence)


TCP_MEM_NEAR = Rule(
    id="tcp-mem-near",
    title="tcp_mem is near its limit",
    place="socket",
    severity=Severity.STALL,
    argument="The state before D13: connections slow down or are refused until others close.",
    shown=Shown.REPORT,
    needs=frozenset({Topic.LIMITS, Topic.SOCKETS}),
    judge=_tcp_mem_near,
    cure=Cure(settings=(TCP_MEM,), instead="find the sockets that nobody reads (ss -tm) and bound them"),
    mechanism=(
        "The counter of /proc/net/sockstat against tcp_mem, both in pages of 4 KiB: applies from 95 % of "
        "the hard limit on, as a note from the pressure mark on. tcp_mem is often set as if it were "
        "bytes. Where it is reached the whole node's network fails, and health checks that look at memory "
        "see nothing."
    ),
    functions=("net/core/sock.c:__sk_mem_raise_allocated", "net/ipv4/tcp.c:tcp_enter_memory_pressure"),
    reproduce="Connections into a process that never reads, until /proc/net/sockstat nears tcp_mem[2].",
    sources=("kubernetes/kubernetes#62334", "prometheus/node_exporter#3021", "openstack/charm-ceph-osd#2"),
)


def _pfmemalloc_drop(host: Host, _reserve: Reserve) -> Judgement:
    count = host.counters.get("TcpExt.PFMemallocDrop")
    if count is None:
        return unknown("the counter TcpExt PFMemallocDrop was not read")
    evidence = Evidence(
        source=("proc/net/netstat"), value=(f"TcpExt PFMemallocDrop {count}"), meaning=("since boot")
    )
    if count == 0:
        return absent("no packet was dropped for its buffer's sake since boot", evidence)
    return applies(
        f"{count:,} packets of ordinary sockets were dropped since boot because their buffer came from the "
        "reserve",
        evidence,
    )


PFMEMALLOC_DROP = Rule(
    id="pfmemalloc-drop",
    title="ordinary sockets lost packets to the reserve's mark",
    place="socket",
    severity=Severity.LOSS,
    argument="Packets of bystanders are lost, for minutes where it goes on; nothing stands still by itself.",
    shown=Shown.REPORT,
    needs=frozenset({Topic.LIMITS}),
    judge=_pfmemalloc_drop,
    cure=Cure(
        curable=False,
        instead=(
            "the counter keeps what has been; a larger min_free_kbytes or smaller rings keep it from climbing"
        ),
    ),
    mechanism=(
        "A marked packet for a socket without SOCK_MEMALLOC is dropped in sk_filter_trim_cap, after the "
        "whole way through the stack. The mark says where this buffer came from, not that memory is short "
        "now: in a ring a marked page meets some packet up to a full ring later. The counter is "
        "younger than the drop, and in few dashboards."
    ),
    functions=("net/core/filter.c:sk_filter_trim_cap", "include/net/sock.h:sk_add_backlog"),
    reproduce="Any always-driver (igb, ixgbe, ice) with a large ring under an allocation storm.",
    sources=(
        ("Red Hat knowledge base 4085851"),
        ("Linux kernel commit a6f190630d07 adds the drop reason PFMEMALLOC"),
    ),
)


def _pin_accounting(host: Host, _reserve: Reserve) -> Judgement:
    def of_nic(user: BlockUser, nic: Link, row: Driver) -> Judgement:
        if row.pinned_bytes_order0 is None:
            return absent(
                (f"buffers of {row.name} do not depend on {HIGH_ORDER_ALLOC_DISABLE}"), nic_evidence(nic)
            )
        value = sysctl_int(host, HIGH_ORDER_ALLOC_DISABLE)
        evidence = (nic_evidence(nic), sysctl_evidence(host, HIGH_ORDER_ALLOC_DISABLE))
        if value is None:
            return unknown(f"{HIGH_ORDER_ALLOC_DISABLE} was not read", *evidence, severity=Severity.NOTE)
        if value == HIGH_ORDER_ALLOC_DISABLE_TARGET:
            return absent("fragments are single pages: what is charged is what is pinned", *evidence)
        return applies(
            f"one unread packet of {nic.name} ({row.name}) keeps {human_bytes(row.pinned_bytes)} shared by "
            f"up to {row.sharers} packets: udp_mem and tcp_mem may pin {row.sharers} times what they say",
            *evidence,
            subjects=(user.name, nic.name),
            severity=Severity.NOTE,
        )

    return over_drivers(host, of_nic)


PIN_ACCOUNTING = Rule(
    id="pin-accounting",
    title="small packets pin more memory than they are charged for",
    place="socket",
    severity=Severity.NOTE,
    argument="Makes other limits untrue; what follows from that is in settings_alone and in D1 and D2.",
    shown=Shown.RUN,
    needs=frozenset({Topic.USERS, Topic.NETWORK, Topic.LIMITS}),
    judge=_pin_accounting,
    cure=Cure(settings=(HIGH_ORDER_ALLOC_DISABLE,)),
    mechanism=(
        "virtio_net cuts its buffers from pages of 32 KiB. A packet that nobody reads is charged with its "
        "own slice and keeps the whole page, whose other slices were acknowledgements long gone: up to 21 "
        "times what the socket accounts for. With net.core.high_order_alloc_disable=1 the pages are "
        "single ones and the limits mean what they say."
    ),
    functions=("net/core/sock.c:skb_page_frag_refill", "drivers/net/virtio_net.c:add_recvbuf_mergeable"),
    reproduce=(
        "virtio-net, UDP to a socket that is never read beside a TCP stream; compare MemFree with sockstat."
    ),
    sources=("Linux 6.12.117, run: the switch alone survived 3 of 3 where nothing set wedged 3 of 3",),
)


def _skb_defer(host: Host, _reserve: Reserve) -> Judgement:
    def of_user(user: BlockUser) -> Judgement:
        value = sysctl_int(host, SKB_DEFER_MAX)
        evidence = sysctl_evidence(host, SKB_DEFER_MAX)
        if host.cpus == 1:
            return absent("one CPU: consumed packets are freed where they are", evidence)
        if value is None:
            if (0, 0, 0) < host.kernel.version < (5, 19, 0):
                return absent(f"{host.kernel.release} defers no skbs to other CPUs")
            return unknown(f"{SKB_DEFER_MAX} was not read", evidence, severity=Severity.NOTE)
        if value <= SKB_DEFER_MAX_TARGET:
            return absent("consumed packets are freed at once", evidence)
        return applies(
            f"up to {value // 2} consumed packets a CPU wait, without bound on time, for the CPU that "
            f"allocated them; pages of the reserve that {user.name} used are among them",
            evidence,
            severity=Severity.NOTE,
        )

    return over_users(host, of_user)


SKB_DEFER = Rule(
    id="skb-defer",
    title="consumed packets wait for another CPU",
    place="socket",
    severity=Severity.NOTE,
    argument="Bounded in amount and a row of the sum, so D15 decides; what is worth knowing is the switch.",
    shown=Shown.SOURCE,
    needs=frozenset({Topic.USERS, Topic.LIMITS}),
    judge=_skb_defer,
    cure=Cure(settings=(SKB_DEFER_MAX,)),
    mechanism=(
        "Since 5.19 a consumed TCP skb goes back to the CPU that allocated it. That CPU is kicked at half "
        "of skb_defer_max; fewer wait for its next receive softirq, however long that is. Each may hold "
        "64 KiB and more: about 2 MB a CPU."
    ),
    functions=("net/core/skbuff.c:skb_attempt_defer_free", "net/core/dev.c:skb_defer_free_flush"),
    reproduce="Two CPUs, the NIC's interrupts on one, the reader on the other; stop traffic and count pages.",
    sources=("Linux 6.12.117, read",),
)

RULES = (D6, D11, D12, D13, TCP_MEM_NEAR, PFMEMALLOC_DROP, PIN_ACCOUNTING, SKB_DEFER)
