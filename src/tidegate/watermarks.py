"""The page allocator's watermarks: from min_free_kbytes to every zone's, and back.

Integer arithmetic as the kernel's, all of mm/page_alloc.c unless another file is named. Everything is in
pages except where a name ends in `_kib`. Where kernels differ, the version says which: what is written here
holds from 5.10 on. Pure, standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import isqrt

# enum zone_type in its order (include/linux/mmzone.h). A kernel has some of them; lowmem_reserve is indexed
# by those.
ZONE_ORDER = ("DMA", "DMA32", "Normal", "HighMem", "Movable", "Device")


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """One zone as /proc/zoneinfo shows it, in pages.

    `min`, `low`, `high` and `promo` are as printed, that is *with* the boost (wmark_pages() of
    include/linux/mmzone.h): take `wmark_min()` for the value that the floors are made of.
    """

    node: int
    name: str
    free: int
    boost: int
    min: int
    low: int
    high: int
    promo: int | None
    spanned: int
    present: int
    managed: int
    cma: int | None
    free_cma: int
    protection: tuple[int, ...]  # lowmem_reserve by highest zone of the request
    pcp: int  # pages on per-CPU lists; not part of `free`
    highatomic: int | None = None
    reclaimable: int | None = None  # zone_reclaimable_pages(): sum of nr_zone_{in,}active_{anon,file}


Version = tuple[int, int, int]


def wmark_min(zone: Zone) -> int:
    """WMARK_MIN without the boost."""
    return max(zone.min - zone.boost, 0)


def wmark_high(zone: Zone) -> int:
    """WMARK_HIGH without the boost."""
    return max(zone.high - zone.boost, 0)


def atomic_share(wmark_min_pages: int) -> int:
    """Where GFP_ATOMIC stops: 3/8 of min, rounded as __zone_watermark_ok() does (min -= min/2, min/4)."""
    left = wmark_min_pages - wmark_min_pages // 2
    return left - left // 4


def normal_index(zones: tuple[Zone, ...]) -> int:
    """Index of ZONE_NORMAL in lowmem_reserve[]: the highest zone of GFP_KERNEL and GFP_ATOMIC requests.

    /proc/zoneinfo prints every zone this kernel has, empty ones too, so it is the number of zones before it.
    """
    names = {zone.name for zone in zones}
    return sum(1 for name in ZONE_ORDER[: ZONE_ORDER.index("Normal")] if name in names)


def serves_kernel(zone: Zone) -> bool:
    """Can a GFP_KERNEL or GFP_ATOMIC request be served from this zone (gfp_zone() <= ZONE_NORMAL)."""
    return zone.name in ("DMA", "DMA32", "Normal")


def lowmem_reserve(zone: Zone, index: int) -> int:
    """What an ordinary request whose highest zone has this index must leave in the zone."""
    if index < len(zone.protection):
        return zone.protection[index]
    return max(zone.protection, default=0)


def atomic_floor(zone: Zone, index: int) -> int:
    """Free pages at which GFP_ATOMIC is refused in this zone: 3/8 min + lowmem_reserve, at most all pages."""
    return min(atomic_share(wmark_min(zone)) + lowmem_reserve(zone, index), zone.managed)


def zone_batchsize(managed_pages: int, page_bytes: int = 4096) -> int:
    """Pages one refill of a per-CPU list takes at once: that much can leave a zone below the floor."""
    batch = min(managed_pages >> 10, (1 << 20) // page_bytes) // 4
    batch = max(batch, 1)
    return max((1 << ((batch + batch // 2).bit_length() - 1)) - 1, 1)


def _highatomic(zone: Zone, page_bytes: int) -> int:
    """Free pages of highatomic pageblocks; where they could not be read, the most that there can be.

    reserve_highatomic_pageblock(): about 1 % of the zone, rounded up to a pageblock, and nothing in a zone whose
    1 % is no pageblock.
    """
    if zone.highatomic is not None:
        return zone.highatomic
    block = pageblock_pages(None, page_bytes)
    share = zone.managed // 100
    return 0 if share < block else -(-share // block) * block


def exclusive(zone: Zone, index: int, cpus: int, page_bytes: int = 4096) -> int:
    """Pages of this zone, free now, that only memalloc users can take.

    `min(free, 3/8 min + lowmem_reserve)` less what they cannot take either: highatomic pages (rmqueue_buddy()
    gives them to ALLOC_HIGHATOMIC, ALLOC_OOM and ALLOC_NON_BLOCK only), CMA, and a batch per CPU: an ordinary
    request that just passes the watermark takes a whole batch to its per-CPU list (rmqueue_bulk()). Pages
    that lie on those lists now are not part of NR_FREE_PAGES, so they need no second subtraction.
    """
    if not serves_kernel(zone) or not zone.managed:
        return 0
    unusable = _highatomic(zone, page_bytes) + zone.free_cma + cpus * zone_batchsize(zone.managed, page_bytes)
    return max(min(zone.free, atomic_floor(zone, index)) - unusable, 0)


# allow_direct_reclaim() skipped zones without reclaimable pages until 6aaced5abd32 ("mm: vmscan: account for
# free pages
# to prevent infinite Loop in throttle_direct_reclaim()") made zone_reclaimable_pages() count the free pages
# instead.
# Stable releases that carry it, by branch.
_FREE_PAGES_COUNT = {(5, 4): 289, (5, 10): 233, (5, 15): 176, (6, 1): 124, (6, 6): 70, (6, 12): 9}


def counts_unreclaimable_zones(kernel: Version | None) -> bool | None:
    """Does the throttle of direct reclaim count zones with free pages and none to reclaim; None: unknown."""
    if kernel is None or kernel[:2] >= (6, 18):
        return None
    if kernel[:2] >= (6, 13):
        return True
    since = _FREE_PAGES_COUNT.get(kernel[:2])
    if since is None or kernel[2] == 0:  # 6.1.0-50-amd64 is Debian's name for any 6.1.x
        return None
    return kernel[2] >= since


def _counted(zone: Zone, kernel: Version | None) -> bool | None:
    """Does allow_direct_reclaim() count this zone; None: cannot be told."""
    if zone.reclaimable:
        return True
    everything = counts_unreclaimable_zones(kernel)
    if everything:
        return True
    return None if everything is None or zone.reclaimable is None else False


def node_band(zones: tuple[Zone, ...], index: int, kernel: Version | None) -> int | None:
    """Free pages of one node between the throttle of user tasks in direct reclaim and the atomic floors.

    mm/vmscan.c:allow_direct_reclaim(): they sleep at `free <= sum(min + boost) / 2` over the zones up to
    ZONE_NORMAL that it counts. At or below zero nothing holds them back before GFP_ATOMIC fails. Where it
    cannot be told whether a zone counts, the smaller band is given. None: no zone of this node counts.
    """
    marks = floors = 0
    for zone in zones:
        if not serves_kernel(zone) or not zone.managed:
            continue
        counted, floor = _counted(zone, kernel), atomic_floor(zone, index)
        if counted or (counted is None and zone.min < 2 * floor):
            marks += zone.min  # as printed: min_wmark_pages() includes the boost
            floors += floor
    return marks // 2 - floors if marks else None


def band(zones: tuple[Zone, ...], index: int, kernel: Version | None) -> int | None:
    """The narrowest band of all nodes; None when no zone is known."""
    nodes = dict.fromkeys(zone.node for zone in zones)
    bands = [node_band(tuple(zone for zone in zones if zone.node == node), index, kernel) for node in nodes]
    return min((pages for pages in bands if pages is not None), default=None)


MOVABLE_IS_CAPPED = (6, 6)  # liuq, "fix min_free_kbytes calculation regarding ZONE_MOVABLE"
MIN_FREE_CEILING_KIB = 262144  # of the computed default; 65536 before 5.8 (ee8eb9a5fe86)
MIN_FREE_FLOOR_KIB = 128
SWAP_CLUSTER_MAX = 32
MIGRATE_PCPTYPES = 3
# 96a5c186efff ("don't show protection in zone's ->lowmem_reserve[] for empty zone") and its revert, by
# release.
_EMPTY_ZONES_UNPROTECTED = ((6, 10, 0), (6, 12, 19)), ((6, 13, 0), (6, 13, 7))


def pageblock_pages(hugepage_kib: int | None, page_bytes: int = 4096) -> int:
    """pageblock_nr_pages: one PMD-sized huge page; 2 MiB where that was not read."""
    return (hugepage_kib or 2048) * 1024 // page_bytes


def _capped(zone: Zone, kernel: Version | None) -> bool:
    """Zones whose min does not follow min_free_kbytes: is_highmem(), and ZONE_MOVABLE since 6.6."""
    if zone.name == "Movable":
        return kernel is None or kernel[:2] >= MOVABLE_IS_CAPPED
    return zone.name == "HighMem"


def setup_per_zone_wmarks(
    zones: Sequence[Zone],
    min_free_kib: int,
    *,
    scale_factor: int = 10,
    page_bytes: int = 4096,
    kernel: Version | None = None,
) -> tuple[Zone, ...]:
    """The zones with the watermarks that a write of this min_free_kbytes gives them; their boost is gone.

    __setup_per_zone_wmarks(): the distance between the marks comes from the uncapped share, in 64 bits.
    """
    pages_min = min_free_kib * 1024 // page_bytes  # min_free_kbytes >> (PAGE_SHIFT - 10)
    lowmem = sum(zone.managed for zone in zones if not _capped(zone, kernel))
    made = []
    for zone in zones:
        share = pages_min * zone.managed // lowmem if lowmem else 0
        least = share
        if _capped(zone, kernel):
            least = min(max(zone.managed // 1024, SWAP_CLUSTER_MAX), 128)
        distance = max(share >> 2, zone.managed * scale_factor // 10000)
        low, high, promo = least + distance, least + 2 * distance, least + 3 * distance
        mark = None if zone.promo is None else promo
        made.append(replace(zone, boost=0, min=least, low=low, high=high, promo=mark))
    return tuple(made)


def _empty_zones_unprotected(kernel: Version | None) -> bool:
    return kernel is not None and any(first <= kernel < last for first, last in _EMPTY_ZONES_UNPROTECTED)


def setup_per_zone_lowmem_reserve(
    zones: Sequence[Zone], ratios: Sequence[int], kernel: Version | None = None
) -> tuple[Zone, ...]:
    """The zones with protection[] as vm.lowmem_reserve_ratio makes it, node by node.

    `zones` must hold every zone of a node, empty ones too, in the order of /proc/zoneinfo.
    """
    made = []
    for zone in zones:
        node = [other for other in zones if other.node == zone.node]
        at = next(place for place, other in enumerate(node) if other.name == zone.name)
        ratio = ratios[at] if at < len(ratios) else 0
        protection, above = [0] * len(node), 0
        for place in range(at + 1, len(node)):
            above += node[place].managed
            clear = not ratio or not zone.managed or at == len(node) - 1
            if _empty_zones_unprotected(kernel) and not node[place].managed:
                clear = True
            protection[place] = 0 if clear else above // ratio
        made.append(replace(zone, protection=tuple(protection)))
    return tuple(made)


def nr_free_buffer_pages(zones: Sequence[Zone], *, at_boot: bool = False) -> int:
    """Pages above the high watermark in the zones of GFP_USER; at boot there are no watermarks yet."""
    return sum(max(zone.managed - (0 if at_boot else zone.high), 0) for zone in zones if serves_kernel(zone))


def calculate_min_free_kbytes(zones: Sequence[Zone], page_bytes: int = 4096, *, at_boot: bool = True) -> int:
    """The kernel's default, in kB, without transparent huge pages: sqrt(16 * lowmem kB), clamped."""
    lowmem_kib = nr_free_buffer_pages(zones, at_boot=at_boot) * page_bytes // 1024
    return min(max(isqrt(lowmem_kib * 16), MIN_FREE_FLOOR_KIB), MIN_FREE_CEILING_KIB)


def khugepaged_recommended_kib(zones: Sequence[Zone], pageblock: int, page_bytes: int = 4096) -> int:
    """What min_free_kbytes is raised to while transparent huge pages are on.

    mm/khugepaged.c:set_recommended_min_free_kbytes(): two free pageblocks a zone, and one for each pair of
    migrate types to fall back to; never more than 5 % of lowmem. A smaller value of the user is overridden.
    """
    populated = sum(1 for zone in zones if serves_kernel(zone) and zone.present)
    recommended = pageblock * populated * (2 + MIGRATE_PCPTYPES * MIGRATE_PCPTYPES)
    return min(recommended, nr_free_buffer_pages(zones) // 20) * page_bytes // 1024


def in_force_kib(
    zones: Sequence[Zone], wanted_kib: int, *, thp: bool, pageblock: int, page_bytes: int = 4096
) -> int:
    """What min_free_kbytes becomes when huge pages are switched or memory is plugged."""
    return max(wanted_kib, khugepaged_recommended_kib(zones, pageblock, page_bytes)) if thp else wanted_kib


def least_min_free_kib(need_pages: int, reached: Callable[[int], int], most_kib: int) -> int | None:
    """The least min_free_kbytes at which `reached(kB)` is `need_pages` or more; None beyond `most_kib`.

    The exact inverse of a forward sum that never falls as min_free_kbytes rises:
    `reached(answer) >= need_pages` and `reached(answer - 1) < need_pages`.
    """
    if reached(0) >= need_pages:
        return 0
    if reached(most_kib) < need_pages:
        return None
    short, enough = 0, most_kib
    while enough - short > 1:
        middle = (short + enough) // 2
        if reached(middle) >= need_pages:
            enough = middle
        else:
            short = middle
    return enough


class Cause(StrEnum):
    """Why a recorded watermark is not what the arithmetic gives for the recorded min_free_kbytes."""

    SAME = "same"
    ROUNDING = "rounding"  # a page or two
    BOOST = "boost"  # watermark_boost lies on top of it
    MANAGED_GREW = "managed pages grew"  # it was computed at boot, and memory was freed or plugged since
    NOT_YET_APPLIED = "min_free_kbytes changed"  # the marks still are those of another value


class Origin(StrEnum):
    """Where a recorded min_free_kbytes comes from."""

    DEFAULT = "kernel default"
    THP = "recommendation for transparent huge pages"
    USER = "set by the user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One recorded watermark beside the computed one."""

    node: int
    zone: str
    mark: str  # min, low, high, promo
    recorded: int
    computed: int
    cause: Cause

    @property
    def relative(self) -> float:
        """Size of the difference against the recorded value."""
        return abs(self.recorded - self.computed) / max(self.recorded, 1)


def origin(
    zones: Sequence[Zone], min_free_kib: int, *, thp: bool, pageblock: int, page_bytes: int = 4096
) -> Origin:
    """Where this value comes from; a default computed before memory grew counts as one (within 2 %)."""
    if thp and min_free_kib == khugepaged_recommended_kib(zones, pageblock, page_bytes):
        return Origin.THP
    computed = calculate_min_free_kbytes(zones, page_bytes)
    return Origin.DEFAULT if abs(min_free_kib - computed) * 50 <= computed else Origin.USER


def compare(
    zones: Sequence[Zone],
    min_free_kib: int,
    *,
    scale_factor: int = 10,
    page_bytes: int = 4096,
    kernel: Version | None = None,
) -> tuple[Difference, ...]:
    """Every recorded watermark beside the one that the recorded min_free_kbytes gives, with the cause."""
    computed = setup_per_zone_wmarks(
        zones, min_free_kib, scale_factor=scale_factor, page_bytes=page_bytes, kernel=kernel
    )
    shared = [zone for zone in zones if not _capped(zone, kernel) and zone.managed]
    total = sum(wmark_min(zone) for zone in shared)
    applied = abs(total - min_free_kib * 1024 // page_bytes) <= max(len(shared), total // 1000)
    made = []
    for was, now in zip(zones, computed, strict=True):
        for mark in ("min", "low", "high", "promo"):
            recorded, value = getattr(was, mark), getattr(now, mark)
            if recorded is None or not was.managed:
                continue
            bare = recorded - was.boost
            if recorded == value:
                cause = Cause.SAME
            elif was.boost and abs(bare - value) <= 2:
                cause = Cause.BOOST
            elif abs(bare - value) <= 2:
                cause = Cause.ROUNDING
            else:
                cause = Cause.MANAGED_GREW if applied else Cause.NOT_YET_APPLIED
            made.append(
                Difference(
                    node=was.node, zone=was.name, mark=mark, recorded=bare, computed=value, cause=cause
                )
            )
    return tuple(made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a min_free_kbytes withholds from everybody else, in pages."""

    min_pages: int  # ordinary requests that may sleep stop here
    high_pages: int  # and this is what kswapd keeps free
    ram_pages: int

    @property
    def of_ram(self) -> float:
        """The part of RAM that is kept free, 0 to 1."""
        return self.high_pages / self.ram_pages if self.ram_pages else 0.0


def share(zones: Sequence[Zone], ram_pages: int | None = None) -> Share:
    """What the zones' watermarks withhold, boost left out; of all managed pages unless RAM is given."""
    managed = sum(zone.managed for zone in zones)
    return Share(
        min_pages=sum(min(wmark_min(zone), zone.managed) for zone in zones),
        high_pages=sum(min(wmark_high(zone), zone.managed) for zone in zones),
        ram_pages=managed if ram_pages is None else ram_pages,
    )
