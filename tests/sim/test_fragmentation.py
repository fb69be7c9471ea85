"""Mempools against the global pool: the arithmetic, and every sentence that the module says about the outcome."""

from __future__ import annotations

from functools import cache
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.design import Kernel
from tidegate.sim.buddy import MAX_ORDER
from tidegate.sim.fragmentation import (
    JUMBO_ORDER,
    WAYS,
    Fragmentation,
    Kind,
    Row,
    _Memory,
    blocks_to_be_had,
    compare_fragmentation,
    fragmentation,
    fragmentation_text,
    unusable_free_index,
    usable_pages,
    usable_share,
)

OLD, NEW = Kernel.V2_6_12, Kernel.V6_12
SEEDS = range(5)


@cache
def rows() -> dict[tuple[Kernel, int, Kind, int], Row]:
    return {
        (row.kernel, row.long_lived_percent, row.kind, row.element_order): row
        for row in compare_fragmentation(SEEDS)
    }


def lists(**counts: int) -> tuple[int, ...]:
    """Free blocks by order: lists(o0=3, o2=1)."""
    return tuple(counts.get(f"o{order}", 0) for order in range(MAX_ORDER))


def test_usable_and_unusable_free_memory() -> None:
    available = lists(o0=4, o1=2, o3=1)  # 4 + 4 + 8 pages
    assert [usable_pages(available, order) for order in (0, 1, 2, 3, 4)] == [16, 12, 8, 8, 0]
    assert [usable_share(available, order) for order in (0, 1, 3, 4)] == [1.0, 0.75, 0.5, 0.0]
    assert [unusable_free_index(available, order) for order in (0, 1, 3, 4)] == [0, 250, 500, 1000]


def test_no_free_memory_is_wholly_unusable() -> None:
    assert (unusable_free_index(lists(), 0), usable_share(lists(), 0)) == (1000, 0.0)


def walk(available: tuple[int, ...], order: int, mark: int, kernel: Kernel) -> int:
    """Take blocks one by one, each with the test of mm/page_alloc.c as its text has it."""
    area = list(available)
    taken = 0
    while True:
        free_pages = sum(count << at for at, count in enumerate(area)) - (1 << order) + 1
        least = mark
        fine = free_pages > least
        if kernel is OLD:
            for at in range(order):
                free_pages -= area[at] << at
                least >>= 1
                fine = fine and free_pages > least
        found = next((at for at in range(order, MAX_ORDER) if area[at]), None)
        if not fine or found is None:
            return taken
        area[found] -= 1
        for at in range(order, found):
            area[at] += 1
        taken += 1


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    available=st.tuples(*[st.integers(0, 40 >> order) for order in range(MAX_ORDER)]),
    mark=st.integers(0, 200),
    kernel=st.sampled_from([OLD, NEW]),
)
def test_blocks_to_be_had_is_what_taking_them_one_by_one_gives(
    available: tuple[int, ...], mark: int, kernel: Kernel
) -> None:
    had = blocks_to_be_had(available, mark, kernel)
    assert had == tuple(walk(available, order, mark, kernel) for order in range(MAX_ORDER))


def small(
    kind: Kind, *, seed: int = 1, kernel: Kernel = OLD, order: int = 0, churn: int = 40
) -> Fragmentation:
    return fragmentation(
        pages=2048,
        reserve_pages=128,
        pools=8,
        churn=churn,
        seed=seed,
        kind=kind,
        kernel=kernel,
        element_order=order,
    )


@pytest.mark.parametrize("kernel", [OLD, NEW])
@pytest.mark.parametrize("kind", Kind)
def test_a_run_keeps_its_reserve_and_nothing_else(kind: Kind, kernel: Kernel) -> None:
    run = small(kind, kernel=kernel)
    by_moment = {sample.moment: sample for sample in run.samples}
    assert [sample.moment for sample in run.samples] == ["filled", *["churned"] * 4, "freed", "compacted"]
    pinned = 128 if kind in {Kind.BOOT, Kind.LOAD} else 0
    kept = 128 if kind in {Kind.GLOBAL, Kind.RAISED} else 0
    assert by_moment["churned"].pinned_pages == pinned == run.elements == run.elements_wanted
    assert by_moment["churned"].free_pages == 32 + kept  # the last of them: memory is full
    assert by_moment["filled"].pinned_pages == (pinned if kind is Kind.BOOT else 0)
    assert by_moment["filled"].free_pages == 32 + (kept if kind is Kind.GLOBAL else 0)
    assert by_moment["freed"].free_pages == by_moment["compacted"].free_pages
    assert by_moment["freed"].free_pages + pinned + 2048 * 2 // 100 == pytest.approx(0.9 * 2048, rel=0.08)
    assert (run.touched[0], bool(run.touched[10])) == (pinned, bool(pinned))
    assert run.jumbo_wanted == 32
    assert bool(run.jumbo) == bool(kept)


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    assert small(Kind.LOAD) == small(Kind.LOAD)
    assert small(Kind.LOAD).samples != small(Kind.LOAD, seed=2).samples


def test_pools_of_order_2_are_counted_in_elements() -> None:
    run = small(Kind.BOOT, order=2)
    assert (run.elements, run.elements_wanted, run.jumbo, run.samples[0].pinned_pages) == (32, 32, 32, 128)


def test_pools_that_cannot_be_made_are_missing_and_said_so() -> None:
    run = fragmentation(pages=256, reserve_pages=512, pools=4, churn=8, kind=Kind.LOAD)
    assert run.elements < run.elements_wanted == 512
    assert run.elements % 128 == 0


def test_a_raised_watermark_holds_at_once() -> None:
    run = fragmentation(pages=2048, reserve_pages=128, pools=1, churn=8, kind=Kind.RAISED)
    free = {sample.batches: sample.free_pages for sample in run.samples if sample.moment == "churned"}
    assert free == {2: 32, 4: 160, 6: 160, 8: 160}


def test_an_element_is_paid_for_by_reclaim_and_not_by_the_watermark() -> None:
    memory = _Memory(64, OLD, 32, Random(0))
    memory.use(0)
    assert memory.buddy.free_pages == 32
    element = memory.alloc_element(2)
    assert element is not None
    assert (memory.pinned, memory.buddy.free_pages >= 32) == ([element], True)
    memory.free_element(element)
    assert memory.pinned == []
    assert memory.buddy.free_pages >= 36


def test_no_churn_leaves_the_global_reserve_in_one_piece() -> None:
    run = small(Kind.GLOBAL, churn=0)
    assert (run.jumbo, run.jumbo_wanted) == (32, 32)


# What the module says.


def test_pools_made_under_load_spoil_blocks_for_good_in_2_6_12() -> None:
    table = rows()
    for order in (0, 2):
        pools, pool_free = table[OLD, 0, Kind.LOAD, order], table[OLD, 0, Kind.GLOBAL, 0]
        assert pools.fewer[9] == pools.fewer[6] == len(SEEDS)
        assert (pools.blocks_compacted[9], pool_free.blocks_compacted[9]) == (0, 13)
    assert table[OLD, 0, Kind.LOAD, 0].blocks_compacted[6] < table[OLD, 0, Kind.LOAD, 2].blocks_compacted[6]


def test_beside_other_unmovable_pages_order_9_is_lost_anyway_but_not_order_6() -> None:
    table = rows()
    pools, pool_free = table[OLD, 2, Kind.LOAD, 0], table[OLD, 2, Kind.GLOBAL, 0]
    assert pools.blocks_compacted[9] == pool_free.blocks_compacted[9] == 0
    assert pools.fewer[6] == len(SEEDS)
    assert pools.blocks_compacted[6] * 4 < pool_free.blocks_compacted[6]


@pytest.mark.parametrize("order", [0, 2])
def test_pools_made_at_boot_lie_together(order: int) -> None:
    for kernel in (OLD, NEW):
        run = small(Kind.BOOT, kernel=kernel, order=order)
        assert run.touched[9] == 1
        assert rows()[kernel, 0, Kind.BOOT, order].fewer[9] == 0
        assert small(Kind.LOAD, order=order).touched[9] > 1


def test_scraps_cannot_stand_in_for_a_pool() -> None:
    for kernel in (OLD, NEW):
        pools, pool_free = rows()[kernel, 2, Kind.BOOT, 0], rows()[kernel, 2, Kind.GLOBAL, 0]
        assert pools.blocks_freed[3] < pool_free.blocks_freed[3]
        assert pools.unusable_index[3] > 0


def test_grouping_by_mobility_saves_order_9_from_single_pages_but_not_from_order_2() -> None:
    table = rows()
    assert (
        table[NEW, 2, Kind.LOAD, 0].blocks_compacted[9]
        >= table[NEW, 2, Kind.BOOT, 0].blocks_compacted[9]
        > 10
    )
    assert table[NEW, 2, Kind.LOAD, 2].blocks_compacted[9] <= 2
    assert table[NEW, 2, Kind.LOAD, 2].fewer[9] == len(SEEDS)
    assert table[NEW, 0, Kind.LOAD, 0].fewer[9] == len(SEEDS)  # no unmovable block that has room


def test_grouping_by_mobility_has_no_room_for_large_pools_on_a_full_machine() -> None:
    for seed in SEEDS:
        many, few = (fragmentation(pools=pools, kernel=NEW, kind=Kind.LOAD, seed=seed) for pools in (16, 4))
        assert few.blocks_compacted[9] < 4
        assert many.blocks_compacted[9] > 10
        assert few.touched[9] > many.touched[9]


def test_the_global_reserve_costs_no_more_than_any_pool() -> None:
    for (kernel, percent, kind, _), row in rows().items():
        least = rows()[kernel, percent, Kind.GLOBAL, 0]
        if kind in {Kind.BOOT, Kind.LOAD}:
            assert all(row.blocks_compacted[at] <= least.blocks_compacted[at] for at in (3, 6, 9))
            assert row.blocks_freed[3] <= least.blocks_freed[3]


def test_a_jumbo_frame_has_a_reserve_in_a_pool_of_order_2_only() -> None:
    for (_, _, kind, order), row in rows().items():
        if kind in {Kind.BOOT, Kind.LOAD}:
            expected = row.jumbo_wanted if order == JUMBO_ORDER else 0
            assert row.jumbo == row.jumbo_least == expected
            assert row.jumbo_all == (len(SEEDS) if expected else 0)
        elif kind is Kind.RAISED:
            assert row.jumbo_all < len(SEEDS)
            assert row.jumbo_least < row.jumbo_wanted // 2
        else:
            assert row.jumbo_least < row.jumbo_wanted


def test_a_row_adds_up_its_runs() -> None:
    row = rows()[OLD, 0, Kind.LOAD, 2]
    assert (row.runs, row.elements, row.elements_wanted) == (len(SEEDS), 64, 64)
    assert rows()[OLD, 0, Kind.GLOBAL, 0].fewer == rows()[OLD, 0, Kind.GLOBAL, 0].more == (0,) * MAX_ORDER
    assert row.blocks_freed[6] < row.blocks_compacted[6]
    assert len(rows()) == 4 * len(WAYS)
    assert all(row.fewer[at] + row.more[at] <= row.runs for row in rows().values() for at in range(MAX_ORDER))


def test_the_text_is_a_plain_stable_table() -> None:
    table = (rows()[OLD, 0, Kind.RAISED, 0], rows()[OLD, 0, Kind.LOAD, 2])
    text = fragmentation_text(table)
    lines = text.splitlines()
    assert text == fragmentation_text(table)
    assert text.endswith("\n")
    assert lines[0].split()[:4] == ["kernel", "unmovable", "reserve", "order"]
    assert lines[1].startswith("2.6.12  0 %        watermark, raised under load      -")
    assert lines[2].startswith("2.6.12  0 %        mempools, made under load         2")
    assert lines[2].endswith("64     64  5/5")
    assert lines[4].startswith("Medians of 5 seeds.")
    assert not any(line.endswith(" ") for line in lines)
    assert fragmentation_text(()).startswith("kernel")
