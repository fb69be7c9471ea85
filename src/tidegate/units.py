"""Sizes and roundings that everything else counts in.

Pages are the kernel's; `KIB` is what the kernel calls kB. Units stand last in every name.
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def div_ceil(amount: int, unit: int) -> int:
    """The least number of `unit`s that hold `amount` (the kernel's DIV_ROUND_UP)."""
    assert unit > 0, unit
    return -(-amount // unit)


def bytes_to_pages(amount_bytes: int, page_bytes: int = 4096) -> int:
    """Whole pages needed to hold `amount_bytes`."""
    assert amount_bytes >= 0, amount_bytes
    return div_ceil(amount_bytes, page_bytes)


def pages_to_kib(pages: int, page_bytes: int = 4096) -> int:
    """Pages as the kernel's kB; exact, since a page is a whole number of kB."""
    return pages * page_bytes // KIB


def human_bytes(amount_bytes: int) -> str:
    """A size for people: three digits and a binary unit, `1.5 MiB`; whole below 1 KiB."""
    if abs(amount_bytes) >= KIB**8:  # no machine's; float() would overflow on what garbage can say
        return "over 1024 ZiB"
    size = float(amount_bytes)
    if abs(size) < KIB:
        return f"{amount_bytes} B"
    unit = "B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= KIB
        if abs(size) < KIB:
            break
    return f"{size:.0f} {unit}" if abs(size) >= 100 else f"{size:.1f} {unit}"


def human_pages(pages: int, page_bytes: int = 4096) -> str:
    """A number of pages with its size: `3,907 pages (15.3 MiB)`."""
    return f"{pages:,} pages ({human_bytes(pages * page_bytes)})"
