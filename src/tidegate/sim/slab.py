"""Objects in pages: kmem_cache_alloc() and kmem_cache_free() (mm/slab.c of 2.6.12, mm/slub.c of 6.12).

A page holds several objects, and comes back only when all of them are free. In 2.6.12 nobody asks how a slab's page
was had: a free object in a page of the reserve goes to the next caller, whoever that is. Since 3.6 such a slab is only
handed to callers that may use the reserve themselves (pfmemalloc_match()).

Not modelled: per-CPU arrays, free slabs that are kept, colouring.
"""

from __future__ import annotations

from tidegate.sim.gfp import MEMALLOC
from tidegate.sim.page_alloc import NONE, Zone, alloc_pages, free_pages

PAGE_BYTES = 4096


class Slab:
    """One slab: the token of its pages, how many objects are in use, its place in the list of partial ones."""

    __slots__ = ("cache", "index", "inuse", "token")

    def __init__(self, cache: Cache, token: int) -> None:
        self.cache = cache
        self.token = token
        self.inuse = 1
        self.index = -1


class Cache:
    """Objects of one size."""

    __slots__ = ("inuse", "name", "object_bytes", "order", "partial", "per_slab", "pfmemalloc", "slabs")

    def __init__(self, name: str, object_bytes: int, *, per_slab: int, order: int, pfmemalloc: bool) -> None:
        assert per_slab * object_bytes <= PAGE_BYTES << order, (name, object_bytes, per_slab)
        self.name = name
        self.object_bytes = object_bytes
        self.per_slab = per_slab
        self.order = order
        self.pfmemalloc = pfmemalloc
        self.partial: list[Slab] = []
        self.inuse = self.slabs = 0


def cache_of(object_bytes: int, *, pfmemalloc: bool) -> Cache:
    """The general cache for so many bytes: a power of two, pages of the least order that holds one."""
    size = max(1 << (object_bytes - 1).bit_length(), 256)
    order = max(0, (size // PAGE_BYTES).bit_length() - 1)
    per_slab = (PAGE_BYTES << order) // size
    return Cache(f"size-{size}", size, per_slab=per_slab, order=order, pfmemalloc=pfmemalloc)


def cache_alloc(zone: Zone, cache: Cache, gfp: int, *, pf_memalloc: bool) -> Slab | None:
    """An object: the slab it lies in, or None."""
    partial = cache.partial
    if partial:
        slab: Slab | None = partial[-1]
        if cache.pfmemalloc and partial[-1].token & 1 and not (pf_memalloc or gfp & MEMALLOC):
            slab = next((one for one in reversed(partial) if not one.token & 1), None)
        if slab is not None:
            slab.inuse += 1
            cache.inuse += 1
            if slab.inuse == cache.per_slab:
                _unlink(partial, slab)
            return slab
    token = alloc_pages(zone, gfp, cache.order, pf_memalloc=pf_memalloc)
    if token == NONE:
        return None
    slab = Slab(cache, token)
    cache.slabs += 1
    cache.inuse += 1
    if cache.per_slab > 1:
        slab.index = len(partial)
        partial.append(slab)
    return slab


def cache_free(zone: Zone, slab: Slab) -> int:
    """Gives an object back; the pages that came back to the zone with it."""
    cache = slab.cache
    slab.inuse -= 1
    cache.inuse -= 1
    assert slab.inuse >= 0, cache.name
    if slab.inuse:
        if slab.index < 0:
            slab.index = len(cache.partial)
            cache.partial.append(slab)
        return 0
    if slab.index >= 0:
        _unlink(cache.partial, slab)
    cache.slabs -= 1
    free_pages(zone, slab.token, cache.order)
    return 1 << cache.order


def _unlink(partial: list[Slab], slab: Slab) -> None:
    last = partial.pop()
    if last is not slab:
        partial[slab.index] = last
        last.index = slab.index
    slab.index = -1
