"""A guest's kernel read from outside: on made memory, and against what the guest says itself."""

from __future__ import annotations

import stat
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tidegate.errors import BadInput, Unsupported
from tidegate.host.procfs import zoneinfo
from tidegate.rig import kernels, ram
from tidegate.rig.btf import Member, Struct
from tidegate.rig.initramfs import Entry, cpio
from tidegate.rig.kernels import Debian, Flavour
from tidegate.rig.ram import GuestRam, KernelMemory, Layout
from tidegate.rig.sampler import Sampler
from tidegate.rig.tools import missing, program
from tidegate.rig.vmlinux import uncompressed
from tidegate.units import GIB, MIB
from tidegate.watermarks import Zone

_INIT = """\
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b cat /proc/zoneinfo >/dev/ttyS1; echo the end >/dev/ttyS1
$b sleep 1000
"""


def initramfs() -> bytes:
    return cpio({
        "bin": Entry(mode=stat.S_IFDIR | 0o755),
        "dev": Entry(mode=stat.S_IFDIR | 0o755),
        "proc": Entry(mode=stat.S_IFDIR | 0o755),
        "dev/console": Entry(mode=stat.S_IFCHR | 0o600, device=(5, 1)),
        "dev/ttyS1": Entry(mode=stat.S_IFCHR | 0o600, device=(4, 65)),
        "bin/busybox": Entry(mode=stat.S_IFREG | 0o755, data=program("busybox").read_bytes()),
        "init": Entry(mode=stat.S_IFREG | 0o755, data=_INIT.encode()),
    })  # fmt: skip


def ram_words(folder: Path, mib: Sequence[int], cpus: int) -> list[str]:
    words = ["-m", f"{sum(mib)}M", "-smp", str(cpus)]
    for node, size in enumerate(mib):
        words += [
            "-object",
            f"memory-backend-file,id=ram{node},size={size}M,mem-path={folder}/ram{node},share=on",
        ]
        if len(mib) > 1:
            words += ["-numa", f"node,nodeid={node},memdev=ram{node},cpus={node}"]
    return [*words, "-machine", "pc,usb=off" + (",memory-backend=ram0" if len(mib) == 1 else "")]


@contextmanager
def running(folder: Path, kernel: kernels.Kernel, mib: Sequence[int], cpus: int) -> Iterator[str]:
    """A guest that has said what /proc/zoneinfo holds, and then only sleeps."""
    (folder / "initramfs").write_bytes(initramfs())
    words = ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"]
    words += ["-accel", "tcg,thread=single", *ram_words(folder, mib, cpus)]
    words += ["-kernel", str(uncompressed(kernel.vmlinuz)), "-initrd", str(folder / "initramfs")]
    words += ["-append", "console=ttyS0 panic=-1 nokaslr quiet"]
    words += ["-serial", f"file:{folder}/console", "-serial", f"file:{folder}/said"]
    guest = subprocess.Popen([str(program("qemu-system-x86_64")), *words])
    try:
        limit = time.monotonic() + 120
        while "the end" not in (said := read(folder / "said")):
            assert guest.poll() is None, read(folder / "console")
            assert time.monotonic() < limit, read(folder / "console")
            time.sleep(0.1)
        yield said
    finally:
        guest.kill()
        guest.wait()


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_ram_below_the_hole_is_as_pc_init1_has_it() -> None:
    assert ram.low_ram_bytes(112 * MIB) == 112 * MIB
    assert ram.low_ram_bytes(3584 * MIB - 1) == 3584 * MIB - 1
    assert ram.low_ram_bytes(3584 * MIB) == 3072 * MIB
    assert ram.low_ram_bytes(16 * GIB) == 3072 * MIB


def sparse(path: Path, size: int, parts: dict[int, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for at, data in parts.items():
            file.seek(at)
            file.write(data)
    return path


def test_addresses_above_the_hole_are_what_low_ram_leaves(tmp_path: Path) -> None:
    nodes = [
        sparse(tmp_path / "ram0", 2 * GIB, {GIB: b"in 0"}),
        sparse(tmp_path / "ram1", 2 * GIB, {0: b"in 1", GIB: b"high"}),
    ]
    with GuestRam(nodes) as guest:
        assert guest.read(GIB, 4) == b"in 0"
        assert guest.read(2 * GIB, 4) == b"in 1"
        assert guest.read(4 * GIB, 4) == b"high"
        words, index = guest.word(4 * GIB)
        assert words[index] == int.from_bytes(b"high", "little")
        for address in (3 * GIB, 4 * GIB - 8, 5 * GIB, -8):
            with pytest.raises(Unsupported, match="nothing at physical address"):
                guest.read(address, 4)
        with pytest.raises(Unsupported, match="one piece"):
            guest.read(2 * GIB - 2, 4)
        with pytest.raises(Unsupported, match="one piece"):
            guest.read(3 * GIB - 2, 4)


def test_a_file_that_is_no_ram_is_bad_input(tmp_path: Path) -> None:
    for size in (0, 5000):
        with pytest.raises(BadInput, match="whole pages"):
            GuestRam([sparse(tmp_path / "ram0", size, {})])


# A kernel of one node and two zones, made by hand: its image at 1 MiB, the zones at 2 MiB in the direct map.
IMAGE, ZONES, TABLES = 1 * MIB, 2 * MIB, 3 * MIB
DIRECT = 0xFFFF888000000000
NAMES = (
    "linux_banner",
    "system_state",
    "page_offset_base",
    "init_top_pgt",
    "node_data",
    "jiffies_64",
    "nr_cpu_ids",
    "__per_cpu_offset",
)
MEMBERS = {
    "_watermark": Member(offset=0, size=32, count=4),
    "watermark_boost": Member(offset=32, size=8),
    "lowmem_reserve": Member(offset=40, size=24, count=3),
    "managed_pages": Member(offset=64, size=8),
    "present_pages": Member(offset=72, size=8),
    "spanned_pages": Member(offset=80, size=8),
    "vm_stat": Member(offset=88, size=16, count=2),
    "per_cpu_zonestats": Member(offset=104, size=8),
    "per_cpu_pageset": Member(offset=112, size=8),
}
LAYOUT = Layout(
    release="6.12.1",
    hz=250,
    symbols={name: 0xFFFFFFFF80000000 + IMAGE + 64 * place for place, name in enumerate(NAMES)},
    structs={
        "pglist_data": Struct(size=400, members={"node_zones": Member(offset=8, size=360, count=3)}),
        "zone": Struct(size=120, members=MEMBERS),
        "per_cpu_zonestat": Struct(size=2, members={"vm_stat_diff": Member(offset=0, size=2, count=2)}),
        "per_cpu_pages": Struct(size=4, members={"count": Member(offset=0, size=4)}),
        "vm_event_state": Struct(size=8, members={"event": Member(offset=0, size=8, count=1)}),
    },
    enums={
        "system_states": {"SYSTEM_BOOTING": 0, "SYSTEM_RUNNING": 3, "SYSTEM_HALT": 4},
        "zone_type": {"ZONE_DMA": 0, "ZONE_DMA32": 1, "ZONE_NORMAL": 2, "__MAX_NR_ZONES": 3},
        "zone_stat_item": {"NR_FREE_PAGES": 1, "NR_FREE_CMA_PAGES": 0},
        "zone_watermarks": {"WMARK_MIN": 0, "WMARK_LOW": 1, "WMARK_HIGH": 2, "WMARK_PROMO": 3, "NR_WMARK": 4},
        "vm_event_item": {"PSWPIN": 0},
    },
)
PERCPU = DIRECT + ZONES + 0x1000


def made_zone(free: int, mark: int, boost: int, reserve: tuple[int, int, int], managed: int) -> bytes:
    marks = (mark, mark + 10, mark + 20, mark + 30)
    return struct.pack("<15q", *marks, boost, *reserve, managed, managed, managed, 0, free, 0x10, 0x20)


def made_ram(path: Path, *, free: int = 500, state: int = 3) -> Path:
    zones = made_zone(300, 40, 0, (0, 90, 90), 3840) + made_zone(free, 801, 64, (0, 0, 0), 20000)
    image = {
        "linux_banner": b"Linux version 6.12.1 (a builder)",
        "system_state": struct.pack("<I", state),
        "page_offset_base": struct.pack("<Q", DIRECT),
        "node_data": struct.pack("<Q", DIRECT + ZONES),
        "jiffies_64": struct.pack("<Q", (1 << 32) - 300 * 250 + 500),
        "nr_cpu_ids": struct.pack("<I", 2),
        "__per_cpu_offset": struct.pack("<QQ", PERCPU, PERCPU + 0x100),
    }
    parts = {LAYOUT.symbols[name] - 0xFFFFFFFF80000000: data for name, data in image.items()}
    parts |= {ZONES: bytes(8) + zones}
    for cpu, (diff, pages) in enumerate([(-3, 7), (5, 31)]):
        at = ZONES + 0x1000 + 0x100 * cpu
        parts |= {at + 0x10: struct.pack("<bb", 9, diff), at + 0x20: struct.pack("<i", pages)}
    return sparse(path, 4 * MIB, parts)


def test_zones_are_read_where_the_layout_says(tmp_path: Path) -> None:
    with GuestRam([made_ram(tmp_path / "ram0")]) as guest:
        memory = KernelMemory(guest, LAYOUT)
        assert memory.booted()
        dma, dma32 = ram.zones(memory)
        assert (dma.name, dma.node, dma.free, dma.min, dma.managed) == ("DMA", 0, 300, 40, 3840)
        assert (dma32.name, dma32.free, dma32.boost) == ("DMA32", 500, 64)
        assert (dma32.min, dma32.low, dma32.high, dma32.promo) == (865, 875, 885, 895)
        assert dma.protection == (0, 90, 90)
        assert dma.pcp == dma32.pcp == 38
        assert ram.pending_free(memory) == 2 * (5 - 3)
        assert ram.guest_ms(memory) == 2000


def test_the_floor_is_three_eighths_of_the_unboosted_min_and_what_is_kept_for_others(tmp_path: Path) -> None:
    with GuestRam([made_ram(tmp_path / "ram0", free=302)]) as guest:
        seen = ram.zones(KernelMemory(guest, LAYOUT))
        # 40 - 20 - 5, and lowmem_reserve; 801 - 400 - 100
        assert [ram.floor(zone, LAYOUT.kernel_zone) for zone in seen] == [105, 301]
        assert ram.slack(seen, LAYOUT.kernel_zone) == 195
        assert ram.slack(seen[1:], LAYOUT.kernel_zone) == 1


def test_a_kernel_has_booted_when_it_is_there_and_runs(tmp_path: Path) -> None:
    for state, booted in ((0, False), (2, False), (3, True), (4, True)):
        with GuestRam([made_ram(tmp_path / "ram0", state=state)]) as guest:
            assert KernelMemory(guest, LAYOUT).booted() is booted
            assert not KernelMemory(guest, replace(LAYOUT, release="6.12.10")).booted()
            assert not KernelMemory(guest, replace(LAYOUT, release="6.12")).booted()
    for name, value in (
        ("page_offset_base", 0x1234),
        ("jiffies_64", 0),
        ("jiffies_64", 1 << 63),
        ("system_state", 9),
    ):
        path = made_ram(tmp_path / "ram0")  # a bzImage whose data has not come to its place
        with path.open("r+b") as file:
            file.seek(LAYOUT.symbols[name] - 0xFFFFFFFF80000000)
            file.write(struct.pack("<Q", value))
        with GuestRam([path]) as guest:
            assert not KernelMemory(guest, LAYOUT).booted()
    with GuestRam([sparse(tmp_path / "empty", 4 * MIB, {})]) as guest:
        memory = KernelMemory(guest, LAYOUT)
        assert not memory.booted()
        assert ram.zones(memory) == ()
        with pytest.raises(Unsupported, match="no zone with memory"):
            Sampler(memory)


def test_other_addresses_are_walked_through_the_page_tables(tmp_path: Path) -> None:
    path, vmalloc = made_ram(tmp_path / "ram0"), 0xFFFFC90000123000
    tables = [LAYOUT.symbols["init_top_pgt"] - 0xFFFFFFFF80000000, TABLES, TABLES + 4096, TABLES + 8192]
    with path.open("r+b") as file:
        for table, shift, target in zip(tables, (39, 30, 21, 12), [*tables[1:], ZONES], strict=True):
            file.seek(table + (vmalloc >> shift & 511) * 8)
            file.write(struct.pack("<Q", target | 1 << 63 | 0x63))
        large = vmalloc + (1 << 21)
        file.seek(tables[2] + (large >> 21 & 511) * 8)
        file.write(struct.pack("<Q", 2 * MIB | 0xE3))
    with GuestRam([path]) as guest:
        memory = KernelMemory(guest, LAYOUT)
        assert memory.physical(vmalloc + 0x18) == ZONES + 0x18
        assert memory.physical(large + 0x18) == 2 * MIB + 0x123018
        with pytest.raises(Unsupported, match="maps nothing"):
            memory.physical(vmalloc + 4096)


def test_the_sampler_keeps_the_lowest(tmp_path: Path) -> None:
    path = made_ram(tmp_path / "ram0")
    offset = ZONES + 8 + 120 + 96  # vm_stat[NR_FREE_PAGES] of the second zone
    with GuestRam([path]) as guest, path.open("r+b", buffering=0) as outside:
        sampler = Sampler(KernelMemory(guest, LAYOUT))

        def look(free: int) -> int:
            outside.seek(offset)
            outside.write(struct.pack("<q", free))
            return sampler.take()

        # The other zone, at 300 of a floor of 105, is the best one from 496 pages downwards.
        assert [look(free) for free in (600, 400, 299, 700)] == [299, 195, 195, 399]
        lowest = sampler.lowest()
        assert (lowest.slack_pages, lowest.looks, lowest.jiffies) == (195, 5, (1 << 32) - 300 * 250 + 500)
        dma, dma32 = sampler.margins()
        assert (dma.zone, dma.floor_pages, dma.lowest_free_pages) == ("DMA", 105, 300)
        assert (dma32.zone, dma32.min_pages, dma32.floor_pages, dma32.lowest_free_pages) == (
            "DMA32",
            801,
            301,
            299,
        )
        sampler.restart()
        assert sampler.margins()[1].lowest_free_pages == 700


def told_zones(said: str) -> list[Zone]:
    """What the guest printed; the page counts that nobody can read at the same moment are left out."""
    text = said.replace("\r", "").partition("the end")[0]
    return [quiet(zone) for zone in zoneinfo(text) if zone.managed]


def quiet(zone: Zone) -> Zone:
    # 6.1 does not print WMARK_PROMO; nothing outside counts the reclaimable pages.
    return replace(zone, free=0, pcp=0, reclaimable=None, promo=None)


MACHINES = [
    (Debian.TRIXIE, Flavour.CLOUD, (112,), 1),
    (Debian.BOOKWORM, Flavour.GENERIC, (100, 100), 2),
    (Debian.TRIXIE, Flavour.GENERIC, (4096,), 2),  # above the hole for PCI
]


def test_the_sampler_looks_until_it_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, naps = threading.Event(), []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            stop.set()

    with GuestRam([made_ram(tmp_path / "ram0")]) as guest:
        sampler = Sampler(KernelMemory(guest, LAYOUT))
        monkeypatch.setattr(time, "sleep", sleep)
        sampler.run(stop, 0.25)
        assert naps == [0.25] * 3
        assert sampler.lowest().looks == 4


@pytest.mark.vm
@pytest.mark.slow
@pytest.mark.parametrize(("debian", "flavour", "mib", "cpus"), MACHINES)
def test_a_guest_is_read_as_it_sees_itself(
    debian: Debian, flavour: Flavour, mib: tuple[int, ...], cpus: int, tmp_path: Path
) -> None:
    if lacking := missing(["qemu-system-x86_64", "busybox", "zstd"]):
        pytest.skip(f"no {lacking[0]} here")
    kernel = kernels.fetch(debian, flavour)
    where = ram.layout(kernel)
    assert where.hz == 250
    files = [tmp_path / f"ram{node}" for node in range(len(mib))]
    with running(tmp_path, kernel, mib, cpus) as said, GuestRam(files) as guest:
        memory = KernelMemory(guest, where)
        assert memory.booted()
        assert not KernelMemory(guest, replace(where, release="6.5.0")).booted()
        told, seen = told_zones(said), ram.zones(memory)
        assert [quiet(zone) for zone in seen] == told
        free, outside = told_free(said), sum(zone.free for zone in seen)
        assert abs(free - outside) < 1000, (free, outside)
        assert abs(ram.pending_free(memory)) < 125 * cpus * len(seen)  # stat_threshold is at most 125
        assert len(memory.per_cpu(0)) == cpus
        assert 0 < ram.guest_ms(memory) < 120_000
        assert ram.events(memory, ["PGFAULT", "PSWPOUT"]).pop("PSWPOUT") == 0
        assert ram.events(memory, ["PGFAULT"])["PGFAULT"] > 100
        assert ram.socket_pages(memory) == (0, 0)
        # The page tables say the same as the arithmetic, of the image and of the direct map.
        for address in (where.symbols["jiffies_64"], memory.u64(where.symbols["node_data"]) + 8):
            assert memory.walked(address) == memory.physical(address)
        sampler = Sampler(memory)
        assert abs(sampler.take() - ram.slack(seen, where.kernel_zone)) < 1000


def told_free(said: str) -> int:
    text = said.replace("\r", "").partition("the end")[0]
    return sum(zone.free for zone in zoneinfo(text))
