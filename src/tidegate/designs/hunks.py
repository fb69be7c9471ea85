"""What each switch of a design stands for: the hunk of the mail, the code here, and what mainline has.

Pure data. docs/designs.md is made from it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One switch (or valued field) of `Design`, side by side."""

    switch: str
    hunks: tuple[str, ...] = ()  # of the mail's diff: file and first line, "mm/page_alloc.c:802"
    does: str  # what it does when it is on
    here: tuple[str, ...]  # "module:function" that carries it
    mainline: str  # the symbols of Linux 6.12 that are nearest, as Markdown; empty: there is none
    became: str  # what became of it


ROWS = (
    Row(
        switch="gfp_memalloc",
        hunks=("include/linux/gfp.h:39", "mm/page_alloc.c:802"),
        does="an allocation with `__GFP_MEMALLOC` ignores the watermarks, in interrupts too",
        here=("tidegate.sim.page_alloc:alloc_pages",),
        mainline="`__gfp_pfmemalloc_flags` (ALLOC_NO_WATERMARKS)",
        became="in since 3.6 under the same name; `__GFP_NOMEMALLOC` still wins over it",
    ),
    Row(
        switch="ordinary_first",
        hunks=("include/linux/skbuff.h:969", "include/linux/skbuff.h:982"),
        does="a receive buffer is asked for without the flag, and only then with it",
        here=("tidegate.sim.skbuff:dev_alloc_skb",),
        mainline="`kmalloc_reserve`",
        became="in: first with `__GFP_NOMEMALLOC`, then from the reserve",
    ),
    Row(
        switch="driver_chooses",
        hunks=("include/linux/skbuff.h:1011",),
        does="only a driver that calls dev_memalloc_skb gets the flag",
        here=("tidegate.sim.skbuff:dev_memalloc_skb",),
        mainline="`__dev_alloc_pages`, `sk_memalloc_socks`",
        became="the reverse: dev_alloc_pages has the flag always, skb allocations while a memalloc socket exists, "
        "page fragments and page_pool never",
    ),
    Row(
        switch="mark",
        hunks=("include/linux/skbuff.h:1011",),
        does="an skb tells that its memory came from the reserve (is_memalloc_skb)",
        here=("tidegate.sim.skbuff:is_memalloc_skb",),
        mainline="`skb_pfmemalloc`, `set_page_pfmemalloc`",
        became="in, as a bit of its own in the skb, and a mark on the page and the slab below it",
    ),
    Row(
        switch="clone_clears",
        hunks=("net/core/skbuff.c:355",),
        does="a clone is not marked",
        here=("tidegate.sim.skbuff:skb_clone",),
        mainline="`__skb_clone`",
        became="the reverse: a clone keeps the mark, as it shares the data",
    ),
    Row(
        switch="copy_clears",
        hunks=("net/core/skbuff.c:411",),
        does="a copy does not inherit the mark",
        here=("tidegate.sim.skbuff:skb_copy",),
        mainline="`__copy_skb_header`, `skb_copy`",
        became="in: the header's copy leaves the bit out; the copy is marked if its own memory came from the reserve",
    ),
    Row(
        switch="bypass",
        hunks=("net/core/dev.c:1452",),
        does="netif_rx hands a marked packet on at once instead of queueing it",
        here=("tidegate.sim.dev:netif_rx", "tidegate.sim.dev:netif_receive_skb"),
        mainline="`enqueue_to_backlog`",
        became="not in: what comes by RPS, netif_rx, veth or a tunnel waits in the backlog that all traffic shares",
    ),
    Row(
        switch="sock_memalloc",
        hunks=("include/net/sock.h:382", "include/net/sock.h:399"),
        does="a socket of block IO carries SOCK_MEMALLOC (is_memalloc_sock)",
        here=("tidegate.sim.sock:sk_set_memalloc",),
        mainline="`sk_set_memalloc`",
        became="in: set by nbd, iSCSI, NVMe/TCP, NFS while swapped on, WireGuard; not by rbd, DRBD, SMB",
    ),
    Row(
        switch="discard",
        hunks=("net/ipv4/tcp_ipv4.c:1766",),
        does="a marked packet is dropped in tcp_v4_rcv unless its socket is flagged",
        here=("tidegate.sim.tcp:tcp_v4_rcv",),
        mainline="`sk_filter_trim_cap`",
        became="in, where the socket's filter runs; counted as PFMemallocDrop",
    ),
    Row(
        switch="discard_everywhere",
        does='the same in every other protocol: "dropping non-blockio traffic as necessary"',
        here=("tidegate.sim.ipv4:ip_rcv",),
        mainline="`sk_filter_trim_cap`, `skb_pfmemalloc_protocol`",
        became="in for TCP, UDP, raw and most other sockets; not for packet sockets bound to one protocol, forwarding, "
        "bridges, fragments and NFQUEUE",
    ),
    Row(
        switch="memalloc_acks",
        does='acknowledgements that we send may use the reserve: "space for transmit and acknowledge"',
        here=("tidegate.sim.tcp:tcp_send_ack",),
        mainline="`sk_gfp_mask` in `__tcp_send_ack`",
        became="in for ACKs, probes, FIN and RST of a flagged socket; not for retransmissions",
    ),
    Row(
        switch="throttle",
        does='a request is admitted when its worst withdrawal is accounted for: throttling "_must_ take place higher '
        'up, in the block IO stack"',
        here=("tidegate.sim.throttle:Ledger.admit",),
        mainline="",
        became="not in: tags, writeback throttling and direct reclaim's throttle bound requests, none of them by the "
        "reserve",
    ),
    Row(
        switch="resize",
        does='the reserve follows its users: "a way of resizing the memalloc reserve"',
        here=("tidegate.sim.page_alloc:adjust_memalloc_reserve",),
        mainline="`min_free_kbytes` (a sysctl)",
        became="not in: adjust_memalloc_reserve was posted in 2005 and again in 2006-2009, never merged",
    ),
    Row(
        switch="count_pages",
        does='pages withdrawn and returned are counted in place of marks: "page accounting is the way to go"',
        here=("tidegate.sim.skbuff:is_memalloc_skb", "tidegate.sim.skbuff:kfree_skb"),
        mainline="",
        became="not in: a mark on each page, no count of pages that are out",
    ),
    Row(
        switch="refill",
        does='how a driver with a ring of buffers refills it from the reserve: "even e1000 (by method 1. in the thread '
        'above)"',
        here=("tidegate.sim.nic:refill_ring",),
        mainline="(each driver's own)",
        became="about half of the drivers in common use cannot refill from the reserve (docs/drivers.md)",
    ),
    Row(
        switch="pool",
        does="where the reserve is kept: below a watermark, in a mempool, or in two pools for each socket",
        here=("tidegate.sim.skbuff:dev_alloc_skb", "tidegate.sim.pools:ReservePool"),
        mainline="`mempool_alloc`",
        became="mempools serve bios, RPC and DRBD, none serves skbs, and they refuse the reserve (`__GFP_NOMEMALLOC`)",
    ),
    Row(
        switch="coin_percent",
        does="while the reserve is used, this share of all packets is dropped, whosever they are",
        here=("tidegate.sim.dev:netif_receive_skb",),
        mainline="",
        became="not in",
    ),
    Row(
        switch="softnet_throttle",
        does='the softnet queue takes no more than its share of the reserve ("which can\'t be done sanely")',
        here=("tidegate.sim.dev:netif_rx",),
        mainline="`netdev_max_backlog`",
        became="not in: the queue's bound is a number of packets, shared by all traffic",
    ),
    Row(
        switch="drop_out_of_order",
        does="a marked segment that is not the next one is dropped instead of queued",
        here=("tidegate.sim.tcp:tcp_data_queue",),
        mainline="`tcp_data_queue_ofo`",
        became="not in: marked segments wait in the out-of-order queue until the hole is filled",
    ),
    Row(
        switch="pfmemalloc",
        does="pages and slabs carry the mark; retransmissions do not use the reserve",
        here=("tidegate.sim.slab:cache_alloc", "tidegate.sim.skbuff:skb_clone"),
        mainline="`set_page_pfmemalloc` in `prep_new_page`, `gfp_pfmemalloc_allowed`",
        became="in since 3.6; the mail has nothing like it",
    ),
    Row(
        switch="direct_throttle",
        does="user tasks in direct reclaim sleep below half of min",
        here=("tidegate.sim.vmscan:Reclaim",),
        mainline="`throttle_direct_reclaim`",
        became="in since 3.6; the mail has nothing like it; kernel threads are exempt",
    ),
    Row(
        switch="caps",
        does="SO_SNDBUF and SO_RCVBUF bound what a block connection may hold",
        here=("tidegate.sim.block:BlockUser",),
        mainline="`sk_sndbuf`, `sk_rcvbuf`",
        became="in, but by default they grow to tcp_wmem and tcp_rmem; set from outside",
    ),
    Row(
        switch="early_drop",
        does="a program at ingress drops other traffic while free pages are below min",
        here=("tidegate.sim.dev:netif_receive_skb",),
        mainline="XDP, TCX",
        became="the hooks are in; the program is ours",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slip:
    """Where the hunks as posted do not do what they mean."""

    posted: str  # what stands there
    so: str  # what would come of it
    instead: str  # what is built here


SLIPS = (
    Slip(
        posted="`dev_alloc_skb_reserve` uses a variable `gfp_mask` that it does not have; the text calls the function "
        "`dev_memalloc_skb`",
        so="it does not compile",
        instead="`dev_memalloc_skb`, which asks with GFP_ATOMIC and the flag",
    ),
    Slip(
        posted="nothing sets the mark: `skb->priority` never receives `__GFP_MEMALLOC`",
        so="`is_memalloc_skb` is never true: no bypass, no discard",
        instead="an skb that only the second try, with the flag, could allocate is marked there",
    ),
    Slip(
        posted="the mark is a bit of `skb->priority`",
        so="the field is a traffic class, which VLAN and forwarding code overwrite",
        instead="a field of its own",
    ),
    Slip(
        posted="0x20000 is missing from `GFP_LEVEL_MASK`",
        so="growing a slab with the flag ends in a BUG()",
        instead="the flag passes through the slab layer",
    ),
    Slip(
        posted="no hunk sets `SOCK_MEMALLOC`, and no driver calls the new function",
        so="nobody has the permission, nobody uses the reserve",
        instead="a block user flags its sockets when it connects; a case says whether its driver was converted",
    ),
    Slip(
        posted="the discard stands before the test for `TCP_TIME_WAIT`",
        so="flags are read from a time-wait bucket, which is no socket, and `sock_put` is called on it",
        instead="the discard applies to sockets only",
    ),
    Slip(
        posted="only `tcp_v4_rcv` tests the mark",
        so="a marked packet for UDP, ICMP, IPv6, a raw socket, forwarding or reassembly is kept like any other",
        instead="as posted in `patch` and `patch_first`; `discard_everywhere` in `mail` and what is built on it",
    ),
    Slip(
        posted="`netif_rx` returns `NET_RX_CN_HIGH`, whatever `netif_receive_skb` said",
        so="a driver that asks takes every marked packet for congestion",
        instead="no driver here asks",
    ),
    Slip(
        posted="the bypass is in `netif_rx`",
        so="it runs all of TCP's receive path in hard interrupt context, which the author later took back; and it is "
        "moot for NAPI drivers, which never use the queue",
        instead="as posted for drivers that call `netif_rx`; a case says how its driver delivers",
    ),
    Slip(
        posted="there is no throttle, though the text says that it must be there",
        so="admitted requests can need more than the reserve holds",
        instead="as posted in `patch` and `patch_first`; `throttle` in `mail` and what is built on it",
    ),
)
