"""Do mempools fragment memory? An experiment on the buddy lists, seeded, and its answer in counts.

The mail of August 2005: "One problem I see with mempool is that it not only reserves resources, but pins them. If
the kernel is full of mempools pinning memory pages here and there, physical defragmentation gets that much harder and
the buddy tree will fragment that much sooner. The __GPF_MEMALLOC interface does not have this problem because pages
stay in the global pool. So the jury is still out on which method is better."

One run: memory is filled with movable allocations (programs, files) and some that are long-lived and cannot be moved
(slab, page tables), then it is churned at the watermark: a batch of random victims is freed, as much is allocated
again. The reserve is a higher watermark or a number of mempools, each of them either from the start or set up one
after the other in the churn ("here and there"). Then most of the churn is freed, and it is counted how many blocks of
each order can be had: at once, and after a perfect compaction of all that can be moved ("physical defragmentation").

The other side is asked at the moment when memory is full: how many receive buffers of order 2 (a jumbo frame of 9 KB)
the reserve can give. Pages that "stay in the global pool" need not lie together there.

What it shows (`compare_fragmentation`; the tests hold each sentence):

- The mail is right about mempools of single pages that are made on a full machine of its time (2.6.12): every pool
  spoils a block of order 9 for good, and no compaction brings it back. Elements of order 2 do less harm: they are
  fewer. Where 2 % of memory cannot be moved anyway, there is nothing left of order 9 to spoil, but at order 6 there is.
- It is wrong about mempools made at boot: their pages lie together, one block in all. What they still cost is that
  scraps cannot stand in for them: a global reserve may consist of pages that no larger request could use anyway.
- Since pages are grouped by mobility (2.6.24) elements of single pages join the other unmovable ones while these have
  room, and the blocks of order 9 survive. What finds no room there (elements of order 2, large pools on a full
  machine) spoils blocks as in 2.6.12.
- The global reserve costs no more than any pool, but it answers for pages, not for blocks. With memory full, a reserve
  raised under load has a part of the buffers of order 2 that its size promises, by chance and sometimes next to none;
  also one from the start erodes. A mempool of order 2 has all of them, each time. So for order 0 the mail's way is
  better; for jumbo frames only a mempool is a reserve at all, and boot is the time to make it.

What is not modelled: per-CPU lists, zones, reclaim in LRU order (victims are random, which scatters the most), and
compaction while the churn goes on or before an element of order 2 is taken from a movable block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from statistics import median_low

from tidegate.design import Kernel
from tidegate.sim.buddy import MAX_ORDER, Buddy, GroupedBuddy
from tidegate.sim.mempool import Mempool, Unfilled

JUMBO_ORDER = 2  # 9018 bytes and skb_shared_info: kmalloc of 16 KB
BATCH_PAGES = 32  # SWAP_CLUSTER_MAX: what reclaim frees at a time
FREED_PERCENT = 90  # of the movable allocations, when the churn is over
# How often an allocation has which order. Most are single pages; the rest are slabs and the buffers of sockets.
ORDER_WEIGHTS = (90, 6, 3, 1)


class Kind(StrEnum):
    """Where the reserve is kept."""

    NONE = "none"  # nowhere: the control
    GLOBAL = "global"  # a higher watermark from the start; the pages stay in the global pool
    RAISED = "raised"  # the same, raised step by step in the churn (adjust_memalloc_reserve)
    BOOT = "boot"  # mempools, made before anything else
    LOAD = "load"  # mempools, made one after the other in the churn


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The free lists at one moment."""

    moment: str  # filled, churned (several), freed, compacted
    batches: int  # of churn so far
    available: tuple[int, ...]  # free blocks by order
    pinned_pages: int  # that lie in mempools

    @property
    def free_pages(self) -> int:
        """Free pages of all orders."""
        return usable_pages(self.available, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragmentation:
    """One run. `blocks_*` are by order 0 to 10: how many blocks of that order could be had one after the other."""

    kind: Kind
    kernel: Kernel
    seed: int
    pages: int
    reserve_pages: int
    element_order: int
    long_lived_percent: int
    elements: int  # of mempools that could be made
    elements_wanted: int
    samples: tuple[Sample, ...]
    blocks_freed: tuple[int, ...]  # when most of the churn is freed
    blocks_compacted: tuple[int, ...]  # after everything movable was moved together
    touched: tuple[int, ...]  # aligned blocks of each order with at least one page of a mempool in them
    jumbo: int  # buffers of order 2 that the reserve can give while memory is full
    jumbo_wanted: int  # reserve_pages / 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way to keep the reserve, over many seeds. Numbers of blocks are medians."""

    kernel: Kernel
    long_lived_percent: int
    kind: Kind
    element_order: int
    runs: int
    elements: int  # the fewest of all runs
    elements_wanted: int
    blocks_freed: tuple[int, ...]
    blocks_compacted: tuple[int, ...]
    fewer: tuple[
        int, ...
    ]  # by order: runs with fewer blocks after compaction than `global` with the same seed
    more: tuple[int, ...]  # runs with more
    unusable_index: tuple[int, ...]  # by order, when most of the churn is freed; thousandths
    jumbo: int  # the median
    jumbo_least: int
    jumbo_all: int  # runs in which the reserve gave every buffer of order 2 that it was sized for
    jumbo_wanted: int


def usable_pages(available: Sequence[int], order: int) -> int:
    """Free pages that lie in blocks of `order` or larger."""
    return sum(count << at for at, count in enumerate(available) if at >= order)


def usable_share(available: Sequence[int], order: int) -> float:
    """The share of free memory that a request of `order` can use, 0 to 1; 0 when nothing is free."""
    free_pages = usable_pages(available, 0)
    return usable_pages(available, order) / free_pages if free_pages else 0.0


def unusable_free_index(available: Sequence[int], order: int) -> int:
    """Thousandths of free memory that a request of `order` cannot use (mm/vmstat.c has a function of this name)."""
    free_pages = usable_pages(available, 0)
    if not free_pages:
        return 1000  # "No free memory is interpreted as all free memory is unusable"
    return (free_pages - usable_pages(available, order)) * 1000 // free_pages


def blocks_to_be_had(available: Sequence[int], mark_pages: int, kernel: Kernel) -> tuple[int, ...]:
    """By order: how many blocks an ordinary caller gets, one after the other, until the watermark says no.

    2.6.12 wants mark / 2^o pages left in blocks of each order o up to the one asked for; 6.12 wants the mark once, in
    pages of any order, and then a block (zone_watermark_ok, __zone_watermark_ok since 97a16fc82a7c).
    """
    had = []
    for order in range(MAX_ORDER):
        limits = [usable_pages(available, order), usable_pages(available, 0) - mark_pages]
        if kernel is Kernel.V2_6_12:
            limits += [usable_pages(available, at) - (mark_pages >> at) for at in range(order + 1)]
        had.append(max(0, min(limits)) >> order)
    return tuple(had)


MEMPOOLS = (Kind.BOOT, Kind.LOAD)
Block = tuple[int, int]  # first frame, order


class _Memory:
    """Memory in the churn: the allocator, who holds what, and the level down to which it is used."""

    __slots__ = (
        "_free", "alloc", "buddy", "floor_pages", "long_lived", "long_lived_pages", "movable", "pinned", "random",
    )  # fmt: skip

    def __init__(self, pages: int, kernel: Kernel, floor_pages: int, random: Random) -> None:
        buddy: Buddy | GroupedBuddy
        if kernel is Kernel.V6_12:
            buddy = GroupedBuddy(pages)
            self.alloc: Callable[[int, bool], int | None] = buddy.alloc
        else:
            buddy = plain = Buddy(pages, kernel)
            self.alloc = lambda order, _movable: plain.alloc(order)
        self.buddy = buddy
        self._free = buddy.free
        self.floor_pages = floor_pages
        self.random = random
        self.movable: list[Block] = []
        self.long_lived: list[Block] = []
        self.long_lived_pages = 0
        self.pinned: list[Block] = []  # elements of mempools

    def use(self, long_lived_pages: int, *, chance: float = 1.0) -> None:
        """Allocate down to the floor; long-lived with this chance, as long as there are too few of them."""
        random, buddy, alloc = self.random.random, self.buddy, self.alloc
        orders = _orders(self.random)
        while (room := buddy.free_pages - self.floor_pages) > 0:
            order = next(orders)
            if 1 << order > room:
                order = 0
            lasting = self.long_lived_pages < long_lived_pages and random() < chance
            frame = alloc(order, not lasting)
            if frame is None:  # a caller of order > 0 falls back to single pages
                order = 0
                frame = alloc(0, not lasting)
                assert frame is not None, "free pages, but no block of order 0"
            (self.long_lived if lasting else self.movable).append((frame, order))
            self.long_lived_pages += lasting << order

    def reclaim(self, pages: int) -> None:
        """Free that many pages of random movable allocations, or all there are."""
        goal = self.buddy.free_pages + pages
        while self.buddy.free_pages < goal and self.movable:
            self._free(*_take_random(self.movable, self.random))

    def turn_over(self) -> None:
        """One long-lived allocation ends."""
        if self.long_lived:
            frame, order = _take_random(self.long_lived, self.random)
            self.long_lived_pages -= 1 << order
            self._free(frame, order)

    def alloc_element(self, order: int) -> Block | None:
        """An unmovable block above the floor, GFP_KERNEL: reclaim until it can be had.

        __alloc_pages gives up only above order 3 (PAGE_ALLOC_COSTLY_ORDER), so an element of order 2 is paid for with
        as many victims as it takes.
        """
        while True:
            if self.buddy.free_pages - (1 << order) >= self.floor_pages:
                frame = self.alloc(order, False)  # noqa: FBT003 - unmovable
                if frame is not None:
                    self.pinned.append((frame, order))
                    return frame, order
            if not self.movable:
                return None
            self.reclaim(1 << order)

    def free_element(self, element: Block) -> None:
        """The pool gives it back."""
        self.pinned.remove(element)
        self._free(*element)

    def compact(self) -> None:
        """Move everything movable together: free it, and fill the smallest holes first with as many single pages."""
        pages = sum(1 << order for _, order in self.movable)
        for frame, order in self.movable:
            self._free(frame, order)
        self.movable = []
        for _ in range(pages):
            frame_or_none = self.alloc(0, True)  # noqa: FBT003 - movable
            assert frame_or_none is not None, "what was freed can be allocated again"
            self.movable.append((frame_or_none, 0))


def _orders(random: Random) -> Iterator[int]:
    while True:
        yield from random.choices(range(len(ORDER_WEIGHTS)), ORDER_WEIGHTS, k=64)


def _take_random(blocks: list[Block], random: Random) -> Block:
    """Remove one in O(1): the last takes its place."""
    at = int(random.random() * len(blocks))
    blocks[at], blocks[-1] = blocks[-1], blocks[at]
    return blocks.pop()


def fragmentation(
    *,
    pages: int = 8192,
    reserve_pages: int = 256,
    pools: int = 16,
    churn: int = 200,
    seed: int = 0,
    kind: Kind = Kind.GLOBAL,
    kernel: Kernel = Kernel.V2_6_12,
    element_order: int = 0,
    long_lived_percent: int = 2,
    min_pages: int = 32,
) -> Fragmentation:
    """One run: `churn` batches of BATCH_PAGES, a reserve kept in one way, in `pools` mempools or none.

    `element_order` is the mempools' order, `long_lived_percent` the share of memory that cannot be moved and is not
    freed at the end, `min_pages` the watermark that there is anyway.
    """
    assert reserve_pages % (pools << element_order) == 0, "each pool has the same whole number of elements"
    memory = _Memory(pages, kernel, min_pages, Random(seed))  # noqa: S311 - a seeded experiment, no secret
    long_lived_pages = pages * long_lived_percent // 100
    due = _when_made(kind, pools, churn)
    share_pages = reserve_pages // pools
    made = _keep(kind, memory, due.count(0), share_pages, element_order)
    memory.use(long_lived_pages, chance=long_lived_percent / 100)
    samples = [_sample(memory, "filled", 0)]
    for batch in range(1, churn + 1):
        memory.reclaim(BATCH_PAGES)
        memory.turn_over()
        made += _keep(kind, memory, due.count(batch), share_pages, element_order)
        memory.use(long_lived_pages)
        if batch % max(1, churn // 4) == 0:
            samples.append(_sample(memory, "churned", batch))
    jumbo = _jumbo_from_reserve(kind, memory, reserve_pages)
    memory.reclaim(sum(1 << order for _, order in memory.movable) * FREED_PERCENT // 100)
    samples.append(_sample(memory, "freed", churn))
    memory.compact()
    samples.append(_sample(memory, "compacted", churn))
    mark = memory.floor_pages
    return Fragmentation(
        kind=kind,
        kernel=kernel,
        seed=seed,
        pages=pages,
        reserve_pages=reserve_pages,
        element_order=element_order,
        long_lived_percent=long_lived_percent,
        elements=sum(pool.elements for pool in made),
        elements_wanted=len(due) * (share_pages >> element_order) if kind in MEMPOOLS else 0,
        samples=tuple(samples),
        blocks_freed=blocks_to_be_had(samples[-2].available, mark, kernel),
        blocks_compacted=blocks_to_be_had(samples[-1].available, mark, kernel),
        touched=_touched(memory.pinned),
        jumbo=jumbo,
        jumbo_wanted=reserve_pages >> JUMBO_ORDER,
    )


def _when_made(kind: Kind, pools: int, churn: int) -> list[int]:
    """After which batch each user of the reserve is loaded; 0 is before anything else."""
    if kind is Kind.NONE:
        return []
    if kind in {Kind.LOAD, Kind.RAISED}:
        return [(one + 1) * churn // (pools + 1) for one in range(pools)]
    return [0] * pools


def _keep(kind: Kind, memory: _Memory, count: int, share_pages: int, order: int) -> list[Mempool[Block]]:
    """Set aside the shares of `count` users: pools, as many as can be made, or a higher watermark."""
    made: list[Mempool[Block]] = []
    for _ in range(count):
        if kind not in MEMPOOLS:
            memory.floor_pages += share_pages
            memory.reclaim(max(0, memory.floor_pages - memory.buddy.free_pages))
            continue
        try:
            made.append(Mempool(share_pages >> order, order, memory.alloc_element, memory.free_element))
        except Unfilled:  # a driver whose pool cannot be made is not loaded
            break
    return made


def _sample(memory: _Memory, moment: str, batches: int) -> Sample:
    return Sample(
        moment=moment,
        batches=batches,
        available=memory.buddy.available(),
        pinned_pages=sum(1 << order for _, order in memory.pinned),
    )


def _jumbo_from_reserve(kind: Kind, memory: _Memory, reserve_pages: int) -> int:
    """Buffers of order 2 that the reserve can give now. The global one has no other pages than those that are free:
    all of them, as __GFP_MEMALLOC ignores the watermarks. A pool of single pages has none.
    """
    if kind in {Kind.GLOBAL, Kind.RAISED}:
        return min(reserve_pages, usable_pages(memory.buddy.available(), JUMBO_ORDER)) >> JUMBO_ORDER
    return sum(1 << order - JUMBO_ORDER for _, order in memory.pinned if order >= JUMBO_ORDER)


def _touched(pinned: Iterable[Block]) -> tuple[int, ...]:
    """How many aligned blocks of each order hold a pinned page and can never become one free block."""
    blocks = list(pinned)
    frames = {frame + page for frame, order in blocks for page in range(1 << order)}
    return tuple(len({frame >> order for frame in frames}) for order in range(MAX_ORDER))


# What is compared: where the reserve is kept, and the order of the elements.
WAYS = (
    (Kind.GLOBAL, 0),
    (Kind.RAISED, 0),
    (Kind.BOOT, 0),
    (Kind.LOAD, 0),
    (Kind.BOOT, 2),
    (Kind.LOAD, 2),
)
LONG_LIVED_PERCENTS = (0, 2)


def compare_fragmentation(
    seeds: Iterable[int],
    *,
    kernels: Sequence[Kernel] = (Kernel.V2_6_12, Kernel.V6_12),
    long_lived_percents: Sequence[int] = LONG_LIVED_PERCENTS,
    pages: int = 8192,
    reserve_pages: int = 256,
    pools: int = 16,
    churn: int = 200,
) -> tuple[Row, ...]:
    """All ways to keep the reserve, each over the same seeds; 24 runs, half a second, a seed."""
    seeds = tuple(seeds)
    assert seeds, "no seed"
    rows = []
    for kernel in kernels:
        for percent in long_lived_percents:
            runs = {
                (kind, order): [
                    fragmentation(
                        pages=pages,
                        reserve_pages=reserve_pages,
                        pools=pools,
                        churn=churn,
                        seed=seed,
                        kind=kind,
                        kernel=kernel,
                        element_order=order,
                        long_lived_percent=percent,
                    )
                    for seed in seeds
                ]
                for kind, order in WAYS
            }
            rows += [_row(one, runs[Kind.GLOBAL, 0]) for one in runs.values()]
    return tuple(rows)


def _row(runs: Sequence[Fragmentation], control: Sequence[Fragmentation]) -> Row:
    first = runs[0]
    freed = [sample.available for run in runs for sample in run.samples if sample.moment == "freed"]
    pairs = [
        (mine.blocks_compacted, theirs.blocks_compacted) for mine, theirs in zip(runs, control, strict=True)
    ]
    orders = range(MAX_ORDER)
    return Row(
        kernel=first.kernel,
        long_lived_percent=first.long_lived_percent,
        kind=first.kind,
        element_order=first.element_order,
        runs=len(runs),
        elements=min(run.elements for run in runs),
        elements_wanted=first.elements_wanted,
        blocks_freed=_medians([run.blocks_freed for run in runs]),
        blocks_compacted=_medians([run.blocks_compacted for run in runs]),
        fewer=tuple(sum(mine[at] < theirs[at] for mine, theirs in pairs) for at in orders),
        more=tuple(sum(mine[at] > theirs[at] for mine, theirs in pairs) for at in orders),
        unusable_index=_medians([tuple(unusable_free_index(one, at) for at in orders) for one in freed]),
        jumbo=median_low(run.jumbo for run in runs),
        jumbo_least=min(run.jumbo for run in runs),
        jumbo_all=sum(run.jumbo >= run.jumbo_wanted for run in runs),
        jumbo_wanted=first.jumbo_wanted,
    )


def _medians(many: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(median_low(column) for column in zip(*many, strict=True))


_NAMES = {
    Kind.NONE: "no reserve",
    Kind.GLOBAL: "watermark, from the start",
    Kind.RAISED: "watermark, raised under load",
    Kind.BOOT: "mempools, from the start",
    Kind.LOAD: "mempools, made under load",
}
_HEAD = (
    "kernel", "unmovable", "reserve", "order", "free 3", "free 6", "moved 3", "moved 6", "moved 9", "fewer 6",
    "fewer 9", "jumbo", "least", "all",
)  # fmt: skip


def fragmentation_text(rows: Sequence[Row]) -> str:
    """A table of plain text, the same for the same rows."""
    table = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[at]) for line in table) for at in range(len(_HEAD))]
    left = _HEAD.index("order")  # words to the left, numbers to the right
    lines = [
        "  ".join(
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in table
    ]
    runs = max((row.runs for row in rows), default=0)
    wanted = max((row.jumbo_wanted for row in rows), default=0)
    notes = (
        f"Medians of {runs} seeds. free k: blocks of order k when most of the churn is freed; moved k: after all that",
        "can be moved was moved together; fewer k: seeds with fewer of these than `watermark, from the start`.",
        f"jumbo: buffers of order {JUMBO_ORDER} that the reserve can give while memory is full, of {wanted};",
        "all: seeds in which it gave every one.",
    )
    return "\n".join((*lines, "", *notes)) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.kernel.value,
        f"{row.long_lived_percent} %",
        _NAMES[row.kind],
        str(row.element_order) if row.kind in MEMPOOLS else "-",
        *(str(row.blocks_freed[order]) for order in (3, 6)),
        *(str(row.blocks_compacted[order]) for order in (3, 6, 9)),
        *(f"{row.fewer[order]}/{row.runs}" for order in (6, 9)),
        str(row.jumbo),
        str(row.jumbo_least),
        f"{row.jumbo_all}/{row.runs}",
    )
