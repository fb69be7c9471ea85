"""How far below min each mask may go: the formulas of 2.6.12 and 6.12, which are the same for what is used here."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, isqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.sim.gfp import atomic_floor_pages, computed_min_pages, min_for_reserve_pages

PAGES = st.integers(0, 1 << 24)


@given(PAGES)
def test_the_atomic_floor_is_three_eighths_of_min(wmark_min: int) -> None:
    # __zone_watermark_ok(): min -= min / 2 for ALLOC_MIN_RESERVE, then min -= min / 4 for ALLOC_NON_BLOCK.
    assert atomic_floor_pages(wmark_min) == ceil(Fraction(3, 4) * ceil(Fraction(wmark_min, 2)))
    assert 0 <= atomic_floor_pages(wmark_min) - Fraction(3 * wmark_min, 8) <= Fraction(9, 8)


@given(PAGES)
def test_min_for_a_reserve_is_the_least_that_holds_it(reserve: int) -> None:
    wmark_min = min_for_reserve_pages(reserve)
    assert atomic_floor_pages(wmark_min) >= reserve
    assert wmark_min == 0 or atomic_floor_pages(wmark_min - 1) < reserve


@given(PAGES, PAGES)
def test_more_reserve_never_asks_for_less_min(one: int, other: int) -> None:
    small, large = sorted((one, other))
    assert min_for_reserve_pages(small) <= min_for_reserve_pages(large)


@pytest.mark.parametrize(
    ("pages", "kib"),
    [
        (4096, 512),  # 16 MiB: the comment above init_per_zone_pages_min() has this table
        (8192, 724),
        (16384, 1024),
        (32768, 1448),
        (65536, 2048),
        (131_072, 2896),
        (262_144, 4096),
        (1 << 22, 16384),  # 16 GiB
        (1, 128),
        (1 << 30, 65536),
    ],
)
def test_what_the_kernel_computes_for_min(pages: int, kib: int) -> None:
    assert computed_min_pages(pages) == kib // 4
    assert 128 <= kib <= 65536
    assert kib in {128, 65536} or kib == isqrt(16 * pages * 4)
