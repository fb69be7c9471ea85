"""The page size of a host that is only known by its files."""

from __future__ import annotations

import re

from tidegate.units import KIB

_OTHER_PAGES = ("aarch64", "arm64", "ppc64", "loongarch", "mips", "ia64", "sparc")
_MANAGED = re.compile(r"^\s+managed\s+(\d+)$", re.MULTILINE)
_TOTAL = re.compile(r"^MemTotal:\s+(\d+) kB$", re.MULTILINE)


def page_bytes(machine: str, meminfo: str, zoneinfo: str) -> int:
    """The page size, which no file tells: where a machine knows several, MemTotal by all managed pages (si_meminfo).

    The ordinary 4096 where that leads to no size there is: a balloon or memory not yet accepted counts differently.
    """
    total = _TOTAL.search(meminfo)
    managed = sum(int(pages) for pages in _MANAGED.findall(zoneinfo))
    if (not machine or machine.startswith(_OTHER_PAGES)) and total and managed:
        measured = int(total[1]) * KIB / managed
        for size in (4096, 8192, 16384, 65536):
            if abs(measured - size) < size / 10:
                return size
    return 4096
