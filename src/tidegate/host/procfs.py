"""Pure, strict parsers of /proc on memory, mounts and processes: text in, facts out, `Garbled` when it is not that.

By hand, because the libraries for this (procfs, psutil, python-linux-procfs) read the running machine's /proc
themselves and cannot be given a text from a record; they also skip lines they do not know,
where a missing zone must be noticed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.host.facts import Mount
from tidegate.host.reading import Garbled, integer, is_number
from tidegate.reserve import Zone

SWAPS_HEAD = "Filename"

_ZONE_HEAD = re.compile(r"Node ([0-9]{1,20}), zone\s+(\S+)$")
_ZONE_LINE = re.compile(
    r"(?:pages )?(free|boost|min|low|high|promo|spanned|present|managed|cma)\s+([0-9]{1,20})$"
)
_ZONE_STAT = re.compile(
    r"(nr_free_cma|nr_free_highatomic|nr_zone_(?:in)?active_(?:anon|file))\s+([0-9]{1,20})$"
)
_PROTECTION = re.compile(r"protection: \(([\d, ]+)\)$")
_PAGETYPE = re.compile(r"Node\s+([0-9]{1,20}), zone\s+(\S+), type\s+HighAtomic\s+(.*)$")
_RECLAIMABLE = tuple(
    f"nr_zone_{state}_{kind}" for state in ("inactive", "active") for kind in ("anon", "file")
)
_PCP_COUNT = re.compile(r"count:\s*([0-9]{1,20})$")
_ZONE_NEEDS = ("free", "min", "low", "high", "spanned", "present", "managed")
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapLine:
    """A line of /proc/swaps; sizes in KiB as the kernel prints them."""

    path: str
    kind: str  # partition or file
    size_kib: int
    used_kib: int
    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MountStats:
    """What /proc/self/mountstats says of one NFS mount: its options and its transports."""

    source: str
    point: str
    fstype: str
    options: Mapping[str, str]
    xprts: tuple[tuple[str, ...], ...]  # the words of each `xprt:` line: protocol first
    line: int


def zoneinfo(text: str) -> tuple[Zone, ...]:
    """All zones of /proc/zoneinfo (mm/vmstat.c: zoneinfo_show_print), empty ones included. Pages."""
    zones: list[Zone] = []
    part: _ZonePart | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if head := _ZONE_HEAD.match(line):
            if part:
                zones.append(part.zone())
            part = _ZonePart(number, int(head[1]), head[2])
            if any((one.node, one.name) == (part.node, part.name) for one in zones):
                raise Garbled(number, line, "each zone once")
        elif line and part is None:
            raise Garbled(number, line, "Node N, zone NAME")
        elif part:
            part.take(number, line)
    if part is None:
        raise Garbled(1, "nothing", "Node N, zone NAME")
    zones.append(part.zone())
    return tuple(zones)


class _ZonePart:
    """A zone while its lines are read."""

    def __init__(self, line: int, node: int, name: str) -> None:
        self.line, self.node, self.name = line, node, name
        self.numbers: dict[str, int] = {}
        self.protection: tuple[int, ...] | None = None
        self.pcp = 0
        self.pagesets = False
        self.ended = False

    def take(self, number: int, line: str) -> None:
        if line == "pagesets":
            self.pagesets = True
        elif line.startswith("start_pfn:"):
            self.ended = True
        elif self.pagesets:
            if found := _PCP_COUNT.match(line):
                self.pcp += int(found[1])
        elif found := _PROTECTION.match(line):
            self.protection = tuple(integer(word.strip(), number) for word in found[1].split(","))
        elif (found := _ZONE_LINE.match(line)) or (found := _ZONE_STAT.match(line)):
            self.numbers.setdefault(found[1], int(found[2]))
        elif line.split(" ", maxsplit=1)[0] in _ZONE_NEEDS or line.startswith(("pages ", "protection")):
            raise Garbled(number, line, "a number of pages")

    def _reclaimable(self) -> int | None:
        """What zone_reclaimable_pages() counts; an empty zone has none and does not print the lines."""
        if not self.numbers["present"]:
            return 0
        parts = [self.numbers.get(name) for name in _RECLAIMABLE]
        return None if None in parts else sum(part or 0 for part in parts)

    def zone(self) -> Zone:
        lacking = [name for name in _ZONE_NEEDS if name not in self.numbers]
        if lacking or self.protection is None:
            raise Garbled(
                self.line, f"zone {self.name} without {(*lacking, 'protection')[0]}", "all of a zone's lines"
            )
        # An empty zone ends after its protection line (zoneinfo_show_print, `populated_zone`).
        if self.numbers["present"] and not self.ended:
            raise Garbled(self.line, f"zone {self.name} without its end", "start_pfn")
        if not self.numbers["min"] <= self.numbers["low"] <= self.numbers["high"]:
            raise Garbled(
                self.line, f"zone {self.name} with its watermarks out of order", "min <= low <= high"
            )
        get = self.numbers.get
        return Zone(
            node=self.node,
            name=self.name,
            free=self.numbers["free"],
            boost=get("boost", 0),  # not printed before 5.14
            min=self.numbers["min"],
            low=self.numbers["low"],
            high=self.numbers["high"],
            promo=get("promo"),
            spanned=self.numbers["spanned"],
            present=self.numbers["present"],
            managed=self.numbers["managed"],
            cma=get("cma"),
            free_cma=get("nr_free_cma", 0),
            protection=self.protection,
            pcp=self.pcp,
            highatomic=get("nr_free_highatomic"),
            reclaimable=self._reclaimable(),
        )


def highatomic(text: str) -> dict[tuple[int, str], int]:
    """Free pages of HighAtomic blocks by node and zone, from /proc/pagetypeinfo (mm/vmstat.c)."""
    made: dict[tuple[int, str], int] = {}
    for line in text.splitlines():
        found = _PAGETYPE.match(line)
        # Above a limit the kernel stops counting and prints `>100000`.
        counts = [word.lstrip(">") for word in found[3].split()] if found else []
        if found and all(word.isdecimal() for word in counts):
            pages = sum(int(count) << order for order, count in enumerate(counts))
            made[int(found[1]), found[2]] = pages
    return made


def meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo: numbers as printed, in kB where the line says so."""
    made: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, colon, rest = line.partition(":")
        words = rest.split()
        if not colon or not words or len(words) > 2 or words[1:] not in ([], ["kB"]):
            raise Garbled(number, line, "NAME: N kB")
        made[name] = integer(words[0], number)
    if "MemTotal" not in made:
        raise Garbled(1, "no MemTotal", "MemTotal: N kB")
    return made


def counters(text: str) -> dict[str, int]:
    """/proc/vmstat: a name and a number a line."""
    made: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if len(words) != 2:
            raise Garbled(number, line, "NAME N")
        made[words[0]] = integer(words[1], number)
    return made


def unescape(word: str) -> str:
    """What seq_path() and mangle_path() escaped: backslash and three octal digits."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), word)


def swap_line(line: str) -> SwapLine:
    """A line of /proc/swaps below its head (mm/swapfile.c: swap_show)."""
    words = line.split()
    if len(words) != 5 or words[1] not in ("partition", "file") or not words[0].startswith("/"):
        raise Garbled(1, line, "PATH partition|file SIZE USED PRIORITY")
    return SwapLine(
        path=unescape(words[0]),
        kind=words[1],
        size_kib=integer(words[2]),
        used_kib=integer(words[3]),
        priority=integer(words[4]),
    )


def mount_line(line: str) -> Mount:
    """A line of /proc/PID/mountinfo (fs/proc_namespace.c: show_mountinfo)."""
    expected = "ID PARENT MAJOR:MINOR ROOT POINT OPTIONS ... - FSTYPE SOURCE OPTIONS"
    left, dash, right = line.partition(" - ")
    words = left.split(" ")
    rest = right.split(" ")
    if not dash or len(words) < 6 or len(rest) != 3 or not rest[0]:
        raise Garbled(1, line, expected)
    major, colon, minor = words[2].partition(":")
    if not colon or not is_number(major) or not is_number(minor):
        raise Garbled(1, line, expected)
    options = dict.fromkeys(words[5].split(",") + rest[2].split(","))
    # The superblock's `rw` must not hide a read-only mount.
    if "ro" in options:
        options.pop("rw", None)
    return Mount(
        id=integer(words[0]),
        device=words[2],
        root=unescape(words[3]),
        point=unescape(words[4]),
        fstype=rest[0],
        source=unescape(rest[1]),
        options=tuple(options),
    )


def old_mount_line(line: str) -> Mount:
    """A line of /proc/mounts, which names no device number."""
    words = line.split(" ")
    if len(words) != 6:
        raise Garbled(1, line, "SOURCE POINT FSTYPE OPTIONS 0 0")
    return Mount(
        id=0,
        device="0:0",
        root="/",
        point=unescape(words[1]),
        fstype=words[2],
        source=unescape(words[0]),
        options=tuple(words[3].split(",")),
    )


_STATS_HEAD = re.compile(r"device (\S+) mounted on (\S+) with fstype (\S+)(?: statvers=.*)?$")
_STATS_BARE = re.compile(r"no device mounted on (\S+) with fstype (\S+)$")


def mountstats(text: str) -> tuple[MountStats, ...]:
    """/proc/self/mountstats: every mount, NFS ones with options and xprt lines (fs/nfs/super.c: nfs_show_stats)."""
    made: list[MountStats] = []
    head: tuple[str, str, str] | None = None
    options: dict[str, str] = {}
    xprts: list[tuple[str, ...]] = []
    start = 0

    def close() -> None:
        if head:
            made.append(
                MountStats(
                    source=head[0],
                    point=head[1],
                    fstype=head[2],
                    options=dict(options),
                    xprts=tuple(xprts),
                    line=start,
                )
            )
        options.clear()
        xprts.clear()

    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(("device ", "no device ")):
            close()
            found, bare = _STATS_HEAD.match(line), _STATS_BARE.match(line)
            if found:
                head = (unescape(found[1]), unescape(found[2]), found[3])
            elif bare:
                head = ("", unescape(bare[1]), bare[2])
            else:
                raise Garbled(number, line, "device SOURCE mounted on POINT with fstype TYPE")
            start = number
        elif line.strip() and head is None:
            raise Garbled(number, line, "device SOURCE mounted on POINT with fstype TYPE")
        elif line.startswith("\topts:\t"):
            for word in line[7:].strip().split(","):
                name, _, value = word.partition("=")
                options[name] = value
        elif line.strip().startswith("xprt:"):
            xprts.append(tuple(line.split()[1:]))
    close()
    if not made:
        raise Garbled(1, "nothing", "device SOURCE mounted on POINT with fstype TYPE")
    return tuple(made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """What is needed of /proc/PID/stat."""

    pid: int
    comm: str
    state: str
    ppid: int
    flags: int  # PF_*


def stat(text: str) -> Stat:
    """/proc/PID/stat (fs/proc/array.c: do_task_stat). The name may hold spaces and brackets."""
    pid, opened, rest = text.partition(" (")
    comm, closed, tail = rest.rpartition(") ")
    words = tail.split()
    if not opened or not closed or len(words) < 7:
        raise Garbled(1, text.strip(), "PID (COMM) STATE PPID ...")
    return Stat(pid=integer(pid), comm=comm, state=words[0], ppid=integer(words[1]), flags=integer(words[6]))


def status(text: str) -> dict[str, str]:
    """/proc/PID/status: names and values as printed."""
    made: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, colon, value = line.partition(":")
        if not colon:
            raise Garbled(number, line, "NAME: VALUE")
        made[name] = value.strip()
    if "Name" not in made:
        raise Garbled(1, "no Name", "Name: COMM")
    return made


def status_kib(fields: Mapping[str, str], name: str) -> int | None:
    """A size of /proc/PID/status in KiB; kernel threads have none."""
    words = fields.get(name, "").split()
    return int(words[0]) if len(words) == 2 and is_number(words[0]) and words[1] == "kB" else None


def module_name(line: str) -> str:
    """A line of /proc/modules."""
    words = line.split()
    if len(words) < 5 or not is_number(words[1]):
        raise Garbled(1, line, "NAME SIZE USES BY STATE ADDRESS")
    return words[0]


def cgroup_path(text: str) -> tuple[str, bool]:
    """The memory cgroup of a process (/proc/PID/cgroup); the second says that it is in the unified hierarchy."""
    unified: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split(":", 2)
        if len(words) != 3:
            raise Garbled(number, line, "ID:CONTROLLERS:PATH")
        if "memory" in words[1].split(","):
            return words[2], False
        if words[0] == "0" and not words[1]:
            unified = words[2]
    if unified is None:
        raise Garbled(1, text.strip(), "0::PATH")
    return unified, True


def cpu_list(text: str) -> int:
    """How many CPUs a list such as `0-3,8` names."""
    count = 0
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        low = integer(first)
        high = integer(last) if dash else low
        if high < low:
            raise Garbled(1, text.strip(), "a list of CPUs")
        count += high - low + 1
    return count
