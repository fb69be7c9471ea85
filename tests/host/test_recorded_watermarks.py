"""The recorded hosts have the watermarks that the arithmetic gives, or one of the known causes says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate import watermarks as wm
from tidegate.host.facts import Host
from tidegate.host.opening import open_record
from tidegate.host.read import read_host

HOSTS = sorted((Path(__file__).resolve().parent.parent.parent / "hosts").glob("*.tar.xz"))


@pytest.fixture(params=HOSTS, ids=lambda path: path.name.removesuffix(".tar.xz"))
def host(request: pytest.FixtureRequest) -> Host:
    return read_host(open_record(request.param))


def test_there_are_recorded_hosts() -> None:
    assert HOSTS


def test_forward(host: Host) -> None:
    memory = host.memory
    assert memory is not None
    assert memory.min_free_kib is not None
    assert memory.watermark_scale_factor is not None
    found = wm.compare(
        memory.zones,
        memory.min_free_kib,
        scale_factor=memory.watermark_scale_factor,
        page_bytes=host.page_bytes,
        kernel=host.kernel.version,
    )
    assert found
    for one in found:
        assert one.relative <= 0.001 or one.cause in (wm.Cause.MANAGED_GREW, wm.Cause.ROUNDING), one


def test_lowmem_reserve(host: Host) -> None:
    memory = host.memory
    assert memory is not None
    computed = wm.setup_per_zone_lowmem_reserve(
        memory.zones, memory.lowmem_reserve_ratio, host.kernel.version
    )
    for was, now in zip(memory.zones, computed, strict=True):
        for recorded, made in zip(was.protection, now.protection, strict=True):
            # Made at boot, before the kernel freed its own init memory: never more than what it would be now.
            assert made * 0.9 - 1 <= recorded <= made + 1
            assert (recorded == 0) == (made == 0)


def test_where_min_free_comes_from(host: Host) -> None:
    memory = host.memory
    assert memory is not None
    assert memory.min_free_kib is not None
    found = wm.origin(
        memory.zones,
        memory.min_free_kib,
        thp=bool(memory.thp_enabled),
        pageblock=wm.pageblock_pages(memory.hugepage_kib, host.page_bytes),
        page_bytes=host.page_bytes,
    )
    assert found in (wm.Origin.DEFAULT, wm.Origin.THP, wm.Origin.USER)


def test_the_inverse_on_a_real_machine(host: Host) -> None:
    memory = host.memory
    assert memory is not None

    def reached(kib: int) -> int:
        zones = wm.setup_per_zone_wmarks(memory.zones, kib, kernel=host.kernel.version)
        index = wm.normal_index(zones)
        return sum(wm.exclusive(zone, index, host.cpus or 1, host.page_bytes) for zone in zones)

    most = sum(zone.managed for zone in memory.zones) * host.page_bytes // 1024
    for need in (1, 100, 1000, 3000):
        least = wm.least_min_free_kib(need, reached, most)
        if least is None:
            assert reached(most) < need
            continue
        assert reached(least) >= need
        assert least == 0 or reached(least - 1) < need
