"""The parsers of /proc: real texts give their facts, altered ones say which line is wrong."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.host import made

from tidegate.host import procfs
from tidegate.host.reading import Garbled, integer

ZONES = made.base("256M").members["proc/zoneinfo"].data.decode()

OLD_ZONE = """Node 0, zone   Normal
  pages free     100
        min      40
        low      50
        high     60
        spanned  1000
        present  1000
        managed  990
        protection: (0, 0)
  pagesets
    cpu: 0
              count: 7
              high:  42
              batch: 7
    cpu: 1
              count: 5
  vm stats threshold: 8
  node_unreclaimable:  0
  start_pfn:           4096
"""


def test_zones_with_all_their_numbers() -> None:
    zones = procfs.zoneinfo(ZONES)
    assert [zone.name for zone in zones] == ["DMA", "DMA32", "Normal", "Movable", "Device"]
    dma32 = zones[1]
    assert dma32.managed == 65536 - 3840
    assert dma32.min < dma32.low < dma32.high < (dma32.promo or 0)
    assert dma32.pcp == 31
    assert dma32.reclaimable == sum(dma32.managed // part for part in (4, 8, 16, 32))
    assert zones[0].protection[1] == dma32.managed // 256
    assert zones[2].managed == zones[2].reclaimable == 0


def test_a_kernel_that_prints_neither_boost_nor_promo() -> None:
    (zone,) = procfs.zoneinfo(OLD_ZONE)
    assert (zone.boost, zone.promo, zone.cma, zone.pcp, zone.highatomic, zone.reclaimable) == (
        0,
        None,
        None,
        12,
        None,
        None,
    )


@pytest.mark.parametrize(
    "name", ["free", "min", "low", "high", "spanned", "present", "managed", "protection"]
)
def test_a_zone_without_one_of_its_lines_is_garbled(name: str) -> None:
    lines = [line for line in OLD_ZONE.splitlines() if name not in line]
    with pytest.raises(Garbled, match=name if name != "high" else "high"):
        procfs.zoneinfo("\n".join(lines))


def test_a_zone_that_ends_early_is_garbled() -> None:
    with pytest.raises(Garbled, match="start_pfn"):
        procfs.zoneinfo(OLD_ZONE.partition("  pagesets")[0])


def test_watermarks_out_of_order_are_garbled() -> None:
    with pytest.raises(Garbled, match="out of order"):
        procfs.zoneinfo(OLD_ZONE.replace("low      50", "low      90"))


def test_zones_before_any_head_are_garbled() -> None:
    with pytest.raises(Garbled, match="line 1"):
        procfs.zoneinfo("  pages free 3\n")
    with pytest.raises(Garbled, match="nothing"):
        procfs.zoneinfo("")


@given(st.text(alphabet="Node 0123456789,zoneDMApgsfrmilwht()\n:", max_size=400))
def test_zoneinfo_raises_nothing_else(text: str) -> None:
    with suppress(Garbled):
        procfs.zoneinfo(text)


def test_highatomic_pages_by_order() -> None:
    text = (
        "Page block order: 9\n"
        "Node    0, zone    DMA32, type   HighAtomic      1      0      2      0 \n"
        "Node    0, zone    DMA32, type      Movable    >100000   1      2      0 \n"
    )
    assert procfs.highatomic(text) == {(0, "DMA32"): 1 + 2 * 4}


def test_meminfo_in_kib() -> None:
    assert procfs.meminfo("MemTotal:  64 kB\nHugePages_Total:  0\n") == {"MemTotal": 64, "HugePages_Total": 0}
    for wrong in ("MemFree: 1 kB\n", "MemTotal: 1 MB\n", "MemTotal: x kB\n", "MemTotal 1 kB\n"):
        with pytest.raises(Garbled):
            procfs.meminfo(wrong)


def test_swap_lines() -> None:
    line = procfs.swap_line("/srv/my\\040swap                           file\t\t1024\t\t8\t\t-2")
    assert (line.path, line.kind, line.size_kib, line.used_kib, line.priority) == (
        "/srv/my swap",
        "file",
        1024,
        8,
        -2,
    )
    for wrong in (
        "/dev/sda partition 1 2",
        "dev/sda partition 1 2 3",
        "/dev/sda ram 1 2 3",
        "/dev/sda file 1 2 q",
    ):
        with pytest.raises(Garbled):
            procfs.swap_line(wrong)


def test_mount_lines() -> None:
    mount = procfs.mount_line(
        "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
    )
    assert (mount.device, mount.point, mount.fstype, mount.source) == ("98:0", "/mnt 2", "ext3", "/dev/root")
    assert "errors=continue" in mount.options
    read_only = procfs.mount_line("36 35 98:0 / / ro - ext3 /dev/root rw")
    assert "ro" in read_only.options
    assert "rw" not in read_only.options
    for wrong in (
        "36 35 98:0 / /",
        "36 35 98.0 / / rw - ext3 a rw",
        "36 35 98:0 / / rw - ext3 a",
        "x 35 98:0 / / rw - e a b",
    ):
        with pytest.raises(Garbled):
            procfs.mount_line(wrong)


def test_mountstats_of_nfs() -> None:
    text = (
        "no device mounted on /x with fstype ramfs\n"
        "device server:/export mounted on /srv with fstype nfs4 statvers=1.1\n"
        "\topts:\trw,vers=4.2,proto=tcp,nconnect=2\n"
        "\tage:\t10\n"
        "\txprt:\ttcp 903 0 1 0 0 5 5 0 5 0 2 0 0\n"
        "\txprt:\ttcp 904 0 1 0 0 5 5 0 5 0 2 0 0\n"
    )
    bare, nfs = procfs.mountstats(text)
    assert (bare.source, bare.point, bare.xprts) == ("", "/x", ())
    assert nfs.options["nconnect"] == "2"
    assert [words[:2] for words in nfs.xprts] == [("tcp", "903"), ("tcp", "904")]
    with pytest.raises(Garbled, match="line 1"):
        procfs.mountstats("device a mounted\n")
    with pytest.raises(Garbled):
        procfs.mountstats("")


def test_stat_with_brackets_in_the_name() -> None:
    stat = procfs.stat("12 (a) b (c) S 1 12 12 0 -1 4194624 0 0\n")
    assert (stat.pid, stat.comm, stat.ppid, stat.flags) == (12, "a) b (c", 1, 4194624)
    for wrong in ("12 a S 1", "12 (a) S 1 2", "x (a) S 1 12 12 0 -1 1 0"):
        with pytest.raises(Garbled):
            procfs.stat(wrong)


def test_cgroups_of_both_hierarchies() -> None:
    assert procfs.cgroup_path("0::/system.slice/nbd.service\n") == ("/system.slice/nbd.service", True)
    assert procfs.cgroup_path("5:cpu,memory:/old\n0::/\n") == ("/old", False)
    for wrong in ("0:/\n", "1:name=systemd:/\n"):
        with pytest.raises(Garbled):
            procfs.cgroup_path(wrong)


def test_lists_of_cpus() -> None:
    assert procfs.cpu_list("0-3,8\n") == 5
    for wrong in ("", "3-1", "a", "0-"):
        with pytest.raises(Garbled):
            procfs.cpu_list(wrong)


@pytest.mark.parametrize("word", ["", "-", "1_000", "+1", "٣", " 1", "0x10", "1" * 5000])
def test_a_number_is_what_the_kernel_prints(word: str) -> None:
    with pytest.raises(Garbled):
        integer(word)


def test_hexadecimal_numbers() -> None:
    assert integer("0x1f", base=16) == integer("1F", base=16) == 31
    with pytest.raises(Garbled):
        integer("-1f", base=16)
