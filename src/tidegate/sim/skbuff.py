"""Packets and their buffers (net/core/skbuff.c, include/linux/skbuff.h).

An skb is a head and data, each an object of a slab; clones share the data and count its users. Its mark says that it
came from the reserve, as `is_memalloc_skb()` of the mail (2.6.12: in skb->priority) and `skb->pfmemalloc` (6.12) do.
`reserve` is the simulator's own knowledge of the same, which nothing clears.

Not modelled: fragments in pages, header copies, GSO.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.design import Pool
from tidegate.sim.gfp import MEMALLOC
from tidegate.sim.slab import Cache, Slab, cache_alloc, cache_free

if TYPE_CHECKING:
    from tidegate.sim.machine import Machine
    from tidegate.sim.pools import ReservePool
    from tidegate.sim.sock import Sock
    from tidegate.sim.tcp import Connection

HEAD_BYTES = 192  # struct sk_buff of 2.6.12, in skbuff_head_cache: 21 to a page


class Frame:
    """What is on the wire."""

    __slots__ = ("ack", "block", "conn", "generation", "kind", "length", "protocol", "seq", "sock")

    def __init__(self, protocol: str, length: int, sock: Sock | None, conn: Connection | None = None) -> None:
        self.protocol = protocol
        self.length = length
        self.sock = sock
        self.conn = conn
        self.block = conn is not None
        self.kind = ""
        self.seq = self.ack = 0
        self.generation = 0  # of the connection; one that was reset counts from 0 again


class Skb:
    """A packet in memory, or a buffer that waits for one."""

    __slots__ = (
        "data",
        "frame",
        "head",
        "holder",
        "mark",
        "moved_ns",
        "pool",
        "reserve",
        "shared",
        "truesize",
    )

    def __init__(self, head: Slab | None, data: Slab | None, truesize: int) -> None:
        self.head = head
        self.data = data
        self.truesize = truesize  # bytes charged for it: head and data as they lie in memory
        self.frame: Frame | None = None
        self.mark = False
        self.reserve = False
        self.shared: list[int] | None = None  # users of the data, where there is more than one
        self.pool: ReservePool | None = None  # the pool that the data came from, where it is not the zone
        self.moved_ns = 0  # since when `holder` has it; kept for packets of the reserve only
        self.holder = "driver"


def alloc_skb(m: Machine, cache: Cache, gfp: int, *, pf_memalloc: bool = False) -> Skb | None:
    """A head and data, or None: both or neither."""
    zone = m.zone
    head: Slab | None = None
    if m.heads is not None:
        head = cache_alloc(zone, m.heads, gfp, pf_memalloc=pf_memalloc)
        if head is None:
            return None
    data = cache_alloc(zone, cache, gfp, pf_memalloc=pf_memalloc)
    if data is None:
        if head is not None:
            cache_free(zone, head)
        return None
    skb = Skb(head, data, cache.object_bytes + (HEAD_BYTES if head is not None else 0))
    if data.token & 1 or (head is not None and head.token & 1):
        skb.reserve = True
        skb.moved_ns = m.clock.now
    return skb


def dev_alloc_skb(m: Machine, cache: Cache, gfp: int) -> Skb | None:
    """__dev_alloc_skb(): the ordinary way first, and only when that fails, the reserve.

    Which reserve is the design's: pages below the watermark (the mail), elements of a mempool, or of the sockets'
    acknowledge pools.
    """
    if not gfp & MEMALLOC:
        return alloc_skb(m, cache, gfp)
    if m.design.ordinary_first:
        skb = alloc_skb(m, cache, gfp & ~MEMALLOC)
        if skb is not None:
            return skb
    skb = alloc_skb(m, cache, gfp) if m.design.pool is Pool.GLOBAL else _from_pool(m, cache)
    if skb is None:
        return None
    if m.design.mark:
        skb.mark = True  # the hunk meant to, and forgot: nothing sets __GFP_MEMALLOC in skb->priority
    _withdraw(m, skb)
    return skb


def dev_memalloc_skb(m: Machine, cache: Cache, gfp: int) -> Skb | None:
    """The driver's explicit choice: "drivers will explicitly have to choose to use it"."""
    return dev_alloc_skb(m, cache, gfp | MEMALLOC)


def is_memalloc_skb(m: Machine, skb: Skb) -> bool:
    """Whether this packet is to be judged as one of the reserve.

    With marks, each says so itself. With page accounting it does not matter which buffer goes back "as long as we
    are sure to return the same amount of memory as we withdrew": while pages are out, every packet is judged.
    """
    if m.design.count_pages:
        return m.pages_out > 0
    return skb.mark


def skb_clone(m: Machine, skb: Skb, gfp: int) -> Skb | None:
    """A second head for the same data. The hunk clears the mark in it; 6.12 keeps it."""
    zone = m.zone
    head: Slab | None = None
    if m.heads is not None:
        if skb.mark and m.design.pfmemalloc:
            gfp |= MEMALLOC
        head = cache_alloc(zone, m.heads, gfp, pf_memalloc=False)
        if head is None:
            return None
    clone = Skb(head, skb.data, skb.truesize)
    clone.frame = skb.frame
    clone.pool = skb.pool
    if skb.shared is None:
        skb.shared = [1]
    skb.shared[0] += 1
    clone.shared = skb.shared
    clone.mark = skb.mark and not m.design.clone_clears
    clone.reserve = skb.reserve
    clone.moved_ns = m.clock.now
    return clone


def skb_copy(m: Machine, skb: Skb, cache: Cache, gfp: int) -> Skb | None:
    """The data once more, in memory of its own. The hunk clears the mark: the copy is no part of the reserve."""
    copy = dev_alloc_skb(m, cache, gfp)
    if copy is not None:
        copy.frame = skb.frame
        copy.mark = copy.mark or (skb.mark and not m.design.copy_clears)
    return copy


def kfree_skb(m: Machine, skb: Skb) -> None:
    """Gives head and data back; shared data only with its last user."""
    returned = 0
    zone = m.zone
    if skb.head is not None:
        returned = cache_free(zone, skb.head)
    shared = skb.shared
    if shared is not None:
        shared[0] -= 1
    if shared is None or shared[0] == 0:
        if skb.pool is not None:
            skb.pool.put()
        elif skb.data is not None:
            returned += cache_free(zone, skb.data)
    if m.pages_out and returned:
        m.pages_out = max(0, m.pages_out - returned)
    if skb.reserve:
        m.holding.ended(skb)


def _withdraw(m: Machine, skb: Skb) -> None:
    """Page accounting: "account the number of pages alloc_skb withdraws"."""
    if skb.pool is None:
        if skb.data is not None and skb.data.token & 1 and skb.data.inuse == 1:
            m.pages_out += 1 << skb.data.cache.order
        if skb.head is not None and skb.head.token & 1 and skb.head.inuse == 1:
            m.pages_out += 1
    if not m.reserve_entered:
        m.first(
            "reserve_entered",
            f"the first receive buffer is taken from the reserve: {m.zone.free} pages are free",
            free_pages=m.zone.free,
        )
        m.reserve_entered = True


def _from_pool(m: Machine, cache: Cache) -> Skb | None:
    for pool in m.receive_pools:
        if pool.take():
            skb = Skb(None, None, cache.object_bytes)
            skb.pool = pool
            skb.reserve = True
            skb.moved_ns = m.clock.now
            return skb
    return None
