"""Allocation masks, and how far below min each may go.

include/linux/gfp.h; mm/page_alloc.c: zone_watermark_ok() of 2.6.12, gfp_to_alloc_flags() and __zone_watermark_ok()
of 6.12. The arithmetic is the same in both: __GFP_HIGH takes half of min off, not being able to wait another quarter
of the rest. They differ in who gets past all watermarks: see `ignores_watermarks`.
"""

from __future__ import annotations

WAIT = 1  # may sleep and reclaim
HIGH = 2  # __GFP_HIGH
MEMALLOC = 4  # __GFP_MEMALLOC, the hunk of gfp.h
NOMEMALLOC = 8  # __GFP_NOMEMALLOC

GFP_KERNEL = WAIT
GFP_NOIO = WAIT
GFP_ATOMIC = HIGH


def atomic_floor_pages(wmark_min_pages: int) -> int:
    """Where GFP_ATOMIC ends: min, less a half, less a quarter of what is left: 3/8."""
    half = wmark_min_pages - wmark_min_pages // 2
    return half - half // 4


def min_for_reserve_pages(reserve_pages: int) -> int:
    """The least min whose lowest 3/8, which GFP_ATOMIC cannot take, hold so many pages."""
    wmark_min = reserve_pages * 8 // 3
    while wmark_min and atomic_floor_pages(wmark_min - 1) >= reserve_pages:
        wmark_min -= 1
    while atomic_floor_pages(wmark_min) < reserve_pages:
        wmark_min += 1
    return wmark_min


def computed_min_pages(pages: int) -> int:
    """init_per_zone_pages_min(): min_free_kbytes is isqrt(16 * lowmem_kbytes), between 128 and 65536."""
    from math import isqrt

    return min(max(isqrt(16 * pages * 4), 128), 65536) // 4
