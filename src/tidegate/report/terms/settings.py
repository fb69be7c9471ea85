"""What each setting is: where it lives, which law it serves, what it changes and what it does not."""

from __future__ import annotations

from tidegate import setting_ids as ids
from tidegate.report.terms.term import Term
from tidegate.result import Law


def _setting(
    setting: str,
    law: Law,
    title: str,
    meaning: str,
    *,
    path: str = "",
    functions: tuple[str, ...] = (),
    ends: tuple[str, ...] = (),
    carries: str = "",
    aliases: tuple[str, ...] = (),
) -> Term:
    facts = [("law", law.value), ("where", path or "/proc/sys/" + setting.replace(".", "/"))]
    if carries:
        facts.append(("written", f"{setting}:{carries}"))
    return Term(
        id=setting,
        kind="setting",
        title=title,
        meaning=meaning,
        facts=tuple(facts),
        functions=functions,
        related=ends,
        aliases=aliases,
    )


TERMS = (
    _setting(
        ids.MIN_FREE,
        Law.RESERVE,
        "the size of the reserve",
        "The only control of its size, in kB over all zones. It takes effect at once and has no upper "
        "bound check. 3/8 of each zone's share is exclusive to memalloc users; everybody else loses all "
        "of it. It is a floor, not a stock: raising it under pressure yields no page, so the pages must "
        "be free first. While THP is on the kernel raises a smaller value again.",
        functions=(
            ("mm/page_alloc.c:__setup_per_zone_wmarks"),
            ("mm/khugepaged.c:set_recommended_min_free_kbytes"),
        ),
        ends=("D15", "D1", "D2", "D3", "reserve-too-large"),
        aliases=("min_free_kbytes",),
    ),
    _setting(
        ids.WATERMARK_BOOST,
        Law.RESERVE,
        "whether watermarks rise on fragmentation",
        "0 turns it off. A boost holds back GFP_KERNEL and reclaiming tasks, not GFP_ATOMIC: foreign "
        "packets go on.",
        functions=("mm/page_alloc.c:boost_watermark",),
        ends=("watermark-boost",),
        aliases=("watermark_boost_factor",),
    ),
    _setting(
        ids.WATERMARK_SCALE,
        Law.RESERVE,
        "how far low and high lie above min, in ten-thousandths of a zone",
        "Wakes kswapd earlier and makes it work longer: more room between low and min for bursts. Adds "
        "nothing to what is exclusive.",
        functions=("mm/page_alloc.c:__setup_per_zone_wmarks",),
        ends=("D16",),
        aliases=("watermark_scale_factor",),
    ),
    _setting(
        ids.PAGE_CLUSTER,
        Law.THROTTLE,
        "how many pages one swap read fetches, as a power of two",
        "0 reads one page. Larger reads put more segments behind a lost one (D6).",
        functions=("mm/swap_state.c:swap_cluster_readahead",),
        ends=("D6",),
        aliases=("page-cluster",),
    ),
    _setting(
        ids.TCP_MEM,
        Law.DISCARD,
        "pages of all TCP sockets: low, pressure, high",
        "Shared by block connections and everybody else, in pages, not bytes. It bounds what others can "
        "pin. Too small, and others starve the block connection (D13) unless it has a share of its own.",
        functions=("net/core/sock.c:__sk_mem_raise_allocated",),
        ends=("settings_alone", "tcp-mem-near", "D1", "D2"),
        aliases=("tcp_mem",),
    ),
    _setting(
        ids.UDP_MEM,
        Law.DISCARD,
        "pages of all UDP sockets: low, pressure, high",
        "What UDP sockets that nobody reads may hold together, whatever each receive buffer is. Bounds "
        "what others can pin. The first number is the bound, not the third: UDP has no memory_pressure, "
        "so above it a packet is refused unless its socket holds less than udp_rmem_min. Each CPU charges "
        "in batches of 1 MiB, which come on top.",
        functions=("net/ipv4/udp.c:__udp_enqueue_schedule_skb", "net/core/sock.c:__sk_mem_raise_allocated"),
        ends=("settings_alone", "D1", "D2"),
        aliases=("udp_mem",),
    ),
    _setting(
        ids.TCP_RMEM,
        Law.THROTTLE,
        "receive buffer of a TCP socket: least, start, most",
        "The third number is how far autotuning may go. It stands in for a cap on the block connection "
        "where none can be set; it binds every other connection too.",
        functions=("net/ipv4/tcp_input.c:tcp_rcv_space_adjust",),
        ends=("D15", "D6"),
        aliases=("tcp_rmem",),
    ),
    _setting(
        ids.TCP_WMEM,
        Law.THROTTLE,
        "send buffer of a TCP socket: least, start, most",
        "The third number bounds what one connection may have unacknowledged; on NBD the send buffer, not "
        "the number of tags, bounds transmit memory.",
        functions=("net/ipv4/tcp_input.c:tcp_sndbuf_expand",),
        ends=("D15",),
        aliases=("tcp_wmem",),
    ),
    _setting(
        ids.RMEM_MAX,
        Law.DISCARD,
        "the largest receive buffer that a program may ask for",
        "Bounds SO_RCVBUF; SO_RCVBUFFORCE with CAP_NET_ADMIN goes past it.",
        functions=("net/core/sock.c:sk_setsockopt",),
        ends=("D3", "pin"),
        aliases=("rmem_max",),
    ),
    _setting(
        ids.WMEM_MAX,
        Law.DISCARD,
        "the largest send buffer that a program may ask for",
        "Bounds SO_SNDBUF of others.",
        functions=("net/core/sock.c:sk_setsockopt",),
        ends=("pin",),
        aliases=("wmem_max",),
    ),
    _setting(
        ids.HIGH_ORDER_ALLOC_DISABLE,
        Law.DISCARD,
        "1: packet fragments are cut from single pages",
        "With 0 they are cut from 32 KiB pages when there are any: one unread packet keeps all of it, and "
        "a 28-byte header on a flagged socket may withdraw it from the reserve. With 1 what is charged is "
        "what is pinned. Costs some throughput on fast NICs.",
        functions=("net/core/sock.c:skb_page_frag_refill",),
        ends=("pin-accounting", "D4"),
        aliases=("high_order_alloc_disable",),
    ),
    _setting(
        ids.SKB_DEFER_MAX,
        Law.DISCARD,
        "how many consumed packets may wait for the CPU that allocated them",
        "0 frees them at once. They are about 2 MB a CPU, held without bound on time.",
        functions=("net/core/skbuff.c:skb_attempt_defer_free",),
        ends=("skb-defer",),
        aliases=("skb_defer_max",),
    ),
    _setting(
        ids.NETDEV_MAX_BACKLOG,
        Law.DISCARD,
        "length of each CPU's softnet backlog, in packets",
        "Used by RPS, netif_rx, veth and tunnels. Smaller bounds what is parked there; too small drops "
        "replies as well.",
        functions=("net/core/dev.c:enqueue_to_backlog",),
        ends=("rps-backlog", "pin"),
        aliases=("netdev_max_backlog",),
    ),
    _setting(
        ids.IPFRAG_HIGH_THRESH,
        Law.DISCARD,
        "bytes that incomplete IPv4 datagrams may hold",
        "4 MiB by default, for 30 s each, taken before anybody asks whose they are.",
        functions=("net/ipv4/ip_fragment.c:ip_frag_queue",),
        ends=("D19",),
        aliases=("ipfrag_high_thresh",),
    ),
    _setting(
        ids.IP6FRAG_HIGH_THRESH,
        Law.DISCARD,
        "bytes that incomplete IPv6 datagrams may hold",
        "4 MiB by default, for 60 s each.",
        functions=("net/ipv6/reassembly.c:ip6_frag_queue",),
        ends=("D19",),
        aliases=("ip6frag_high_thresh",),
    ),
    _setting(
        ids.IPFRAG_LOW_THRESH,
        Law.DISCARD,
        "the floor of ipfrag_high_thresh: the kernel refuses a high threshold below it",
        "3 MiB by default. Bounds nothing by itself since 4.17; it is lowered first, so that the high one can be.",
        functions=("net/ipv4/ip_fragment.c:ip4_frags_ns_ctl_register",),
        ends=("D19",),
        aliases=("ipfrag_low_thresh",),
    ),
    _setting(
        ids.IP6FRAG_LOW_THRESH,
        Law.DISCARD,
        "the floor of ip6frag_high_thresh: the kernel refuses a high threshold below it",
        "3 MiB by default. Lowered first, so that the high one can be.",
        functions=("net/ipv6/reassembly.c:ip6_frags_ns_sysctl_register",),
        ends=("D19",),
        aliases=("ip6frag_low_thresh",),
    ),
    _setting(
        ids.CAP,
        Law.THROTTLE,
        "SO_SNDBUF and SO_RCVBUF on the block sockets of a user",
        "Ends autotuning and bounds what one connection may withdraw: by more than an order of magnitude "
        "for NBD. The kernel doubles what is asked for. It must be set by the program that makes the "
        "connection, before the hand-over, or on the kernel's socket from BPF; no file holds it.",
        path="socket: SO_SNDBUF, SO_RCVBUF",
        carries="USER",
        functions=("net/core/sock.c:sk_setsockopt", "net/ipv4/tcp_ipv4.c:tcp_add_backlog"),
        ends=("D15", "D6"),
    ),
    _setting(
        ids.RESERVE_MEM,
        Law.THROTTLE,
        "SO_RESERVE_MEM on the block sockets of a user",
        "Gives the socket a share of tcp_mem of its own. The socket must be made in a cgroup other than "
        "the root, with the memory controller on (any systemd service), and the option set before the "
        "hand-over. Without it a flood that fills tcp_mem closes the window of the block connection with "
        "plenty of memory free.",
        path="socket: SO_RESERVE_MEM",
        carries="USER",
        functions=("net/core/sock.c:sock_reserve_memory",),
        ends=("D13",),
    ),
    _setting(
        ids.NR_REQUESTS,
        Law.THROTTLE,
        "how many requests a block device admits",
        "Times max_sectors_kb it bounds what is under way. Write it before swapon or on an idle queue: "
        "the write waits for all IO in flight. Alone it hardly helps.",
        path="/sys/block/DEV/queue/nr_requests",
        carries="DEV",
        functions=("block/blk-mq.c:blk_mq_update_nr_requests",),
        ends=("D15",),
        aliases=("nr_requests",),
    ),
    _setting(
        ids.MAX_SECTORS,
        Law.THROTTLE,
        "the largest request of a block device, in kB",
        "A request of S bytes on NBD is copied whole into the send buffer. At most max_hw_sectors_kb.",
        path="/sys/block/DEV/queue/max_sectors_kb",
        carries="DEV",
        functions=("block/blk-settings.c:queue_limits_commit_update",),
        ends=("D15", "D18"),
        aliases=("max_sectors_kb",),
    ),
    _setting(
        ids.NEIGHBOUR,
        Law.RESERVE,
        "a permanent neighbour entry for the server or its gateway",
        "Takes the allocation of an ARP or neighbour request out of the way of the replies. Must be "
        "changed by hand when the peer's address changes.",
        path="ip neigh replace PEER lladdr MAC dev NIC nud permanent",
        carries="PEER",
        functions=("net/core/neighbour.c:neigh_probe",),
        ends=("D10",),
    ),
    _setting(
        ids.THREADED,
        Law.RESERVE,
        "0: the NIC is polled in softirq, where PF_MEMALLOC counts",
        "In a thread with bottom halves disabled PF_MEMALLOC is ignored.",
        path="/sys/class/net/NIC/threaded",
        carries="NIC",
        functions=("net/core/dev.c:napi_threaded_poll_loop",),
        ends=("D17",),
    ),
    _setting(
        ids.RING,
        Law.RESERVE,
        "slots of the receive rings of a NIC",
        "Fewer slots hold fewer pages of the reserve for nothing; too few lose bursts. Changing it takes "
        "the link down for a moment with many drivers: never while storage is in use.",
        path="ethtool -G NIC rx SLOTS",
        carries="NIC",
        functions=("net/ethtool/rings.c:ethnl_set_rings",),
        ends=("D5", "D15"),
    ),
    _setting(
        ids.IO_FLUSHER,
        Law.THROTTLE,
        "PR_SET_IO_FLUSHER and locked memory for a program in the path",
        "The program's allocations then start no IO, its throttling is bounded to one second, and its "
        "pages stay. The flag is a thread's own and inherited over fork and exec: a wrapper can set it, "
        "nobody can from outside. It gives no access to the reserve.",
        path="unit of the program: a wrapper that calls prctl, LimitMEMLOCK=infinity, OOMScoreAdjust=-1000",
        carries="COMM",
        functions=("kernel/sys.c:prctl (PR_SET_IO_FLUSHER)",),
        ends=("D9-serving", "D9-reconnect", "io-flusher-inverted", "exe-on-device"),
        aliases=("PR_SET_IO_FLUSHER", "IO_FLUSHER"),
    ),
    _setting(
        ids.EARLY_DROP,
        Law.DISCARD,
        "a gate at ingress that drops foreign packets while memory is short",
        "Closes below min and opens a little above, by the free pages at each packet. It takes what "
        "others can pin out of the sum from the point where it closes. No file holds it: it is a program "
        "at the NIC.",
        path="XDP, TCX or tc at NIC",
        carries="NIC",
        functions=("net/core/dev.c:do_xdp_generic",),
        ends=("D1", "D2", "D3", "D5", "D7", "with_drop"),
        aliases=("gate",),
    ),
)
