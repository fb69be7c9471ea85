"""Packets: where their memory comes from, what the mark says of it, and that all of it comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sim.machines import boot, leave_free, packet

from tidegate.sim.gfp import GFP_ATOMIC, MEMALLOC
from tidegate.sim.machine import Machine
from tidegate.sim.skbuff import (
    HEAD_BYTES,
    Skb,
    alloc_skb,
    dev_alloc_skb,
    dev_memalloc_skb,
    is_memalloc_skb,
    kfree_skb,
    skb_clone,
    skb_copy,
)

SLABS = {"page_per_skb": False}


def short_of_memory(name: str = "mail", *left_out: str, pages: int = 40, slabs: bool = False) -> Machine:
    """GFP_ATOMIC finds nothing, the reserve has this many pages."""
    m = boot(name, *left_out, machine={"page_per_skb": not slabs})
    leave_free(m, pages)
    assert pages < m.zone.atomic_floor
    return m


def reserved(m: Machine) -> Skb:
    skb = dev_memalloc_skb(m, m.rx_cache, GFP_ATOMIC)
    assert skb is not None
    return skb


def test_head_and_data_or_neither() -> None:
    m = boot("mail", machine=SLABS)
    leave_free(m, m.zone.atomic_floor + 1)
    assert m.heads is not None
    heads, m.heads.partial = (
        m.heads.inuse,
        [],
    )  # the head needs a page of its own, and then there is none for data
    assert alloc_skb(m, m.rx_cache, GFP_ATOMIC) is None
    assert m.heads.inuse == heads
    assert m.zone.free == m.zone.atomic_floor + 1


def test_what_a_packet_is_charged_for() -> None:
    m = boot("mail", machine=SLABS)
    skb = alloc_skb(m, m.rx_cache, GFP_ATOMIC)
    assert skb is not None
    assert skb.truesize == 2048 + HEAD_BYTES
    page = boot("mail")
    skb = alloc_skb(page, page.rx_cache, GFP_ATOMIC)
    assert skb is not None
    assert skb.truesize == 4096


def test_the_reserve_is_the_second_choice() -> None:
    m = boot("mail")
    skb = reserved(m)
    assert (skb.mark, skb.reserve, m.zone.reserve_out) == (False, False, 0)
    leave_free(m, 40)
    assert dev_alloc_skb(m, m.rx_cache, GFP_ATOMIC) is None  # who did not ask for it does not get it
    skb = reserved(m)
    assert (skb.mark, skb.reserve, m.zone.reserve_out) == (True, True, 1)
    assert [one.id for one in m.milestones] == ["kswapd_woken", "reserve_entered"]


def test_without_ordinary_first_everything_is_marked() -> None:
    skb = reserved(boot("mail", "ordinary_first"))
    assert (skb.mark, skb.reserve) == (True, False)


def test_without_the_mark_nobody_can_tell() -> None:
    m = short_of_memory("mail", "mark")
    skb = reserved(m)
    assert skb.reserve
    assert not is_memalloc_skb(m, skb)


def test_pages_are_counted_in_place_of_marks() -> None:
    m = boot("page_accounting")
    ordinary = dev_alloc_skb(m, m.rx_cache, GFP_ATOMIC)
    assert ordinary is not None
    assert not is_memalloc_skb(m, ordinary)
    leave_free(m, 40)
    skb = reserved(m)
    assert (skb.mark, m.pages_out) == (False, 1)
    assert is_memalloc_skb(m, ordinary)  # "it doesn't actually matter which socket buffer we return"
    kfree_skb(m, ordinary)
    assert m.pages_out == 0
    assert not is_memalloc_skb(m, skb)


def test_a_slab_page_is_counted_once_and_comes_back_with_its_last_object() -> None:
    m = short_of_memory("page_accounting", slabs=True)
    assert m.heads is not None
    m.heads.partial, m.rx_cache.partial = [], []
    one, two = reserved(m), reserved(m)
    assert m.pages_out == 2  # a page of heads, a page of data with two buffers
    kfree_skb(m, one)
    assert m.pages_out == 2
    kfree_skb(m, two)
    assert m.pages_out == 0
    m = short_of_memory("page_accounting", slabs=True)
    assert m.heads is not None
    m.rx_cache.partial = []
    for number in (2, 3):  # each time a page for the head, and the second buffer in the page of the first
        m.heads.partial = []
        reserved(m)
        assert m.pages_out == number


@pytest.mark.parametrize(("name", "cleared"), [("mail", True), ("mainline", False)])
def test_a_clone_loses_the_mark_in_the_hunk_and_keeps_it_in_6_12(name: str, *, cleared: bool) -> None:
    m = short_of_memory(name)
    skb = reserved(m)
    clone = skb_clone(m, skb, GFP_ATOMIC)
    assert clone is not None
    assert clone.mark is not cleared
    assert clone.reserve  # whatever it says, it lies in the reserve
    free = m.zone.free
    kfree_skb(m, skb)
    assert m.zone.free == free  # shared data go with their last user
    kfree_skb(m, clone)
    assert m.zone.free == free + 1


def test_a_clone_needs_a_head_and_6_12_gives_it_one_of_the_reserve() -> None:
    for name, found in (("mail", False), ("mainline", True)):
        m = short_of_memory(name, slabs=True)
        skb = reserved(m)
        assert m.heads is not None
        m.heads.partial = []
        assert (skb_clone(m, skb, GFP_ATOMIC) is not None) is found


def test_a_copy_lies_in_memory_of_its_own() -> None:
    m = short_of_memory("mail")
    skb = reserved(m)
    assert skb_copy(m, skb, m.rx_cache, GFP_ATOMIC) is None
    copy = skb_copy(m, skb, m.rx_cache, GFP_ATOMIC | MEMALLOC)
    assert copy is not None
    assert copy.mark  # by its own memory
    m = boot("mail")
    skb = packet(m, GFP_ATOMIC)
    skb.mark = True
    for name, mark in (("mail", False), ("patch", False)):
        copy = skb_copy(m, skb, m.rx_cache, GFP_ATOMIC)
        assert copy is not None
        assert (copy.mark, copy.frame) == (mark, skb.frame), name
    kept = boot("mail", "copy_clears")
    skb = packet(kept, GFP_ATOMIC)
    skb.mark = True
    copy = skb_copy(kept, skb, kept.rx_cache, GFP_ATOMIC)
    assert copy is not None
    assert copy.mark


def test_elements_of_a_mempool_come_after_ordinary_memory_and_go_back_to_it() -> None:
    m = boot("mempool")
    (pool,) = m.pools
    skb = reserved(m)
    assert skb.pool is None
    leave_free(m, 10)
    skb = reserved(m)
    assert (skb.pool, skb.mark, pool.free, m.zone.free) == (pool, True, 59, 10)
    kfree_skb(m, skb)
    assert (pool.free, m.zone.free) == (60, 10)
    for _ in range(60):
        reserved(m)
    assert dev_memalloc_skb(m, m.rx_cache, GFP_ATOMIC) is None


def test_socket_pools_lend_from_their_acknowledge_pools() -> None:
    m = boot("socket_pools")  # two connections: a send and an acknowledge pool each
    assert [(one.name, one.elements) for one in m.pools] == [
        ("send swap/0", 15),
        ("send swap/1", 15),
        ("acknowledge swap/0", 15),
        ("acknowledge swap/1", 15),
    ]
    leave_free(m, 10)
    skbs = [dev_memalloc_skb(m, m.rx_cache, GFP_ATOMIC) for _ in range(31)]
    assert sum(skb is not None for skb in skbs) == 30
    assert [pool.free for pool in m.pools] == [15, 15, 0, 0]


@given(slabs=st.booleans(), actions=st.lists(st.integers(0, 3), max_size=50))
def test_everything_comes_back(*, slabs: bool, actions: list[int]) -> None:
    m = short_of_memory("mail", pages=55, slabs=slabs)
    start = (m.zone.free, m.rx_cache.inuse, m.zone.reserve_out)
    held: list[Skb] = []
    for action in actions:
        new: Skb | None = None
        if action == 0 or not held:
            new = dev_memalloc_skb(m, m.rx_cache, GFP_ATOMIC)
        elif action == 1:
            new = skb_clone(m, held[-1], GFP_ATOMIC)
        elif action == 2:
            new = skb_copy(m, held[0], m.rx_cache, GFP_ATOMIC | MEMALLOC)
        else:
            kfree_skb(m, held.pop(len(held) // 2))
        held += [new] if new is not None else []
    for skb in held:
        kfree_skb(m, skb)
    assert (m.zone.free, m.rx_cache.inuse, m.zone.reserve_out) == start
