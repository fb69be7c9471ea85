"""The client: one processor, one zone, one NIC, its sockets and its block users.

Only state and what is counted; the functions that move it are in the files named after the kernel's.
"""

from __future__ import annotations

from collections import Counter, deque
from random import Random
from typing import TYPE_CHECKING

from tidegate.case import Buddy as BuddyKind
from tidegate.case import Case, HookKind
from tidegate.design import Design, Kernel, Pool
from tidegate.sim.buddy import Buddy
from tidegate.sim.clock import Clock
from tidegate.sim.gfp import computed_min_pages, min_for_reserve_pages
from tidegate.sim.holding import Held
from tidegate.sim.ipv4 import IPFRAG_HIGH_BYTES, IPFRAG_HIGH_BYTES_NOW
from tidegate.sim.page_alloc import Zone, setup_per_zone_wmarks
from tidegate.sim.pools import ReservePool
from tidegate.sim.skbuff import HEAD_BYTES, Skb, kfree_skb
from tidegate.sim.slab import PAGE_BYTES, Cache, cache_of
from tidegate.sim.sock import Sock
from tidegate.sim.steps import STEPS
from tidegate.simulation import Milestone

if TYPE_CHECKING:
    from tidegate.sim.block import BlockUser
    from tidegate.sim.nic import Nic
    from tidegate.sim.throttle import Ledger
    from tidegate.sim.vmscan import Reclaim

SHARED_INFO_BYTES = 160  # struct skb_shared_info of 2.6.12, at the end of every buffer
SMALL_BYTES = 512  # what copybreak copies a small frame into


class Hooked:
    """A tap, filter or bridge with the queue of its reader."""

    __slots__ = ("kind", "read_ns", "sock")

    def __init__(self, kind: HookKind, sock: Sock, read_ns: int) -> None:
        self.kind = kind
        self.sock = sock
        self.read_ns = read_ns


class Machine:
    """All state of one run."""

    __slots__ = (
        "backlog", "block_drops", "calm", "case", "clock", "design", "drops", "eaten", "foreign", "foreign_socks",
        "fragment_bytes", "fragment_timer", "fragments", "gate_open_at", "gated", "heads", "holding", "hooks",
        "ipfrag_high_bytes", "ledger", "milestones", "nic", "packet_ns", "pages_out", "pinned", "pool_tokens", "pools",
        "programs_pages", "receive_pools", "reclaim", "refused", "reserve_entered", "rng", "rx_cache", "seen",
        "small_cache", "softnet", "softnet_marked", "softnet_running", "softnet_share", "steps", "tcp_bytes",
        "tcp_mem_bytes", "tx_pages", "users", "zone",
    )  # fmt: skip

    nic: Nic
    reclaim: Reclaim

    def __init__(self, case: Case, design: Design, seed: int) -> None:
        size = case.machine
        self.case = case
        self.design = design
        self.clock = Clock()
        self.rng = Random(seed)  # noqa: S311 - chance that can be repeated
        self.calm = False
        lists = size.buddy is BuddyKind.LISTS
        buddy = Buddy(size.pages) if lists else None
        self.zone = Zone(size.pages, gfp_memalloc=design.gfp_memalloc, buddy=buddy)
        self._set_watermarks()
        now = design.kernel is Kernel.V6_12
        if size.page_per_skb:
            self.heads: Cache | None = None
            self.rx_cache = Cache("page", PAGE_BYTES, per_slab=1, order=0, pfmemalloc=design.pfmemalloc)
            self.small_cache = self.rx_cache
        else:
            per_page = PAGE_BYTES // HEAD_BYTES
            self.heads = Cache(
                "skbuff_head_cache",
                HEAD_BYTES,
                per_slab=per_page,
                order=0,
                pfmemalloc=now and design.pfmemalloc,
            )
            self.rx_cache = cache_of(case.nic.buffer_bytes, pfmemalloc=design.pfmemalloc)
            self.small_cache = cache_of(SMALL_BYTES, pfmemalloc=design.pfmemalloc)
        self.packet_ns = size.packet_ns
        self.backlog = size.backlog_packets
        self.softnet: deque[Skb] = deque()
        self.softnet_running = False
        self.softnet_marked = 0
        self.softnet_share = max(1, size.reserve_pages // 4)
        self.fragments: deque[tuple[int, Skb]] = deque()
        self.fragment_bytes = 0
        self.fragment_timer = False
        self.ipfrag_high_bytes = IPFRAG_HIGH_BYTES_NOW if now else IPFRAG_HIGH_BYTES
        self.tcp_mem_bytes = size.tcp_mem_pages * PAGE_BYTES
        self.tcp_bytes = 0
        self.tx_pages = 0  # that senders hold until they are acknowledged
        self.foreign_socks: list[Sock] = []
        self.hooks: list[Hooked] = []
        self.users: list[BlockUser] = []
        self.ledger: Ledger | None = None
        self.pools: list[ReservePool] = []
        self.receive_pools: list[ReservePool] = []
        self.pinned = 0
        self.pool_tokens: list[int] = []  # pages that the pools got while the machine ran
        self.programs_pages = 0
        self.eaten: list[int] = []
        self.refused: list[str] = []  # users that the throttle has no room for
        self.pages_out = 0
        self.gated = False
        self.reserve_entered = False
        self.holding = Held(self.clock)
        self.steps: dict[str, int] = dict.fromkeys(STEPS, 0)
        self.drops: Counter[str] = Counter()
        self.block_drops: Counter[str] = Counter()
        self.foreign: Counter[str] = Counter()
        self.milestones: list[Milestone] = []
        self.seen: set[str] = set()

    def _set_watermarks(self) -> None:
        size = self.case.machine
        wmark_min = size.min_pages or computed_min_pages(size.pages)
        if self.design.pool is Pool.GLOBAL and size.reserve_pages:
            if size.raise_min:
                wmark_min = max(wmark_min if size.min_pages else 0, min_for_reserve_pages(size.reserve_pages))
            else:  # "asking for N pages by min_free_kbytes"
                wmark_min = max(wmark_min if size.min_pages else 0, size.reserve_pages)
            self.zone.reserve = size.reserve_pages
            self.zone.admin_min = size.min_pages  # kept beside the reserve when that is resized
        setup_per_zone_wmarks(self.zone, wmark_min)

    def first(self, id: str, text: str, **facts: int) -> None:
        """Notes the first time that something happens."""
        if id not in self.seen:
            self.seen.add(id)
            self.note(id, text, **facts)

    def note(self, id: str, text: str, **facts: int) -> None:
        """Notes a moment."""
        self.milestones.append(Milestone(time_ns=self.clock.now, id=id, text=text, facts=facts))

    def drop(self, skb: Skb, reason: str) -> None:
        """A packet is thrown away, and its memory given back."""
        frame = skb.frame
        if frame is not None and frame.block:
            self.block_drops[reason] += 1
        else:
            self.foreign["dropped"] += 1
        self.drops[reason] += 1
        if reason == "PFMEMALLOC":
            self.first("first_discard", "a packet of others lies in a buffer of the reserve: it is dropped")
        kfree_skb(self, skb)

    def lost(self, block: bool, reason: str) -> None:
        """A packet is lost before there is an skb for it."""
        self.drops[reason] += 1
        if block:
            self.block_drops[reason] += 1
        else:
            self.foreign["dropped"] += 1

    def count(self, reason: str) -> None:
        """A drop that costs nobody a packet: a hook's copy."""
        self.drops[reason] += 1

    def delivered(self, skb: Skb) -> None:
        """A foreign packet has reached its protocol."""
        if skb.frame is not None and not skb.frame.block:
            self.foreign["delivered"] += 1

    def tcp_pressure(self) -> None:
        """The pages that all TCP sockets share are used up."""
        self.first(
            "tcp_mem",
            "the pages that all TCP sockets may hold together are used up",
            tcp_pages=self.tcp_bytes // PAGE_BYTES,
        )

    def reserve_used(self) -> bool:
        """Whether anything is withdrawn from the reserve."""
        return self.zone.reserve_out > 0 or any(pool.free < pool.elements for pool in self.pools)

    def gate_closed(self) -> bool:
        """The early drop: a level, read at each packet. Closes below min, opens a quarter of min above it."""
        zone = self.zone
        limit = zone.wmark_min + (zone.wmark_min >> 2 if self.gated else 0)
        self.gated = zone.free <= limit
        if self.gated:
            self.first("gate_closed", "free pages are below min: packets of others are dropped at ingress")
        return self.gated
