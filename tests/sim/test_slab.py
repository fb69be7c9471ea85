"""Objects in pages: a page comes back with its last object, and since 3.6 not everybody gets every free object."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.sim.gfp import GFP_ATOMIC, GFP_KERNEL, MEMALLOC
from tidegate.sim.page_alloc import Zone, setup_per_zone_wmarks, take_at_boot
from tidegate.sim.slab import PAGE_BYTES, Cache, Slab, cache_alloc, cache_free, cache_of


def zone_with(free: int, *, wmark_min: int = 0) -> Zone:
    zone = Zone(100, gfp_memalloc=True, buddy=None)
    setup_per_zone_wmarks(zone, wmark_min)
    take_at_boot(zone, 100 - free)
    return zone


@pytest.mark.parametrize(
    ("object_bytes", "size", "order", "per_slab"),
    [
        (1, 256, 0, 16),
        (512, 512, 0, 8),
        (2048, 2048, 0, 2),
        (2049, 4096, 0, 1),
        (4097, 8192, 1, 1),
        (9216, 16384, 2, 1),
    ],
)
def test_the_general_caches_are_powers_of_two(
    object_bytes: int, size: int, order: int, per_slab: int
) -> None:
    cache = cache_of(object_bytes, pfmemalloc=False)
    assert (cache.object_bytes, cache.order, cache.per_slab) == (size, order, per_slab)
    assert cache.name == f"size-{size}"


def test_a_cache_whose_objects_do_not_fit_its_pages_cannot_be() -> None:
    with pytest.raises(AssertionError):
        Cache("wrong", 2048, per_slab=3, order=0, pfmemalloc=False)


def objects(zone: Zone, cache: Cache, number: int, gfp: int = GFP_KERNEL) -> list[Slab]:
    found = [cache_alloc(zone, cache, gfp, pf_memalloc=False) for _ in range(number)]
    assert None not in found
    return [one for one in found if one is not None]


def test_a_page_comes_back_with_its_last_object() -> None:
    zone, cache = zone_with(10), cache_of(1024, pfmemalloc=False)
    slabs = objects(zone, cache, 4)
    assert (zone.free, cache.slabs, cache.inuse, len(set(map(id, slabs)))) == (9, 1, 4, 1)
    assert [cache_free(zone, slab) for slab in slabs] == [0, 0, 0, 1]
    assert (zone.free, cache.slabs, cache.inuse, cache.partial) == (10, 0, 0, [])


def test_an_object_that_is_freed_twice_is_seen() -> None:
    zone, cache = zone_with(10), cache_of(4096, pfmemalloc=False)
    (slab,) = objects(zone, cache, 1)
    cache_free(zone, slab)
    with pytest.raises(AssertionError, match="size-4096"):
        cache_free(zone, slab)


@given(st.sampled_from([1024, 2048, 4096, 9216]), st.lists(st.integers(0, 30), max_size=120))
def test_every_object_and_page_is_accounted_for(object_bytes: int, actions: list[int]) -> None:
    zone, cache = zone_with(40), cache_of(object_bytes, pfmemalloc=False)
    held: list[Slab] = []
    for action in actions:
        if action >= 12 or not held:
            slab = cache_alloc(zone, cache, GFP_KERNEL, pf_memalloc=False)
            assert (slab is None) == (zone.free < 1 << cache.order and not cache.partial)
            held += [slab] if slab is not None else []
        else:
            cache_free(zone, held.pop(action % len(held)))
        distinct = {id(slab): slab for slab in held}.values()
        assert cache.inuse == len(held)
        assert cache.slabs == len(distinct)
        assert zone.free + (len(distinct) << cache.order) == 40
        partial = [slab for slab in distinct if slab.inuse < cache.per_slab]
        assert {id(slab) for slab in cache.partial} == {id(slab) for slab in partial}
        assert all(cache.partial[slab.index] is slab for slab in partial)


@pytest.mark.parametrize("pfmemalloc", [False, True])
def test_who_gets_a_free_object_in_a_page_of_the_reserve(*, pfmemalloc: bool) -> None:
    """2.6.12: whoever comes next. 6.12: pfmemalloc_match() says only who may use the reserve."""
    zone, cache = zone_with(8, wmark_min=80), cache_of(2048, pfmemalloc=pfmemalloc)
    assert cache_alloc(zone, cache, GFP_ATOMIC, pf_memalloc=False) is None
    first = cache_alloc(zone, cache, GFP_ATOMIC | MEMALLOC, pf_memalloc=False)
    assert first is not None
    assert first.token & 1
    ordinary = cache_alloc(zone, cache, GFP_ATOMIC, pf_memalloc=False)
    assert (ordinary is first) is not pfmemalloc
    if pfmemalloc:
        assert ordinary is None
        assert cache_alloc(zone, cache, GFP_ATOMIC, pf_memalloc=True) is first


def test_the_rule_of_6_12_passes_over_the_reserve_to_an_ordinary_slab() -> None:
    zone, cache = zone_with(61, wmark_min=80), cache_of(1024, pfmemalloc=True)  # GFP_ATOMIC ends at 30
    ordinary = objects(zone, cache, 1, GFP_ATOMIC)[0]
    assert not ordinary.token & 1
    take_at_boot(zone, zone.free - 20)
    others = objects(zone, cache, 3, GFP_ATOMIC)
    assert {id(one) for one in others} == {id(ordinary)}  # it is full now
    reserve = objects(zone, cache, 1, GFP_ATOMIC | MEMALLOC)[0]
    assert reserve.token & 1
    cache_free(zone, ordinary)
    cache.partial.sort(key=lambda slab: slab.token & 1)  # the one of the reserve is looked at first
    for at, slab in enumerate(cache.partial):
        slab.index = at
    assert cache_alloc(zone, cache, GFP_ATOMIC, pf_memalloc=False) is ordinary
    assert cache_alloc(zone, cache, GFP_ATOMIC, pf_memalloc=False) is None
    assert cache_alloc(zone, cache, GFP_ATOMIC | MEMALLOC, pf_memalloc=False) is reserve
    assert PAGE_BYTES == 4096
