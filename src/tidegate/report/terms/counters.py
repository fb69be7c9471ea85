"""The kernel's counters that tell of a shortage, and what each does and does not say."""

from __future__ import annotations

from tidegate.report.terms.term import Term


def _counter(
    name: str,
    place: str,
    title: str,
    meaning: str,
    *,
    functions: tuple[str, ...] = (),
    related: tuple[str, ...] = (),
    aliases: tuple[str, ...] = (),
) -> Term:
    return Term(
        id=name,
        kind="counter",
        title=title,
        meaning=meaning,
        facts=(("where", place),),
        functions=functions,
        related=related,
        aliases=aliases,
    )


_NETSTAT = "/proc/net/netstat, TcpExt, of one network namespace"
_VMSTAT = "/proc/vmstat"

TERMS = (
    _counter(
        "PFMemallocDrop",
        _NETSTAT,
        "packets of ordinary sockets that were dropped for their buffer's sake",
        "Their buffer came from the reserve and their socket is not flagged. A healthy host that climbs "
        "here loses the network of bystanders. Drops on the protocol list (D8) and of a bridge's packets "
        "are not in it.",
        functions=("net/core/filter.c:sk_filter_trim_cap",),
        related=("pfmemalloc-drop", "D5", "D11"),
        aliases=("TcpExtPFMemallocDrop", "TcpExt.PFMemallocDrop"),
    ),
    _counter(
        "pgscan_direct_throttle",
        _VMSTAT,
        "how often a task in direct reclaim was put to sleep",
        "It slept because free pages of its node were at or below half of min (boost included). The only "
        "back-pressure that mainline has; kernel threads are exempt. There is no tracepoint for it.",
        functions=("mm/vmscan.c:throttle_direct_reclaim",),
        related=("band", "D16"),
    ),
    _counter(
        "oom_kill",
        _VMSTAT,
        "OOM kills since boot",
        "It stays 0 in the deadlock: reclaim sleeps in submission and is never done, so the OOM killer is "
        "not reached.",
        functions=("mm/oom_kill.c:oom_kill_process",),
        related=("deadlock", "reserve-too-large"),
    ),
    _counter(
        "allocstall",
        _VMSTAT + " (allocstall_dma32, allocstall_normal, ...)",
        "how often an allocation had to reclaim by itself",
        "Climbs when kswapd does not keep up; each of these tasks may submit swap writes.",
        functions=("mm/vmscan.c:try_to_free_pages",),
        related=("pgscan_direct_throttle", "vm.watermark_scale_factor"),
    ),
    _counter(
        "nr_vmscan_write",
        _VMSTAT,
        "pages that reclaim itself has written",
        "Together with pswpout it shows whether swap-out moves; a value that stands still under pressure "
        "is the sign.",
        related=("pswpout",),
    ),
    _counter(
        "pswpout",
        _VMSTAT,
        "pages written to swap",
        "A progress counter: standing still for longer than the largest retransmission timeout, with "
        "tasks waiting, is a wedge. pswpin is its twin for reads.",
        related=("nr_vmscan_write", "D16"),
        aliases=("pswpin",),
    ),
    _counter(
        "TCPMemoryPressures",
        _NETSTAT,
        "how often TCP as a whole came under its memory pressure mark",
        "tcp_mem[1] was passed. Over tcp_mem[2] segments are refused, block IO's included.",
        functions=("net/ipv4/tcp.c:tcp_enter_memory_pressure",),
        related=("D13", "tcp-mem-near", "net.ipv4.tcp_mem"),
    ),
    _counter(
        "TCPRcvQDrop",
        _NETSTAT,
        "segments refused because their socket or all of TCP had no memory left",
        "On a block connection each of them is a reply that must come again. Climbs with thousands of "
        "pages free when others fill tcp_mem, or at memory.max of the cgroup that made the socket.",
        functions=("net/ipv4/tcp_input.c:tcp_data_queue",),
        related=("D12", "D13"),
    ),
    _counter(
        "TCPBacklogDrop",
        _NETSTAT,
        "segments that did not fit the backlog of a locked socket",
        "The second line of the drop counts here too: a marked packet for an ordinary socket that is locked.",
        functions=("include/net/sock.h:sk_add_backlog", "net/ipv4/tcp_ipv4.c:tcp_add_backlog"),
        related=("PFMemallocDrop", "D15"),
    ),
    _counter(
        "TCPZeroWindowDrop",
        _NETSTAT,
        "segments that came against a closed window",
        "A closed window on a block connection means steps of 10 to 25 s, the sender's persist timer.",
        related=("D13",),
    ),
    _counter(
        "OfoPruned",
        _NETSTAT,
        "segments thrown away out of order, for the receive buffer's or tcp_mem's sake",
        "Never for want of pages: that is why the out-of-order queue may hold the reserve (D6).",
        functions=("net/ipv4/tcp_input.c:tcp_prune_ofo_queue",),
        related=("D6",),
        aliases=("PruneCalled", "RcvPruned", "TCPOFODrop"),
    ),
    _counter(
        "sockstat.TCP.mem",
        "/proc/net/sockstat, the line TCP:, mem",
        "pages that all TCP sockets hold",
        "In pages, like tcp_mem. Counts what was charged, not what is pinned: on virtio_net up to 21 "
        "times as much.",
        related=("tcp-mem-near", "pin-accounting", "net.ipv4.tcp_mem"),
        aliases=("sockstat", "tcp mem"),
    ),
    _counter(
        "rx_missed_errors",
        "/sys/class/net/NIC/statistics/rx_missed_errors",
        "packets for which the ring had no buffer",
        "Climbing while rx_packets stands still is an empty ring (D2). virtio_net has no such counter.",
        related=("D2", "alloc_rx_buff_failed"),
        aliases=("rx_missed", "rx_no_buffer_count"),
    ),
    _counter(
        "alloc_rx_buff_failed",
        "driver statistics (ethtool -S): alloc_rx_buff_failed, rx_oom_discards, buff_alloc_err",
        "refills of the ring that got no memory",
        "The name differs by driver; e1000, e1000e, igb, bnxt and mlx5 have one, virtio_net has none.",
        related=("D2", "rx_missed_errors"),
        aliases=("rx_oom_discards", "buff_alloc_err"),
    ),
    _counter(
        "softnet_dropped",
        "/proc/net/softnet_stat, second column, one line a CPU",
        "packets that did not fit the per-CPU backlog",
        "Used by RPS, netif_rx, veth and tunnels; shared by everybody, block IO included.",
        functions=("net/core/dev.c:enqueue_to_backlog",),
        related=("rps-backlog", "net.core.netdev_max_backlog"),
        aliases=("softnet_stat",),
    ),
)
