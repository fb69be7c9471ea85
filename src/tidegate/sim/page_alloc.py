"""One zone: free pages against watermarks, and who may take the last ones (mm/page_alloc.c).

A page that is granted is a token: its frame, and whether it was had only by ignoring the watermarks. The bit is the
simulator's own book-keeping (6.12: page_is_pfmemalloc); a design sees it only where it has such a mark.

Not modelled: several zones and nodes, per-CPU lists, highatomic blocks, the watermark boost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tidegate.sim.buddy import Buddy
from tidegate.sim.gfp import HIGH, MEMALLOC, NOMEMALLOC, WAIT, atomic_floor_pages, min_for_reserve_pages

NONE = -1  # no page


class Zone:
    """A zone of `pages` pages; all counts are pages."""

    __slots__ = (
        "admin_min",
        "atomic_floor",
        "buddy",
        "free",
        "gfp_memalloc",
        "kswapd",
        "low_water",
        "pages",
        "reserve",
        "reserve_out",
        "waiters",
        "wake",
        "wmark_high",
        "wmark_low",
        "wmark_min",
    )

    def __init__(self, pages: int, *, gfp_memalloc: bool, buddy: Buddy | None) -> None:
        self.pages = self.free = self.low_water = pages
        self.gfp_memalloc = gfp_memalloc  # the hunk of page_alloc.c
        self.buddy = buddy
        self.admin_min = self.reserve = 0
        self.wmark_min = self.wmark_low = self.wmark_high = self.atomic_floor = 0
        self.reserve_out = 0
        self.kswapd: Callable[[], None] | None = None
        self.waiters: deque[Callable[[], None]] = deque()  # woken, first come first served, above min
        self.wake: Callable[[], None] | None = None


def setup_per_zone_wmarks(zone: Zone, wmark_min_pages: int) -> None:
    """setup_per_zone_pages_min() of 2.6.12: low is 5/4 and high 6/4 of min; 6.12 at its default spacing alike."""
    zone.wmark_min = wmark_min_pages
    zone.wmark_low = wmark_min_pages * 5 // 4
    zone.wmark_high = wmark_min_pages * 6 // 4
    zone.atomic_floor = atomic_floor_pages(wmark_min_pages)


def take_at_boot(zone: Zone, pages: int) -> None:
    """Pages that are somebody's from the start and never come back: programs, fixed buffers, pools."""
    assert zone.free >= pages, (zone.free, pages)
    zone.free -= pages
    if zone.buddy is not None:
        for _ in range(pages):
            zone.buddy.alloc(0)


def adjust_memalloc_reserve(zone: Zone, pages: int) -> bool:
    """Grows or shrinks the reserve by so many pages; false where the pages are not free yet (try again).

    The mail: "__GPF_MEMALLOC would need a way of resizing the memalloc reserve as users are loaded and unloaded.
    Such an interface can be very lightweight." Growing counts only when the pages are really there: raising the floor
    over pages that others hold already would promise what nobody has. Whatever the administrator writes to
    min_free_kbytes is kept beside it, and the larger of the two holds.
    """
    wanted = zone.reserve + pages
    assert wanted >= 0, (zone.reserve, pages)
    wmark_min = max(min_for_reserve_pages(wanted), zone.admin_min)
    if pages > 0:
        setup_per_zone_wmarks(zone, wmark_min)  # nobody else takes more of it from here on
        if zone.free + zone.reserve_out < atomic_floor_pages(wmark_min):
            if zone.free <= zone.wmark_low and zone.kswapd is not None:
                zone.kswapd()
            return False
    zone.reserve = wanted
    setup_per_zone_wmarks(zone, wmark_min)
    return True


def alloc_pages(zone: Zone, gfp: int, order: int, *, pf_memalloc: bool) -> int:
    """A token of 2**order pages, or NONE.

    The ordinary watermarks first: min, or below it as far as the mask allows. Then, past all of them, a task with
    PF_MEMALLOC, or (the hunk) a mask with __GFP_MEMALLOC; __GFP_NOMEMALLOC wins over both.
    """
    free = zone.free
    size = 1 << order
    if free <= zone.wmark_low + size and zone.kswapd is not None:
        zone.kswapd()
    floor = zone.wmark_min if not gfp & HIGH else zone.atomic_floor
    reserve = 0
    if free - size + 1 <= floor:
        if gfp & NOMEMALLOC or not (pf_memalloc or (gfp & MEMALLOC and zone.gfp_memalloc)) or free < size:
            return NONE
        reserve = 1
    frame = 0
    if zone.buddy is not None:
        found = zone.buddy.alloc(order)
        if found is None:
            return NONE
        frame = found
    if reserve:
        zone.reserve_out += size
    zone.free = free = free - size
    if free < zone.low_water:
        zone.low_water = free
    return frame << 1 | reserve


def free_pages(zone: Zone, token: int, order: int) -> None:
    """Gives the pages of a token back, and wakes the first of those that wait for memory."""
    if zone.buddy is not None:
        zone.buddy.free(token >> 1, order)
    if token & 1:
        zone.reserve_out -= 1 << order
    zone.free += 1 << order
    assert zone.free <= zone.pages, (zone.free, zone.pages)
    if zone.waiters and zone.free > zone.wmark_min and zone.wake is not None:
        zone.wake()


def may_wait(gfp: int) -> bool:
    """Whether the caller may sleep."""
    return bool(gfp & WAIT)
