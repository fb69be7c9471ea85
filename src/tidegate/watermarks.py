"""The page allocator's watermarks: from min_free_kbytes to every zone's, and back.

Integer arithmetic as the kernel's, all of mm/page_alloc.c unless another file is named. Everything is in
pages except where a name ends in `_kib`. Pure, standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    if zone.name == "Normal" or not zone.protection:
        return zone.protection[index] if index < len(zone.protection) else 0
    return zone.protection[index] if index < len(zone.protection) else max(zone.protection)


def atomic_floor(zone: Zone, index: int) -> int:
    """Free pages at which GFP_ATOMIC is refused in this zone: 3/8 min + lowmem_reserve, at most all pages."""
    return min(atomic_share(wmark_min(zone)) + lowmem_reserve(zone, index), zone.managed)


def zone_batchsize(managed_pages: int, page_bytes: int = 4096) -> int:
    """Pages one refill of a per-CPU list takes at once: that much can leave a zone below the floor."""
    batch = min(managed_pages >> 10, (1 << 20) // page_bytes) // 4
    batch = max(batch, 1)
    return max((1 << ((batch + batch // 2).bit_length() - 1)) - 1, 1)


def exclusive(zone: Zone, index: int, cpus: int, page_bytes: int = 4096) -> int:
    """Pages of this zone, free now, that only memalloc users can take.

    `min(free, 3/8 min + lowmem_reserve)` less what they cannot take either: highatomic pages (rmqueue_buddy()
    gives them to ALLOC_HIGHATOMIC, ALLOC_OOM and ALLOC_NON_BLOCK only), CMA, and a batch per CPU: an ordinary
    request that just passes the watermark takes a whole batch to its per-CPU list (rmqueue_bulk()). Pages
    that lie on those lists now are not part of NR_FREE_PAGES, so they need no second subtraction.
    """
    if not serves_kernel(zone) or not zone.managed:
        return 0
    unusable = (zone.highatomic or 0) + zone.free_cma + cpus * zone_batchsize(zone.managed, page_bytes)
    return max(min(zone.free, atomic_floor(zone, index)) - unusable, 0)


# allow_direct_reclaim() skipped zones without reclaimable pages until 6aaced5abd32 ("mm: vmscan: account for
# free pages
# to prevent infinite Loop in throttle_direct_reclaim()") made zone_reclaimable_pages() count the free pages
# instead.
# Stable releases that carry it, by branch.
_FREE_PAGES_COUNT = {(5, 4): 289, (5, 10): 233, (5, 15): 176, (6, 1): 124, (6, 6): 70, (6, 12): 9}


def counts_unreclaimable_zones(kernel: tuple[int, int, int] | None) -> bool | None:
    """Does the throttle of direct reclaim count zones with free pages and none to reclaim; None: unknown."""
    if kernel is None or kernel[:2] >= (6, 18):
        return None
    if kernel[:2] >= (6, 13):
        return True
    since = _FREE_PAGES_COUNT.get(kernel[:2])
    return kernel[2] >= since if since is not None else None


def _counted(zone: Zone, kernel: tuple[int, int, int] | None) -> bool | None:
    """Does allow_direct_reclaim() count this zone; None: cannot be told."""
    if zone.reclaimable:
        return True
    everything = counts_unreclaimable_zones(kernel)
    if everything:
        return True
    return None if everything is None or zone.reclaimable is None else False


def node_band(zones: tuple[Zone, ...], index: int, kernel: tuple[int, int, int] | None) -> int | None:
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


def band(zones: tuple[Zone, ...], index: int, kernel: tuple[int, int, int] | None) -> int | None:
    """The narrowest band of all nodes; None when no zone is known."""
    nodes = dict.fromkeys(zone.node for zone in zones)
    bands = [node_band(tuple(zone for zone in zones if zone.node == node), index, kernel) for node in nodes]
    return min((pages for pages in bands if pages is not None), default=None)
