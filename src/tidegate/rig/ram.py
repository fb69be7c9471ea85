"""A running guest's kernel seen from outside, through the file that QEMU keeps the guest's RAM in.

Nothing in the guest has to run, and nothing in it is changed: what is read is what the kernel itself decides
by, also when all its CPUs stand still. The guest must have been booted with `nokaslr` on the machine `pc`, its
RAM as `memory-backend-file,share=on`: one file, or one for each NUMA node in the nodes' order.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from tidegate.errors import BadInput, Unsupported
from tidegate.rig import btf
from tidegate.rig.kernels import Kernel
from tidegate.rig.symbols import symbols
from tidegate.rig.tools import locked
from tidegate.rig.vmlinux import facts_directory, section, uncompressed
from tidegate.units import GIB
from tidegate.watermarks import Zone, atomic_share, lowmem_reserve, serves_kernel

# QEMU's hw/i386/pc_piix.c:pc_init1(): from 3.5 GiB of RAM up only 3 GiB lie below the hole for PCI.
_LOW_RAM_AT_MOST, _LOW_RAM_OF_LARGE = 0xE0000000, 0xC0000000
# Documentation/arch/x86/x86_64/mm.rst: the kernel's image, moved by phys_base, which is 0 without KASLR.
_IMAGE_START, _IMAGE_END = 0xFFFFFFFF80000000, 0xFFFFFFFFC0000000
_DIRECT_MAP, _DIRECT_MAP_BYTES = 0xFFFF888000000000, 64 << 40
_FIVE_LEVELS = 0xFF11000000000000
_ADDRESS_BITS = 0x000FFFFFFFFFF000  # of a page table entry
_PRESENT, _LARGE = 1, 1 << 7
_MOST_NODES = 64
_LONGEST_RUN_MS = 10 * 365 * 86_400_000

SYMBOLS = (
    "linux_banner", "system_state", "page_offset_base", "init_top_pgt", "node_data", "jiffies_64", "nr_cpu_ids",
    "__per_cpu_offset", "vm_event_states", "tcp_memory_allocated", "udp_memory_allocated",
)  # fmt: skip
_WANTED = {
    "pglist_data": ("node_zones",),
    "zone": (
        "_watermark", "watermark_boost", "lowmem_reserve", "managed_pages", "present_pages", "spanned_pages",
        "vm_stat", "per_cpu_zonestats", "per_cpu_pageset",
    ),
    "per_cpu_zonestat": ("vm_stat_diff",),
    "per_cpu_pages": ("count",),
    "vm_event_state": ("event",),
}  # fmt: skip
_ENUMS = ("system_states", "zone_type", "zone_stat_item", "zone_watermarks", "vm_event_item")
_ZONE_NAMES = {"ZONE_NORMAL": "Normal", "ZONE_MOVABLE": "Movable", "ZONE_DEVICE": "Device"}


def low_ram_bytes(ram_bytes: int) -> int:
    """How much of the guest's RAM lies below 4 GiB; the rest starts at 4 GiB."""
    return ram_bytes if ram_bytes < _LOW_RAM_AT_MOST else _LOW_RAM_OF_LARGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where things lie in one kernel's memory, and at which addresses it starts looking; see layout()."""

    release: str
    hz: int
    symbols: Mapping[str, int]
    structs: Mapping[str, btf.Struct]
    enums: Mapping[str, Mapping[str, int]]

    @property
    def kernel_zone(self) -> int:
        """The highest zone of GFP_KERNEL and GFP_ATOMIC requests: ZONE_NORMAL, also where that zone is empty."""
        return self.enums["zone_type"]["ZONE_NORMAL"]

    @property
    def zone_names(self) -> tuple[str, ...]:
        """The names of this kernel's zones as /proc/zoneinfo has them, by enum zone_type."""
        kinds = sorted((value, name) for name, value in self.enums["zone_type"].items())
        named = (name for _, name in kinds if name.startswith("ZONE_"))  # __MAX_NR_ZONES counts them
        return tuple(_ZONE_NAMES.get(name, name.removeprefix("ZONE_")) for name in named)

    def zone(self, member: str, element: int = 0) -> int:
        """Offset of a member of struct zone, in bytes; of an array's element."""
        found = self.structs["zone"].members[member]
        return found.offset + element * (found.size // found.count)


def layout(kernel: Kernel) -> Layout:
    """The layout of a stock kernel, from its BTF, its configuration and one probe boot; kept.

    Walking the BTF takes a tenth of a second and more memory than all else that a trial's process does.
    """
    asked = repr((SYMBOLS, _WANTED, _ENUMS, kernel.release)).encode()
    kept = facts_directory(kernel.vmlinuz_sha256) / f"layout-{hashlib.sha256(asked).hexdigest()[:16]}.json"
    with suppress(FileNotFoundError, msgspec.DecodeError):
        return msgspec.json.decode(kept.read_bytes(), type=Layout)
    found = _layout(kernel)
    with locked(kept.parent):
        part = kept.with_suffix(".part")
        part.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
        part.replace(kept)
    return found


def _layout(kernel: Kernel) -> Layout:
    blob = section(uncompressed(kernel.vmlinuz), ".BTF")
    config = kernel.vmlinuz.with_name(f"config-{kernel.release}").read_text()
    hz = next((line for line in config.splitlines() if line.startswith("CONFIG_HZ=")), "")
    if not hz:
        raise Unsupported(f"kernel {kernel.release}: found no CONFIG_HZ in its configuration, expected one")
    return Layout(
        release=kernel.release,
        hz=int(hz.partition("=")[2]),
        symbols=symbols(kernel, SYMBOLS),
        structs=btf.offsets(blob, _WANTED),
        enums=btf.enumerators(blob, _ENUMS),
    )


class GuestRam:
    """The guest's physical memory, read only. A context: the maps are undone at its end."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Maps the RAM file, or those of the NUMA nodes in their order; BadInput when one is empty."""
        self._maps: list[tuple[int, mmap.mmap, memoryview]] = []  # first byte in RAM, map, its 64-bit words
        self.ram_bytes = 0
        for path in files:
            size = path.stat().st_size
            if not size or size % mmap.PAGESIZE:
                raise BadInput(str(path), "", f"{size} bytes", "the RAM of a guest, in whole pages")
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
            self._maps.append((self.ram_bytes, mapped, memoryview(mapped).cast("q")))
            self.ram_bytes += size
        self._low = low_ram_bytes(self.ram_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Undoes the maps: a Word of this RAM raises ValueError from now on."""
        with ExitStack() as stack:
            for _, mapped, words in self._maps:
                stack.callback(mapped.close)
                stack.callback(words.release)
            self._maps = []

    def _find(self, physical: int) -> tuple[int, mmap.mmap, memoryview]:
        """Offset in the map, the map and its words; Unsupported for an address without RAM."""
        within = physical if physical < self._low else physical - 4 * GIB + self._low
        if 0 <= within < self.ram_bytes and (physical < self._low or physical >= 4 * GIB):
            for first, mapped, words in reversed(self._maps):
                if within >= first:
                    return within - first, mapped, words
        raise Unsupported(f"guest RAM: nothing at physical address {physical:#x}, RAM is {self.ram_bytes:#x}")

    def read(self, physical: int, length: int) -> bytes:
        """Bytes at a physical address; they must not cross the hole below 4 GiB or a node's end."""
        offset, mapped, _ = self._find(physical)
        if offset + length > len(mapped) or physical < self._low < physical + length:
            raise Unsupported(f"guest RAM: {length} bytes at {physical:#x} do not lie in one piece of RAM")
        return mapped[offset : offset + length]

    def word(self, physical: int) -> Word:
        """An aligned 64-bit word to be read again and again."""
        offset, _, words = self._find(physical)
        assert offset % 8 == 0, physical
        return words, offset // 8


# Where a signed 64-bit word lies: `words[index]` reads it, in one access, at a cost below a microsecond.
Word = tuple[memoryview, int]


class KernelMemory:
    """The kernel's virtual memory of one guest."""

    def __init__(self, ram: GuestRam, where: Layout) -> None:
        self.ram, self.layout = ram, where

    def booted(self) -> bool:
        """Has this kernel come to its first program? False earlier in the boot, and for another kernel.

        Before that nothing else here may be asked: what the boot has not yet cleared holds anything.
        """
        banner, symbols = f"Linux version {self.layout.release} ".encode(), self.layout.symbols
        if self.read(symbols["linux_banner"], len(banner)) != banner:
            return False
        # A bzImage moves its parts into place one after the other, and the banner comes before the data.
        if self.u64(symbols["page_offset_base"]) not in (_DIRECT_MAP, _FIVE_LEVELS):
            return False
        states = self.layout.enums["system_states"]
        state = int.from_bytes(self.read(symbols["system_state"], 4), "little")
        running = states["SYSTEM_RUNNING"] <= state <= max(states.values())
        return running and 0 < guest_ms(self) < _LONGEST_RUN_MS

    def physical(self, address: int) -> int:
        """The physical address behind a kernel address: its image, the direct map, or what its page tables say."""
        if _IMAGE_START <= address < _IMAGE_END:
            return address - _IMAGE_START
        direct = self.u64(self.layout.symbols["page_offset_base"])
        if direct == _FIVE_LEVELS:
            raise Unsupported("guest RAM: found five levels of page tables, expected a CPU without la57")
        if direct <= address < direct + _DIRECT_MAP_BYTES:
            return address - direct
        return self.walked(address)

    def walked(self, address: int) -> int:
        """What the kernel's own page tables say of an address, such as one of vmalloc() or of a module."""
        table = self.physical(self.layout.symbols["init_top_pgt"])
        for shift in (39, 30, 21, 12):
            entry = struct.unpack("<Q", self.ram.read(table + (address >> shift & 511) * 8, 8))[0]
            if not entry & _PRESENT:
                raise Unsupported(f"guest RAM: the guest maps nothing at {address:#x}")
            table = entry & _ADDRESS_BITS
            if shift == 12 or (entry & _LARGE and shift < 39):
                break
        inside = (1 << shift) - 1
        return (table & ~inside) | (address & inside)

    def read(self, address: int, length: int) -> bytes:
        """Bytes at a kernel address; they must lie in one piece of RAM."""
        return self.ram.read(self.physical(address), length)

    def u64(self, address: int) -> int:
        """An unsigned 64-bit word."""
        return int.from_bytes(self.read(address, 8), "little")

    def s64(self, address: int) -> int:
        """A signed 64-bit word: an atomic_long_t."""
        return int.from_bytes(self.read(address, 8), "little", signed=True)

    def word(self, address: int) -> Word:
        """An aligned word to be read again and again; its translation is done here, once."""
        return self.ram.word(self.physical(address))

    def per_cpu(self, pointer: int) -> tuple[int, ...]:
        """The addresses of a per-CPU object, one for each possible CPU."""
        cpus = int.from_bytes(self.read(self.layout.symbols["nr_cpu_ids"], 4), "little")
        first = self.layout.symbols["__per_cpu_offset"]
        return tuple((pointer + self.u64(first + 8 * cpu)) % (1 << 64) for cpu in range(cpus))


def zone_addresses(memory: KernelMemory) -> tuple[tuple[int, int, int], ...]:
    """Node, enum zone_type and address of each struct zone: every zone of every node that is there."""
    found: list[tuple[int, int, int]] = []
    structs = memory.layout.structs
    member, size = structs["pglist_data"].members["node_zones"], structs["zone"].size
    for node in range(_MOST_NODES):
        # node_data[] is longer than that on Debian's kernels; nodes without memory come last under QEMU.
        data = memory.u64(memory.layout.symbols["node_data"] + 8 * node)
        if not data:
            break
        first = data + member.offset
        found += [(node, kind, first + kind * size) for kind in range(member.count)]
    return tuple(found)


def zones(memory: KernelMemory) -> tuple[Zone, ...]:
    """All zones with memory, as /proc/zoneinfo would show them: watermarks with the boost.

    `free` is vm_stat[NR_FREE_PAGES] as the watermark checks read it, without what CPUs have not yet folded in
    (see pending_free()). Empty as long as the kernel has not set up its memory.
    """
    names = memory.layout.zone_names
    found = (_zone(memory, node, names[kind], at) for node, kind, at in zone_addresses(memory))
    return tuple(zone for zone in found if zone.managed)


def _zone(memory: KernelMemory, node: int, name: str, at: int) -> Zone:
    where, enums = memory.layout, memory.layout.enums
    raw = memory.read(at, where.structs["zone"].size)

    def number(member: str, element: int = 0) -> int:
        return int(struct.unpack_from("<q", raw, where.zone(member, element))[0])

    boost = number("watermark_boost")
    kept = where.structs["zone"].members["_watermark"].count
    mark = {
        name: number("_watermark", place) + boost
        for name, place in enums["zone_watermarks"].items()
        if place < kept  # NR_WMARK only counts them
    }
    classes = where.structs["zone"].members["lowmem_reserve"].count
    reserve = tuple(number("lowmem_reserve", kind) for kind in range(classes))
    items = enums["zone_stat_item"]
    managed = number("managed_pages")
    return Zone(
        node=node,
        name=name,
        free=number("vm_stat", items["NR_FREE_PAGES"]),
        boost=boost,
        min=mark["WMARK_MIN"],
        low=mark["WMARK_LOW"],
        high=mark["WMARK_HIGH"],
        promo=mark.get("WMARK_PROMO"),
        spanned=number("spanned_pages"),
        present=number("present_pages"),
        managed=managed,
        cma=0,  # Debian's kernels have no CONFIG_CMA
        free_cma=number("vm_stat", items["NR_FREE_CMA_PAGES"]),
        protection=reserve,
        pcp=_pcp(memory, number("per_cpu_pageset")) if managed else 0,
    )


def _pcp(memory: KernelMemory, pointer: int) -> int:
    """Pages on the per-CPU lists; 0 before setup_per_cpu_pageset(), when the pointer is a boot-time one."""
    count = memory.layout.structs["per_cpu_pages"].members["count"].offset
    places = (memory.read(at + count, 4) for at in memory.per_cpu(pointer % (1 << 64)))
    return sum(int.from_bytes(raw, "little", signed=True) for raw in places)


def pending_free(memory: KernelMemory) -> int:
    """Pages by which all zones' free counters are behind what the CPUs know (vm_stat_diff); may be negative."""
    where = memory.layout
    diff = where.structs["per_cpu_zonestat"].members["vm_stat_diff"].offset
    item = where.enums["zone_stat_item"]["NR_FREE_PAGES"]
    pending = 0
    for _node, _kind, at in zone_addresses(memory):
        if memory.u64(at + where.zone("managed_pages")):
            for stat in memory.per_cpu(memory.u64(at + where.zone("per_cpu_zonestats"))):
                pending += int.from_bytes(memory.read(stat + diff + item, 1), "little", signed=True)
    return pending


def floor(zone: Zone, kernel_zone: int) -> int:
    """Free pages at or below which this zone refuses an order-0 GFP_ATOMIC request of the network.

    __zone_watermark_ok(): 3/8 of the unboosted min (zone_watermark_fast() asks again without the boost) and
    lowmem_reserve of the request's class. Not limited to the zone's size: a zone that keeps more for others
    than it has is that far from serving them.
    """
    return atomic_share(zone.min - zone.boost) + lowmem_reserve(zone, kernel_zone)


def slack(seen: Sequence[Zone], kernel_zone: int) -> int:
    """Pages above the floor in the best of the zones: at 0 and below an atomic allocation fails in all."""
    return max(zone.free - floor(zone, kernel_zone) for zone in seen if serves_kernel(zone))


def jiffies(memory: KernelMemory) -> int:
    """jiffies_64: `layout.hz` a second. While all CPUs are idle it may stand, and is caught up afterwards."""
    return memory.u64(memory.layout.symbols["jiffies_64"])


def guest_ms(memory: KernelMemory) -> int:
    """The guest's own time since its boot, in ms, one tick fine; jiffies start 300 s below a wrap of 32 bits."""
    hz = memory.layout.hz
    return (jiffies(memory) - ((1 << 32) - 300 * hz)) * 1000 // hz


def events(memory: KernelMemory, names: Sequence[str]) -> dict[str, int]:
    """Counters of /proc/vmstat by their names in enum vm_event_item (PSWPIN, OOM_KILL), summed over the CPUs."""
    event = memory.layout.structs["vm_event_state"].members["event"].offset
    items = memory.layout.enums["vm_event_item"]
    if unknown := [name for name in names if name not in items]:
        raise Unsupported(f"kernel {memory.layout.release}: found no event {unknown[0]}, expected one")
    states = memory.per_cpu(memory.layout.symbols["vm_event_states"])
    return {name: sum(memory.u64(state + event + 8 * items[name]) for state in states) for name in names}


def socket_pages(memory: KernelMemory) -> tuple[int, int]:
    """Pages charged to tcp_mem and to udp_mem, as /proc/net/sockstat tells them: without each CPU's few (1 MiB)."""
    tcp = memory.s64(memory.layout.symbols["tcp_memory_allocated"])
    udp = memory.s64(memory.layout.symbols["udp_memory_allocated"])
    return max(tcp, 0), max(udp, 0)
