"""Mempools: elements when the zone has nothing, refilled before anything goes back, and who waits is served."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.sim.buddy import Buddy
from tidegate.sim.mempool import Mempool, Unfilled


class Zone:
    """A page counter: a token is a running number, so that nothing can be given back twice."""

    def __init__(self, pages: int) -> None:
        self.free = pages
        self.out: dict[int, int] = {}
        self.last = 0

    def alloc_pages(self, order: int) -> int | None:
        if self.free < 1 << order:
            return None
        self.free -= 1 << order
        self.last += 1
        self.out[self.last] = order
        return self.last

    def free_pages(self, token: int) -> None:
        self.free += 1 << self.out.pop(token)


def pool_on(zone: Zone, elements: int = 2, order: int = 0) -> Mempool[int]:
    return Mempool(elements, order, zone.alloc_pages, zone.free_pages)


def test_elements_are_allocated_beforehand_and_pinned() -> None:
    zone = Zone(16)
    pool = pool_on(zone, elements=3, order=2)
    assert (zone.free, pool.elements, pool.pinned_pages, pool.low_water) == (4, 3, 12, 3)
    assert pool.ordinary == 0


def test_a_pool_that_cannot_be_filled_is_not_made_and_keeps_nothing() -> None:
    zone = Zone(9)
    with pytest.raises(Unfilled, match="2 of 3 elements of order 2"):
        pool_on(zone, elements=3, order=2)
    assert (zone.free, zone.out) == (9, {})


def test_ordinary_first_then_elements_then_nothing_for_an_atomic_caller() -> None:
    zone = Zone(3)
    pool = pool_on(zone)
    assert all(pool.mempool_alloc() is not None for _ in range(3))
    assert (pool.ordinary, pool.from_pool, pool.elements, pool.pinned_pages) == (1, 2, 0, 0)
    assert pool.mempool_alloc() is None
    assert (pool.refused, pool.low_water, pool.waiting) == (1, 0, 0)


def test_a_free_refills_the_pool_before_anything_goes_back_to_the_zone() -> None:
    zone = Zone(3)
    pool = pool_on(zone)
    tokens = [pool.mempool_alloc() for _ in range(3)]
    for token in tokens:  # the first of them came from the zone, and stays in the pool
        assert token is not None
        pool.mempool_free(token)
    assert (pool.elements, pool.refilled, pool.returned, zone.free) == (2, 2, 1, 1)
    assert tokens[0] not in (tokens[1], tokens[2])
    assert tokens[0] in zone.out
    assert pool.low_water == 0


def test_who_may_wait_sleeps_and_is_served_in_turn() -> None:
    zone = Zone(1)
    pool = pool_on(zone, elements=1)
    token = pool.mempool_alloc()
    assert token is not None
    first: list[int] = []
    second: list[int] = []
    assert pool.mempool_alloc(first.append) is None
    assert pool.mempool_alloc(second.append) is None
    assert (pool.waiting, pool.queued, pool.refused) == (2, 2, 0)
    pool.mempool_free(token)
    assert (first, second) == ([token], [])
    pool.mempool_free(token)
    assert (first, second) == ([token], [token])
    assert (pool.waiting, pool.elements) == (0, 0)


def test_who_is_woken_tries_the_ordinary_way_first_and_leaves_the_element_to_the_next() -> None:
    zone = Zone(1)
    pool = pool_on(zone, elements=1)
    token = pool.mempool_alloc()
    assert token is not None
    served: list[int] = []
    for _ in range(2):
        assert pool.mempool_alloc(served.append) is None
    zone.free = 1
    pool.mempool_free(token)
    assert len(served) == 2
    assert served[1] == token
    assert (pool.waiting, pool.elements, zone.free) == (0, 0, 0)


def test_a_served_caller_may_use_the_pool_at_once() -> None:
    zone = Zone(1)
    pool = pool_on(zone, elements=1)
    token = pool.mempool_alloc()
    assert token is not None
    pool.mempool_alloc(pool.mempool_free)
    served: list[int] = []
    pool.mempool_alloc(served.append)
    pool.mempool_free(token)
    assert (served, pool.waiting, pool.elements) == ([token], 0, 0)


def test_free_pages_of_the_zone_wake_nobody_until_the_timeout_of_later_kernels() -> None:
    zone = Zone(1)
    pool = pool_on(zone, elements=1)
    pool.mempool_alloc()
    served: list[int] = []
    pool.mempool_alloc(served.append)
    zone.free = 5
    assert (pool.waiting, served) == (1, [])  # 2.6.12 sleeps on, with five pages free
    pool.mempool_timeout()
    assert (pool.waiting, len(served), zone.free) == (0, 1, 4)


def test_a_pool_shrinks_at_once_and_grows_as_far_as_the_zone_goes() -> None:
    zone = Zone(10)
    pool = pool_on(zone, elements=4)
    assert pool.mempool_resize(1) == 1
    assert (zone.free, pool.min_elements, pool.low_water) == (9, 1, 1)
    assert pool.mempool_resize(12) == 10
    assert (zone.free, pool.min_elements) == (0, 12)
    zone.out[99] = 0
    pool.mempool_free(99)  # the rest comes by frees
    assert (pool.elements, zone.free) == (11, 0)


def test_growing_wakes_nobody() -> None:
    zone = Zone(1)
    pool = pool_on(zone, elements=1)
    pool.mempool_alloc()
    pool.mempool_alloc(lambda _: None)
    zone.free = 5
    assert (pool.mempool_resize(2), pool.waiting) == (2, 1)


def test_a_pool_that_somebody_waits_for_is_not_destroyed() -> None:
    zone = Zone(3)
    pool = pool_on(zone)
    for _ in range(3):
        pool.mempool_alloc()
    pool.mempool_alloc(lambda _: None)
    with pytest.raises(AssertionError, match="1 callers sleep"):
        pool.mempool_destroy()


def test_destroyed_a_pool_gives_everything_back() -> None:
    zone = Zone(9)
    pool_on(zone, elements=2, order=2).mempool_destroy()
    assert zone.free == 9


def test_it_sits_on_the_buddy_allocator_too() -> None:
    buddy = Buddy(16)

    def free(frame: int) -> None:
        buddy.free(frame, 2)

    pool = Mempool(2, 2, buddy.alloc, free)
    frames = [pool.mempool_alloc() for _ in range(4)]
    assert sorted(frame for frame in frames if frame is not None) == [0, 4, 8, 12]
    assert pool.mempool_alloc() is None
    for frame in frames:
        assert frame is not None
        pool.mempool_free(frame)
    pool.mempool_destroy()
    assert buddy.available()[4] == 1
    buddy.check()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    pages=st.integers(1, 12),
    elements=st.integers(1, 4),
    steps=st.lists(
        st.sampled_from(["atomic", "wait", "free", "others", "timeout", "grow", "shrink"]), max_size=40
    ),
)
def test_nothing_is_lost_and_nobody_sleeps_beside_an_element(
    pages: int, elements: int, steps: list[str]
) -> None:
    zone = Zone(pages)
    try:
        pool = pool_on(zone, elements=elements)
    except Unfilled:
        assert elements > pages
        return
    held: list[int] = []
    others: list[int] = []
    grown = False
    for step in steps:
        if step in {"atomic", "wait"}:
            token = pool.mempool_alloc(held.append if step == "wait" else None)
            held += [] if token is None else [token]
        elif step == "free" and held:
            pool.mempool_free(held.pop(0))
            grown = False
        elif step == "others" and (token := zone.alloc_pages(0)) is not None:
            others.append(token)
        elif step == "others" and others:
            zone.free_pages(others.pop())
        elif step == "timeout":
            pool.mempool_timeout()
            grown = False
        elif step in {"grow", "shrink"}:
            pool.mempool_resize(max(1, pool.min_elements + (1 if step == "grow" else -1)))
            grown = grown or step == "grow"
        assert zone.free + len(held) + len(others) + pool.elements == pages
        assert pool.low_water <= pool.elements <= pool.min_elements
        assert grown or not (pool.waiting and pool.elements)
        assert pool.ordinary + pool.from_pool == len(held) + pool.refilled + pool.returned
