"""Linux 6.12, which has had a part of it since 3.6."""

from __future__ import annotations

from tidegate.design import Design, Kernel

DESIGN = Design(
    name="mainline",
    title="Linux 6.12: marks on pages and skbs, a flag on sockets, a late drop, no bookkeeping",
    proposed_by="Mel Gorman (2011-2012, merged in Linux 3.6), after Peter Zijlstra's series of 2006-2009",
    source="Linux 6.12.117: mm/page_alloc.c, net/core/skbuff.c, net/core/filter.c, include/net/sock.h, mm/vmscan.c",
    about=(
        "Pages taken below the watermarks are marked (prep_new_page) and so are the slabs and skbs made of them; "
        "sk_filter_trim_cap drops a marked skb for any socket without SOCK_MEMALLOC, in every protocol that runs it; "
        "acknowledgements of such a socket may use the reserve (sk_gfp_mask), retransmissions may not; user tasks in "
        "direct reclaim sleep below half of min (throttle_direct_reclaim). A clone keeps the mark; a copy is marked "
        "by the memory that it lies in itself. The softnet queue is not bypassed, nothing sizes or counts the reserve, "
        "and nothing holds back block submission for it. Which drivers refill from the reserve is a fact of the "
        "driver (docs/drivers.md), not a choice of the design."
    ),
    kernel=Kernel.V6_12,
    gfp_memalloc=True,
    ordinary_first=True,
    mark=True,
    copy_clears=True,  # the header's copy leaves the bit out; the copy's own allocation sets it
    sock_memalloc=True,
    discard=True,
    discard_everywhere=True,
    memalloc_acks=True,
    pfmemalloc=True,
    direct_throttle=True,
)
