"""The kernel's watermark arithmetic: against numbers of real machines, and back and forth at random."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate import watermarks as wm
from tidegate.host.procfs import zoneinfo

STOCK = (6, 12, 117)


def zone(name: str, managed: int, **changes: int | str | tuple[int, ...] | None) -> wm.Zone:
    """An ordinary zone, all of it free."""
    plain = wm.Zone(
        node=0,
        name=name,
        free=managed,
        boost=0,
        min=0,
        low=0,
        high=0,
        promo=0,
        spanned=managed,
        present=managed,
        managed=managed,
        cma=0,
        free_cma=0,
        protection=(0, 0, 0, 0, 0),
        pcp=0,
        highatomic=0,
        reclaimable=1,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def four_gib() -> tuple[wm.Zone, ...]:
    """A stock 6.12.117 guest of 4 GB; what /proc/zoneinfo said is in the comments of the tests."""
    return (
        zone("DMA", 3840),
        zone("DMA32", 756365),
        zone("Normal", 1004108 - 3840 - 756365),
        zone("Movable", 0),
        zone("Device", 0),
    )


def marks(zones: tuple[wm.Zone, ...]) -> dict[str, tuple[int, int, int, int | None]]:
    return {one.name: (one.min, one.low, one.high, one.promo) for one in zones}


# --- forward -----------------------------------------------------------------------------------------------


def test_watermarks_of_a_stock_guest_with_huge_pages() -> None:
    # The kernel printed 64, 12718 and 4112: its managed pages grew after it had calculated them.
    made = marks(wm.setup_per_zone_wmarks(four_gib(), 67584))
    assert made["DMA"][0] == 64
    assert made["DMA32"][0] == pytest.approx(12718, rel=0.001)
    assert made["Normal"][0] == pytest.approx(4112, rel=0.003)
    assert made["DMA32"][1] - made["DMA32"][0] == 12727 // 4


def test_on_a_small_reserve_the_scale_factor_sets_the_distance() -> None:
    made = marks(wm.setup_per_zone_wmarks(four_gib(), 2048))
    assert made["DMA32"][:2] == (385, 1141)  # as the kernel printed them


def test_this_machine_has_the_watermarks_that_the_arithmetic_gives() -> None:
    release = Path("/proc/sys/kernel/osrelease").read_text().split("-")[0].split(".")
    kernel = (int(release[0]), int(release[1]), int(release[2]))
    zones = zoneinfo(Path("/proc/zoneinfo").read_text())
    min_free = int(Path("/proc/sys/vm/min_free_kbytes").read_text())
    scale = int(Path("/proc/sys/vm/watermark_scale_factor").read_text())
    for found in wm.compare(zones, min_free, scale_factor=scale, kernel=kernel):
        assert found.relative <= 0.001 or found.cause is wm.Cause.MANAGED_GREW, found


def test_this_machine_has_the_lowmem_reserve_that_the_arithmetic_gives() -> None:
    zones = zoneinfo(Path("/proc/zoneinfo").read_text())
    ratios = [int(word) for word in Path("/proc/sys/vm/lowmem_reserve_ratio").read_text().split()]
    computed = wm.setup_per_zone_lowmem_reserve(zones, ratios)
    for was, now in zip(zones, computed, strict=True):
        assert was.protection == pytest.approx(now.protection, rel=0.001, abs=1)


def test_a_live_zoneinfo_that_is_off_is_noticed() -> None:
    zones = wm.setup_per_zone_wmarks(four_gib(), 67584)
    assert {one.cause for one in wm.compare(zones, 67584)} == {wm.Cause.SAME}
    assert wm.Cause.NOT_YET_APPLIED in {one.cause for one in wm.compare(zones, 80000)}


def test_lowmem_reserve_of_4_gib() -> None:
    dma, dma32, normal, *_ = wm.setup_per_zone_lowmem_reserve(four_gib(), (256, 256, 32, 0, 0), STOCK)
    assert dma.protection == (0, 756365 // 256, (1004108 - 3840) // 256, 3907, 3907)
    assert dma32.protection[2] == (1004108 - 3840 - 756365) // 256 == 952
    assert normal.protection == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("kernel", "protected"),
    [((6, 1, 150), True), ((6, 10, 3), False), ((6, 12, 18), False), ((6, 12, 19), True), ((6, 14, 0), True)],
)
def test_for_a_while_empty_zones_had_no_protection(kernel: wm.Version, protected: bool) -> None:
    small = (zone("DMA", 3840), zone("DMA32", 250000), zone("Normal", 0), zone("Movable", 0))
    dma, *_ = wm.setup_per_zone_lowmem_reserve(small, (256, 256, 32, 0), kernel)
    assert dma.protection == ((0, 976, 976, 976) if protected else (0, 976, 0, 0))


@pytest.mark.parametrize(("kernel", "capped"), [((6, 1, 0), False), ((6, 6, 0), True), (None, True)])
def test_movable_zones_are_capped_since_6_6(kernel: wm.Version | None, capped: bool) -> None:
    zones = (zone("Normal", 100_000), zone("Movable", 300_000))
    normal, movable = wm.setup_per_zone_wmarks(zones, 40_000, kernel=kernel)
    assert normal.min == (10_000 if capped else 2_500)
    assert movable.min == (128 if capped else 7_500)
    # The distance comes from the share before the cap: more than 300000 * 10 / 10000.
    assert movable.low - movable.min == (30_000 // 4 if capped else 7_500 // 4)


@pytest.mark.parametrize(("managed", "least"), [(1024, 32), (65536, 64), (10_000_000, 128)])
def test_the_cap_of_a_movable_zone(managed: int, least: int) -> None:
    _, movable = wm.setup_per_zone_wmarks((zone("Normal", 50_000), zone("Movable", managed)), 4096)
    assert movable.min == least


def test_kernel_default_and_recommendation() -> None:
    # vm.rst: 4 GB -> 8192 kB or a little less; stock guests with huge pages: 45056 and 67584.
    assert wm.calculate_min_free_kbytes(four_gib()) == 8016
    assert wm.calculate_min_free_kbytes((zone("DMA32", 1000),)) == 252
    assert wm.calculate_min_free_kbytes((zone("Normal", 1 << 32),)) == 262144
    assert wm.khugepaged_recommended_kib(four_gib(), wm.pageblock_pages(2048)) == 67584
    one_gib = (zone("DMA", 3840), zone("DMA32", 245_000))
    assert wm.khugepaged_recommended_kib(one_gib, wm.pageblock_pages(None)) == 45056
    tiny = (zone("DMA32", 18_000),)
    assert wm.khugepaged_recommended_kib(tiny, 512) == 18_000 // 20 * 4


def test_where_a_value_comes_from() -> None:
    zones = wm.setup_per_zone_wmarks(four_gib(), 67584)
    assert wm.origin(zones, 67584, thp=True, pageblock=512) is wm.Origin.THP
    assert wm.origin(zones, 8192, thp=False, pageblock=512) is wm.Origin.USER
    assert wm.origin(zones, 8000, thp=False, pageblock=512) is wm.Origin.DEFAULT
    assert wm.in_force_kib(zones, 4096, thp=True, pageblock=512) == 67584
    assert wm.in_force_kib(zones, 100_000, thp=True, pageblock=512) == 100_000
    assert wm.in_force_kib(zones, 4096, thp=False, pageblock=512) == 4096


def test_causes_of_a_difference() -> None:
    zones = wm.setup_per_zone_wmarks(four_gib(), 67584)
    boosted = tuple(
        replace(one, boost=500, min=one.min + 500, low=one.low + 500, high=one.high + 500, promo=None)
        for one in zones
    )
    causes = {one.cause for one in wm.compare(boosted, 67584)}
    assert causes == {wm.Cause.BOOST}
    grown = (*zones[:2], replace(zones[2], managed=zones[2].managed * 11 // 10), *zones[3:])
    assert wm.Cause.MANAGED_GREW in {one.cause for one in wm.compare(grown, 67584)}
    assert {one.cause for one in wm.compare(zones, 67584)} == {wm.Cause.SAME}
    off_by_one = (replace(zones[0], min=zones[0].min + 1), *zones[1:])
    assert wm.Cause.ROUNDING in {one.cause for one in wm.compare(off_by_one, 67584)}


# --- floors and what is exclusive --------------------------------------------------------------------------


@given(st.integers(0, 10**9))
def test_the_atomic_share_is_three_eighths(pages: int) -> None:
    share = wm.atomic_share(pages)
    assert 0 <= share - 3 * pages / 8 <= 1.5
    assert wm.atomic_share(pages + 1) - share in (0, 1)


@pytest.mark.parametrize(
    ("zones", "pages"),
    [
        # DMA: min, lowmem_reserve; DMA32; Normal: what only memalloc users reach with default settings
        ((zone("DMA", 3840, min=33, protection=(0, 188, 188)), zone("DMA32", 48_000, min=423)), 358),
        ((zone("DMA", 3840, min=176, protection=(0, 952, 952)), zone("DMA32", 240_000, min=11087)), 5175),
        (
            (
                zone("DMA", 3840, min=64, protection=(0, 2954, 3907)),
                zone("DMA32", 756365, min=12718, protection=(0, 0, 952)),
                zone("Normal", 243_903, min=4112),
            ),
            11103,
        ),
    ],
    ids=["256 MB", "1 GB", "4 GB"],
)
def test_what_is_exclusive_on_stock_guests(zones: tuple[wm.Zone, ...], pages: int) -> None:
    index = wm.normal_index(zones)
    assert sum(wm.exclusive(one, index, cpus=0) for one in zones) == pytest.approx(pages, abs=2)


def test_what_memalloc_users_cannot_take_either() -> None:
    one = zone("DMA32", 240_000, min=8000)
    whole = wm.exclusive(one, 2, cpus=0)
    assert whole == 3000
    assert wm.exclusive(replace(one, highatomic=512), 2, cpus=0) == whole - 512
    assert wm.exclusive(replace(one, free_cma=100), 2, cpus=0) == whole - 100
    assert wm.exclusive(one, 2, cpus=2) == whole - 2 * 63
    assert wm.exclusive(replace(one, free=1000), 2, cpus=0) == 1000
    assert wm.exclusive(replace(one, pcp=5000), 2, cpus=0) == whole  # not part of NR_FREE_PAGES
    assert wm.exclusive(replace(one, boost=4000, min=12_000), 2, cpus=0) == whole  # the boost gives nothing
    assert wm.exclusive(zone("Movable", 240_000, min=128), 2, cpus=0) == 0


def test_the_index_of_kernel_requests() -> None:
    assert wm.normal_index(four_gib()) == 2
    assert wm.normal_index((zone("DMA", 1), zone("Normal", 1), zone("Movable", 1))) == 1
    assert wm.normal_index((zone("DMA32", 1), zone("Normal", 1))) == 1
    assert wm.lowmem_reserve(zone("DMA", 1, protection=(0, 5, 9)), 2) == 9
    assert wm.lowmem_reserve(zone("DMA", 1, protection=(0, 5)), 2) == 5
    assert wm.lowmem_reserve(zone("DMA", 1, protection=()), 2) == 0


def test_batches_of_the_per_cpu_lists() -> None:
    assert [wm.zone_batchsize(mib * 256) for mib in (128, 256, 512, 1024, 65536)] == [7, 15, 31, 63, 63]
    assert wm.zone_batchsize(10) == 1


# --- the throttle of direct reclaim ------------------------------------------------------------------------


def small_guest(reclaimable: int | None = 0) -> tuple[wm.Zone, ...]:
    return (
        zone("DMA", 3840, min=33, protection=(0, 188, 188), reclaimable=reclaimable),
        zone("DMA32", 48_000, min=423),
    )


def test_a_zone_with_nothing_to_reclaim_counts_since_6aaced5abd32() -> None:
    floors = wm.atomic_share(33) + 188 + wm.atomic_share(423)
    assert wm.band(small_guest(), 2, (6, 12, 117)) == (33 + 423) // 2 - floors < 0
    assert wm.band(small_guest(), 2, (6, 12, 8)) == 423 // 2 - wm.atomic_share(423) > 0
    assert wm.band(small_guest(reclaimable=7), 2, (6, 12, 8)) == (33 + 423) // 2 - floors


@pytest.mark.parametrize(
    ("kernel", "counts"),
    [
        ((6, 1, 123), False),
        ((6, 1, 124), True),
        ((6, 6, 70), True),
        ((6, 12, 9), True),
        ((6, 14, 2), True),
        ((6, 1, 0), None),  # Debian calls all of 6.1.x so
        ((6, 8, 0), None),  # a distribution's branch: it may carry the change
        ((6, 18, 0), None),  # a later change was proposed for it
        (None, None),
    ],
)
def test_which_kernels_count_free_pages(kernel: wm.Version | None, counts: bool | None) -> None:
    assert wm.counts_unreclaimable_zones(kernel) is counts


def test_where_it_cannot_be_told_the_band_is_the_smaller_one() -> None:
    sure = wm.band(small_guest(), 2, (6, 12, 117))
    assert wm.band(small_guest(), 2, None) == sure
    assert wm.band(small_guest(reclaimable=None), 2, (6, 12, 8)) == sure


def test_the_boost_raises_the_throttle_and_not_the_floor() -> None:
    (_, dma32) = small_guest()
    boosted = replace(dma32, boost=1000, min=dma32.min + 1000)
    assert wm.band((boosted,), 2, STOCK) == (423 + 1000) // 2 - wm.atomic_share(423)


def test_the_narrowest_node_counts() -> None:
    wide = replace(zone("Normal", 100_000, min=8000), node=1)
    narrow = zone("Normal", 100_000, min=800)
    assert wm.band((narrow, wide), 0, STOCK) == 100
    assert wm.band((), 0, STOCK) is None


# --- the inverse -------------------------------------------------------------------------------------------

sizes = st.integers(0, 5_000_000)


@st.composite
def machines(draw: st.DrawFn) -> tuple[wm.Zone, ...]:
    """One or two nodes with some of the zones that kernels have."""
    made = []
    for node in range(draw(st.integers(1, 2))):
        for name in ("DMA", "DMA32", "Normal", "Movable"):
            protection = (0, *(draw(st.integers(0, 5000)) for _ in range(3)))
            made.append(replace(zone(name, draw(sizes)), node=node, protection=protection))
    return tuple(made)


def reached(zones: tuple[wm.Zone, ...], min_free_kib: int, scale: int) -> int:
    """What only memalloc users can take with this min_free_kbytes while enough is free."""
    after = wm.setup_per_zone_wmarks(zones, min_free_kib, scale_factor=scale)
    index = wm.normal_index(after)
    return sum(wm.exclusive(one, index, cpus=2) for one in after)


@given(machines(), st.integers(0, 4_000_000), st.integers(0, 100_000), st.integers(1, 3000))
def test_the_forward_sum_never_falls(zones: tuple[wm.Zone, ...], kib: int, more: int, scale: int) -> None:
    assert reached(zones, kib, scale) <= reached(zones, kib + more, scale)


@given(machines(), st.integers(0, 300_000))
def test_the_inverse_is_exact(zones: tuple[wm.Zone, ...], need: int) -> None:
    most = 8_000_000
    found = wm.least_min_free_kib(need, lambda kib: reached(zones, kib, 10), most)
    if found is None:
        assert reached(zones, most, 10) < need
        return
    assert reached(zones, found, 10) >= need
    assert found == 0 or reached(zones, found - 1, 10) < need


@given(machines(), st.integers(0, 4_000_000))
def test_the_zones_share_min_free_between_them(zones: tuple[wm.Zone, ...], kib: int) -> None:
    after = wm.setup_per_zone_wmarks(zones, kib)
    shared = [one for one in after if one.name != "Movable"]
    if sum(one.managed for one in shared):
        assert kib // 4 - len(shared) < sum(one.min for one in shared) <= kib // 4
    for one in after:
        assert one.min <= one.low <= one.high
        assert one.boost == 0


def test_the_inverse_of_the_rule_of_eight_thirds() -> None:
    """Without a lowmem term a reserve of R pages takes 8/3 of it as min_free_kbytes."""
    zones = (zone("DMA32", 250_000),)
    found = wm.least_min_free_kib(434, lambda kib: reached(zones, kib, 10), 1_000_000)
    batches = 2 * wm.zone_batchsize(250_000)
    assert found is not None
    assert found == pytest.approx((434 + batches) * 4 * 8 / 3, rel=0.01)


def test_what_a_value_withholds() -> None:
    zones = wm.setup_per_zone_wmarks(four_gib(), 67584)
    found = wm.share(zones)
    assert found.min_pages == pytest.approx(16896, abs=3)
    assert found.high_pages == pytest.approx(16896 * 1.5, rel=0.001)
    assert found.of_ram == pytest.approx(0.0252, rel=0.01)
    assert wm.share(zones, ram_pages=2 * 1004108).of_ram == pytest.approx(found.of_ram / 2)
