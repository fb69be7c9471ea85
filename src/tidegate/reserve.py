"""The itemised sum: who may withdraw how much below the min watermark, and who may pin how much above it.

One row a holder, each with its reason. Pure arithmetic over plain inputs: the same sum is printed by `check`,
applied by the guard and proved on the model. `host/load.py` makes the inputs from a host.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """One zone as /proc/zoneinfo shows it, in pages."""

    node: int
    name: str
    free: int
    boost: int
    min: int  # WMARK_MIN without the boost... as zoneinfo prints it
    low: int
    high: int
    promo: int | None
    spanned: int
    present: int
    managed: int
    cma: int | None
    free_cma: int
    protection: tuple[int, ...]  # lowmem_reserve by highest zone of the request
    pcp: int  # pages on per-CPU lists
    highatomic: int | None = None
