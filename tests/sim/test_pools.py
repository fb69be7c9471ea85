"""Elements that are kept apart."""

from __future__ import annotations

import pytest

from tidegate.sim.pools import ReservePool


def test_so_many_elements_and_no_more() -> None:
    pool = ReservePool("reserve", 2, 4)
    assert [pool.take() for _ in range(3)] == [True, True, False]
    assert (pool.free, pool.low_water, pool.elements, pool.pages_each) == (0, 0, 2, 4)
    pool.put()
    assert (pool.free, pool.low_water) == (1, 0)
    assert pool.take()


def test_an_element_that_is_given_back_twice_is_seen() -> None:
    pool = ReservePool("reserve", 2)
    with pytest.raises(AssertionError, match="reserve"):
        pool.put()


def test_one_waiter_an_element() -> None:
    pool = ReservePool("reserve", 2)
    pool.take()
    pool.take()
    called: list[str] = []
    pool.waiters.extend([lambda: called.append("one"), lambda: called.append("two")])
    pool.put()
    assert called == ["one"]
    pool.put()
    assert called == ["one", "two"]


def test_it_grows_at_once_and_shrinks_by_what_is_not_lent_out() -> None:
    pool = ReservePool("reserve", 3)
    pool.grow(2)
    assert (pool.elements, pool.free) == (5, 5)
    for _ in range(4):
        pool.take()
    assert pool.shrink(3) == 1
    assert (pool.elements, pool.free) == (4, 0)
    for _ in range(4):
        pool.put()
    assert pool.shrink(4) == 4
    assert (pool.elements, pool.free) == (0, 0)
