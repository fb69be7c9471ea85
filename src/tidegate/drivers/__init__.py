"""What each NIC driver does with its receive ring when memory is short: a table read in their sources.

Source read: Linux 6.12.117, x86-64, 4 KiB pages, MTU 1500; a fact that depends on the kernel version says so.
A driver that is not here is not known: `driver()` answers None, never a guess.
Pure data, standard library only. docs/drivers.md is made from it.
"""

from __future__ import annotations

from dataclasses import replace

from tidegate.drivers.ethernet import ETHERNET
from tidegate.drivers.intel import INTEL
from tidegate.drivers.row import Delivery, Driver, Failure, Refill, Refiller, Shape, Xdp
from tidegate.drivers.virtual import VIRTUAL

__all__ = [
    "DRIVERS",
    "Delivery",
    "Driver",
    "Failure",
    "Refill",
    "Refiller",
    "Shape",
    "Xdp",
    "driver",
    "shape_of",
]

DRIVERS: tuple[Driver, ...] = (*VIRTUAL, *INTEL, *ETHERNET)

_BY_NAME = {name: row for row in DRIVERS for name in (row.name, *row.aliases)}

JUMBO_FROM_BYTES = 3712  # above it a frame of class A is one kmalloc of a high order


def driver(name: str, kernel: tuple[int, int, int] | None = None) -> Driver | None:
    """The row of a driver by its kernel name, as it holds for this kernel version; None when it is not known.

    Without a version the row is the older, worse one.
    """
    row = _BY_NAME.get(name)
    if row is None or row.changed_in is None or kernel is None or kernel[:2] < row.changed_in:
        return row
    return replace(row, refiller=Refiller.NEXT_POLL, on_failure_text=row.change)


def shape_of(row: Driver, mtu: int | None) -> Shape:
    """What a frame of this driver withdraws at this MTU."""
    if row.shape is Shape.SLICES and mtu is not None and mtu > JUMBO_FROM_BYTES:
        return Shape.JUMBO
    return row.shape
