"""One zone: who gets which of the last pages, and what a page says of where it came from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sim.machines import boot

from tidegate.sim.buddy import Buddy
from tidegate.sim.gfp import (
    GFP_ATOMIC,
    GFP_KERNEL,
    GFP_NOIO,
    MEMALLOC,
    NOMEMALLOC,
    atomic_floor_pages,
    min_for_reserve_pages,
)
from tidegate.sim.page_alloc import (
    NONE,
    Zone,
    adjust_memalloc_reserve,
    alloc_pages,
    free_pages,
    may_wait,
    setup_per_zone_wmarks,
    take_at_boot,
)

MIN = 80
FLOOR = 30  # 3/8


def zone_of(pages: int = 200, *, flag: bool = True, lists: bool = False, wmark_min: int = MIN) -> Zone:
    zone = Zone(pages, gfp_memalloc=flag, buddy=Buddy(pages) if lists else None)
    setup_per_zone_wmarks(zone, wmark_min)
    return zone


def taken_until_none(zone: Zone, gfp: int, *, pf_memalloc: bool = False) -> list[int]:
    tokens = []
    while (token := alloc_pages(zone, gfp, 0, pf_memalloc=pf_memalloc)) != NONE:
        tokens.append(token)
    return tokens


@pytest.mark.parametrize(
    ("gfp", "pf_memalloc", "flag", "ends_at"),
    [
        (GFP_KERNEL, False, True, MIN),
        (GFP_NOIO, False, True, MIN),
        (GFP_ATOMIC, False, True, FLOOR),
        (GFP_ATOMIC | MEMALLOC, False, True, 0),
        (GFP_ATOMIC | MEMALLOC, False, False, FLOOR),  # without the hunk the flag is an unknown bit
        (GFP_KERNEL, True, False, 0),  # PF_MEMALLOC is older than the patch
        (GFP_ATOMIC, True, False, 0),
        (GFP_NOIO | NOMEMALLOC, True, True, MIN),  # __GFP_NOMEMALLOC wins over everything
        (GFP_ATOMIC | MEMALLOC | NOMEMALLOC, True, True, FLOOR),
    ],
)
def test_who_may_go_how_far(gfp: int, pf_memalloc: bool, flag: bool, ends_at: int) -> None:
    zone = zone_of(flag=flag)
    tokens = taken_until_none(zone, gfp, pf_memalloc=pf_memalloc)
    assert zone.free == zone.low_water == ends_at
    # Only what no watermark would have given is of the reserve, whoever asked for it.
    ordinary = FLOOR if gfp & 2 else MIN
    assert sum(token & 1 for token in tokens) == zone.reserve_out == max(0, ordinary - ends_at)


@given(
    free=st.integers(0, 200),
    wmark_min=st.integers(0, 150),
    order=st.integers(0, 3),
    gfp=st.sampled_from([GFP_KERNEL, GFP_ATOMIC, GFP_ATOMIC | MEMALLOC, GFP_NOIO | NOMEMALLOC]),
    pf_memalloc=st.booleans(),
)
def test_a_request_is_granted_as_the_watermarks_say(
    *, free: int, wmark_min: int, order: int, gfp: int, pf_memalloc: bool
) -> None:
    zone = zone_of(wmark_min=wmark_min)
    take_at_boot(zone, 200 - free)
    # __zone_watermark_ok(): free - ((1 << order) - 1) must be more than the floor of the mask.
    floor = atomic_floor_pages(wmark_min) if gfp & 2 else wmark_min
    ordinary = free - ((1 << order) - 1) > floor
    privileged = (pf_memalloc or bool(gfp & MEMALLOC)) and not gfp & NOMEMALLOC and free >= 1 << order
    token = alloc_pages(zone, gfp, order, pf_memalloc=pf_memalloc)
    assert (token != NONE) == (ordinary or privileged)
    if token == NONE:
        assert zone.free == free
        return
    assert bool(token & 1) == (not ordinary)
    assert zone.free == free - (1 << order)
    free_pages(zone, token, order)
    assert (zone.free, zone.reserve_out) == (free, 0)


def test_low_and_high_follow_min() -> None:
    zone = zone_of()
    assert (zone.wmark_min, zone.wmark_low, zone.wmark_high, zone.atomic_floor) == (80, 100, 120, 30)


def test_a_page_that_is_freed_twice_is_seen_at_the_latest_when_there_are_too_many() -> None:
    zone = zone_of()
    token = alloc_pages(zone, GFP_KERNEL, 0, pf_memalloc=False)
    free_pages(zone, token, 0)
    with pytest.raises(AssertionError, match=r"\(201, 200\)"):
        free_pages(zone, token, 0)


def test_what_is_taken_at_boot_must_be_there() -> None:
    zone = zone_of(lists=True)
    take_at_boot(zone, 150)
    assert (zone.free, zone.low_water) == (50, 200)  # low water speaks of what happened after boot
    assert zone.buddy is not None
    assert zone.buddy.free_pages == 50
    with pytest.raises(AssertionError):
        take_at_boot(zone, 51)


def test_free_pages_in_lists_need_not_lie_together() -> None:
    tokens = {}
    for lists in (False, True):
        zone = zone_of(16, lists=lists, wmark_min=0)
        singles = [alloc_pages(zone, GFP_KERNEL, 0, pf_memalloc=False) for _ in range(16)]
        for token in singles[::2]:
            free_pages(zone, token, 0)
        tokens[lists] = alloc_pages(zone, GFP_KERNEL, 1, pf_memalloc=True)
        assert zone.free == (8 if lists else 6)
    assert tokens[True] == NONE != tokens[False]


def test_kswapd_is_woken_at_low() -> None:
    zone = zone_of()
    woken: list[int] = []
    zone.kswapd = lambda: woken.append(zone.free)
    taken_until_none(zone, GFP_KERNEL)
    assert woken[0] == zone.wmark_low + 1
    assert (
        len(woken) == zone.wmark_low + 1 - MIN + 1
    )  # with every request from then on, the one that fails too


def test_sleepers_are_woken_above_min_only() -> None:
    zone = zone_of()
    tokens = taken_until_none(zone, GFP_KERNEL, pf_memalloc=True)
    woken: list[int] = []
    zone.wake = lambda: woken.append(zone.free)
    for token in tokens[: MIN - 2]:
        free_pages(zone, token, 0)
    zone.waiters.append(lambda: None)
    for token in tokens[MIN - 2 : MIN + 2]:
        free_pages(zone, token, 0)
    assert woken == [MIN + 1, MIN + 2]
    zone.waiters.clear()
    free_pages(zone, tokens[MIN + 2], 0)
    assert len(woken) == 2  # nobody waits


@pytest.mark.parametrize(("gfp", "may"), [(GFP_KERNEL, True), (GFP_NOIO, True), (GFP_ATOMIC, False)])
def test_who_may_sleep(gfp: int, may: bool) -> None:
    assert may_wait(gfp) is may


# Resizing.


def test_the_reserve_grows_only_by_pages_that_are_there() -> None:
    zone = zone_of(400, wmark_min=0)
    assert adjust_memalloc_reserve(zone, 30)
    assert (zone.reserve, zone.wmark_min, zone.atomic_floor) == (30, min_for_reserve_pages(30), 30)
    tokens = taken_until_none(zone, GFP_ATOMIC)
    woken: list[int] = []
    zone.kswapd = lambda: woken.append(zone.free)
    assert not adjust_memalloc_reserve(zone, 20)
    assert zone.reserve == 30
    assert woken  # who asks for more makes kswapd work
    assert zone.atomic_floor == 50  # nobody else takes more of it from here on
    for token in tokens[:20]:
        free_pages(zone, token, 0)
    assert adjust_memalloc_reserve(zone, 20)
    assert (zone.reserve, zone.atomic_floor) == (50, 50)


def test_pages_that_are_out_of_the_reserve_count_as_there() -> None:
    zone = zone_of(400, wmark_min=0)
    adjust_memalloc_reserve(zone, 30)
    tokens = taken_until_none(zone, GFP_ATOMIC)
    borrowed = taken_until_none(zone, GFP_ATOMIC | MEMALLOC)
    assert (zone.free, zone.reserve_out) == (0, len(borrowed))
    assert adjust_memalloc_reserve(zone, 0)
    assert not adjust_memalloc_reserve(zone, 1)
    for token in tokens[:10]:
        free_pages(zone, token, 0)
    assert (zone.free, zone.reserve_out) == (10, 30)
    assert adjust_memalloc_reserve(zone, 10)


def test_a_reserve_shrinks_at_once_and_not_below_nothing() -> None:
    zone = zone_of(400, wmark_min=0)
    adjust_memalloc_reserve(zone, 30)
    assert adjust_memalloc_reserve(zone, -10)
    assert (zone.reserve, zone.atomic_floor) == (20, 20)
    with pytest.raises(AssertionError):
        adjust_memalloc_reserve(zone, -21)


def test_what_the_administrator_wrote_is_kept_beside_the_reserve() -> None:
    zone = zone_of(400, wmark_min=0)
    zone.admin_min = 100
    adjust_memalloc_reserve(zone, 10)
    assert zone.wmark_min == 100
    adjust_memalloc_reserve(zone, 50)
    assert zone.wmark_min == min_for_reserve_pages(60) > 150
    adjust_memalloc_reserve(zone, -50)
    assert zone.wmark_min == 100


def test_growing_never_lowers_the_min_that_the_case_asked_for() -> None:
    m = boot(machine={"min_pages": 200, "reserve_pages": 30})
    assert m.zone.wmark_min == 200
    adjust_memalloc_reserve(m.zone, 10)
    assert m.zone.wmark_min == 200
