"""Zones, the settings that move them, sysctls, counters: everything on a host that is not about one device."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from tidegate.host import procfs, procnet
from tidegate.host.facts import Kernel, Memory
from tidegate.host.reading import Reading, is_number
from tidegate.host.record import Status
from tidegate.reserve import Zone
from tidegate.result import Topic
from tidegate.units import KIB

_RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_TRIPLE = re.compile(
    r"^(\d+)\.(\d+)\.(\d+)$"
)  # /proc/version_signature: Ubuntu 5.15.0-91.101-generic 5.15.131
_DEBIAN = re.compile(r"#\d+ .*Debian (\d+)\.(\d+)\.(\d+)")  # /proc/version: ... #1 SMP Debian 6.1.176-1 (...)
_THP = "sys/kernel/mm/transparent_hugepage"

# Present in every kernel that can be read here (5.10 and newer), so that their absence is a gap, not an answer.
_VM_ALWAYS = ("min_free_kbytes", "watermark_scale_factor", "watermark_boost_factor", "lowmem_reserve_ratio")
_NET_ALWAYS = (
    "core/netdev_max_backlog",
    "core/rmem_max",
    "core/wmem_max",
    "ipv4/tcp_mem",
    "ipv4/tcp_rmem",
    "ipv4/tcp_wmem",
    "ipv4/udp_mem",
    "ipv4/ipfrag_high_thresh",
)
# May be missing from a kernel (no IPv6, older than the setting); only an unreadable one is a gap.
_NET_SOMETIMES = (
    "core/high_order_alloc_disable",
    "core/skb_defer_max",
    "core/busy_poll",
    "core/busy_read",
    "ipv6/ip6frag_high_thresh",
)
_UNREADABLE = frozenset({Status.DENIED, Status.DAMAGED})


def kernel_of(reading: Reading) -> Kernel:
    """The kernel by its release; a release that names no version becomes 0.0.0 and a gap."""
    release = reading.record.kernel
    found = _RELEASE.match(release)
    if not found:
        reading.gap(
            "manifest", Status.DAMAGED.value, Topic.HOST, f"kernel release {release[:60]!r} names no version"
        )
    version = (int(found[1]), int(found[2]), int(found[3] or 0)) if found else (0, 0, 0)
    version = _stable(reading, version)
    return Kernel(release=release, version=version, machine=reading.record.machine)


def _stable(reading: Reading, version: tuple[int, int, int]) -> tuple[int, int, int]:
    """The stable release behind a name such as 6.1.0-50-amd64: Debian and Ubuntu tell it elsewhere."""
    signature = (reading.peek("proc/version_signature") or "").split()
    banner = reading.peek("proc/version") or ""
    told = _DEBIAN.findall(banner) or _TRIPLE.findall(signature[-1] if signature else "")
    if version[2] or not told:
        return version
    major, minor, patch = map(int, told[-1])
    return (major, minor, patch) if (major, minor) == version[:2] else version


def cpus_of(reading: Reading) -> int | None:
    """How many CPUs are online."""
    online = reading.parsed("sys/devices/system/cpu/online", Topic.MEMORY, procfs.cpu_list)
    if online is not None:
        return online
    info = reading.peek("proc/cpuinfo")
    lines = [line for line in (info or "").splitlines() if line.startswith("processor")]
    if not lines:
        reading.gap(
            "sys/devices/system/cpu/online", "not held", Topic.MEMORY, "the number of CPUs is not known"
        )
    return len(lines) or None


def memory_of(reading: Reading, sysctls: Mapping[str, str]) -> Memory | None:
    """Zones and what moves them; None when there is no usable zoneinfo."""
    zones = reading.parsed("proc/zoneinfo", Topic.MEMORY, procfs.zoneinfo, must=True)
    info = reading.parsed("proc/meminfo", Topic.MEMORY, procfs.meminfo, must=True)
    total = info["MemTotal"] if info else None
    if zones is None:
        return None
    _check_whole(reading, zones)
    pmd_bytes = reading.number(f"{_THP}/hpage_pmd_size", Topic.MEMORY)
    return Memory(
        zones=_with_highatomic(reading, zones),
        total_kib=total,
        min_free_kib=_sysctl_number(reading, sysctls, "vm.min_free_kbytes"),
        watermark_scale_factor=_sysctl_number(reading, sysctls, "vm.watermark_scale_factor"),
        watermark_boost_factor=_sysctl_number(reading, sysctls, "vm.watermark_boost_factor"),
        lowmem_reserve_ratio=_numbers(reading, sysctls, "vm.lowmem_reserve_ratio"),
        thp_enabled=_thp(reading),
        hugepage_kib=None if pmd_bytes is None else pmd_bytes // KIB,
        nodes=len({zone.node for zone in zones if zone.managed}),
    )


def _check_whole(reading: Reading, zones: tuple[Zone, ...]) -> None:
    """Every node shows every zone type, as many as its protection line has entries; a cut table shows fewer.

    MemTotal is no measure: memory that is not onlined, unaccepted or ballooned away counts differently there.
    """
    for node in dict.fromkeys(zone.node for zone in zones):
        ours = [zone for zone in zones if zone.node == node]
        if any(len(zone.protection) != len(ours) for zone in ours):
            detail = f"node {node} shows {len(ours)} zones of {len(ours[0].protection)}"
            reading.gap("proc/zoneinfo", Status.DAMAGED.value, Topic.MEMORY, detail)
    path = "sys/devices/system/node/online"  # only to check with; a kernel without NUMA has none
    found = reading.status(path) is Status.FOUND
    online = reading.parsed(path, Topic.MEMORY, procfs.cpu_list) if found else None
    shown = len({zone.node for zone in zones})
    if online is not None and shown < online:
        detail = f"shows {shown} of {online} nodes"
        reading.gap("proc/zoneinfo", Status.DAMAGED.value, Topic.MEMORY, detail)


def _with_highatomic(reading: Reading, zones: tuple[Zone, ...]) -> tuple[Zone, ...]:
    """Kernels before nr_free_highatomic show free HighAtomic blocks in /proc/pagetypeinfo, to root only."""
    text = reading.peek("proc/pagetypeinfo")
    if text is None:
        return zones
    free = procfs.highatomic(text)
    return tuple(
        zone if zone.highatomic is not None else replace(zone, highatomic=free.get((zone.node, zone.name)))
        for zone in zones
    )


def _thp(reading: Reading) -> bool | None:
    """Any huge page size enabled, as khugepaged sees it (mm/khugepaged.c: hugepage_pmd_enabled)."""
    whole = reading.word(f"{_THP}/enabled", Topic.MEMORY)
    if whole is None:
        return False if reading.status(f"{_THP}/enabled") is Status.ABSENT else None
    chosen = _chosen(whole)
    if chosen not in ("always", "madvise", "never"):
        reading.gap(f"{_THP}/enabled", Status.DAMAGED.value, Topic.MEMORY, f"found {whole[:60]!r}")
        return None
    sizes = [name for name in reading.names(_THP) if name.startswith("hugepages-")]
    words = [_chosen(reading.word(f"{_THP}/{name}/enabled", Topic.MEMORY) or "") for name in sizes]
    return chosen in ("always", "madvise") or any(word in ("always", "madvise") for word in words)


def _chosen(text: str) -> str:
    """The bracketed word of `always [madvise] never`."""
    found = re.search(r"\[([\w-]+)\]", text)
    return found[1] if found else ""


def chosen(text: str) -> str:
    """The bracketed word of a sysfs choice, or the only word there is."""
    return _chosen(text) or (text if len(text.split()) == 1 else "")


def _sysctl_number(reading: Reading, sysctls: Mapping[str, str], name: str) -> int | None:
    numbers = _numbers(reading, sysctls, name)
    return numbers[0] if len(numbers) == 1 else None


def _numbers(reading: Reading, sysctls: Mapping[str, str], name: str) -> tuple[int, ...]:
    text = sysctls.get(name)
    if text is None:
        return ()
    words = text.split()
    if words and all(map(is_number, words)):
        return tuple(int(word) for word in words)
    path = "proc/sys/" + name.replace(".", "/")
    reading.gap(path, Status.DAMAGED.value, Topic.MEMORY, f"found {text[:60]!r}, expected numbers")
    return ()


def sysctls_of(reading: Reading) -> dict[str, str]:
    """Every sysctl of the record by its dotted name; what the sum rests on is a gap when it is missing."""
    for name in _VM_ALWAYS:
        reading.word(f"proc/sys/vm/{name}", Topic.MEMORY, must=True)
    for name in _NET_ALWAYS:
        reading.word(f"proc/sys/net/{name}", Topic.LIMITS, must=True)
    for name in _NET_SOMETIMES:
        reading.word(f"proc/sys/net/{name}", Topic.LIMITS)
    made: dict[str, str] = {}
    for path in reading.files("proc/sys"):
        name = path.removeprefix("proc/sys/").replace("/", ".")
        if reading.status(path) in _UNREADABLE:
            if name.startswith("net."):
                reading.missing(path, Topic.LIMITS)
            elif name.startswith("vm."):
                reading.missing(path, Topic.MEMORY)
            continue
        topic = (
            Topic.LIMITS
            if name.startswith("net.")
            else Topic.MEMORY
            if name.startswith("vm.")
            else Topic.HOST
        )
        text = reading.text(path, topic)
        if text is not None:
            _expect_numbers(reading, path, text.strip())
            made[name] = text.strip()
    return made


def _expect_numbers(reading: Reading, path: str, text: str) -> None:
    """The limits that the sum rests on hold numbers; anything else there is damage."""
    if path.removeprefix("proc/sys/net/") not in (*_NET_ALWAYS, *_NET_SOMETIMES):
        return
    words = text.split()
    three = path.endswith(("_mem", "_rmem", "_wmem")) and "/ipv4/" in path
    if len(words) != (3 if three else 1) or not all(map(is_number, words)):
        expected = "three numbers" if three else "a number"
        reading.gap(path, Status.DAMAGED.value, Topic.LIMITS, f"found {text[:60]!r}, expected {expected}")


_COUNTERS: tuple[tuple[str, str, Topic, Callable[[str], dict[str, int]]], ...] = (
    ("proc/vmstat", "vmstat.", Topic.MEMORY, procfs.counters),
    ("proc/meminfo", "meminfo.", Topic.MEMORY, procfs.meminfo),
    ("proc/net/netstat", "", Topic.LIMITS, procnet.snmp_pairs),
    ("proc/net/snmp", "", Topic.LIMITS, procnet.snmp_pairs),
    ("proc/net/sockstat", "sockstat.", Topic.LIMITS, procnet.sockstat),
    ("proc/net/sockstat6", "sockstat.", Topic.LIMITS, procnet.sockstat),
    ("proc/net/softnet_stat", "softnet.", Topic.LIMITS, procnet.softnet_stat),
    ("proc/net/protocols", "protocols.", Topic.LIMITS, procnet.protocols),
)


def counters_of(reading: Reading) -> dict[str, int]:
    """Counters by file: `vmstat.oom_kill`, `TcpExt.PFMemallocDrop`, `sockstat.TCP.mem` (pages), `softnet.dropped`."""
    made: dict[str, int] = {}
    for path, prefix, topic, parse in _COUNTERS:
        found = reading.parsed(path, topic, parse)
        made.update({prefix + name: value for name, value in (found or {}).items()})
    return made


def modules_of(reading: Reading) -> frozenset[str]:
    """Loaded modules; a kernel without modules has none."""
    return frozenset(reading.rows("proc/modules", Topic.HOST, procfs.module_name))
