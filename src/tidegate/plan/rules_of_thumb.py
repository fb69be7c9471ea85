"""Published numbers for vm.min_free_kbytes, to stand beside the computed one.

None of them is derived from rings, connections or queue depth: for one machine of 16 GiB they differ by a
factor of 30 among each other.
"""

from __future__ import annotations

from tidegate import watermarks
from tidegate.host.facts import Host
from tidegate.host.load import reserve_of
from tidegate.plan.bounds import Goal, meets_at, ram_kib
from tidegate.result import RuleOfThumb

_ALONE = Goal(condition="settings_alone", sized=False)


def rules_of_thumb(now: Host, planned: Host) -> tuple[RuleOfThumb, ...]:
    """Each with its value for this machine, and whether settings alone would hold with it."""
    memory = now.memory
    if memory is None or not memory.zones:
        return ()
    default = watermarks.calculate_min_free_kbytes(memory.zones, now.page_bytes)
    ram = ram_kib(now)
    oracle = None if ram is None else ram * 4 // 1000 * max(memory.nodes, 1)
    published = (
        ("kernel default", "mm/page_alloc.c:calculate_min_free_kbytes: sqrt(16 * lowmem kB)", default),
        ("ten times the default", "Red Hat knowledge base 4085851, where reserve drops appear", 10 * default),
        ("0.4 % of RAM for each node", "Oracle, notes on ORA-27301 and ORA-27302", oracle),
        ("512 MiB", "NetApp StorageGRID, up to 48 GiB of RAM", 512 * 1024),
    )
    return tuple(
        RuleOfThumb(
            name=name,
            source=source,
            min_free_kib=kib,
            holds_now=_enough(now, kib),
            holds_planned=_enough(planned, kib),
        )
        for name, source, kib in published
    )


def _enough(host: Host, kib: int | None) -> bool | None:
    """Would this value make settings alone hold; None where the sum cannot be told."""
    if kib is None or host.memory is None:
        return None
    total = reserve_of(host)
    if total.need_pages is None or total.pin_pages is None:
        return None
    managed = sum(zone.managed for zone in host.memory.zones)
    if kib * 1024 // host.page_bytes >= managed:
        return False  # more than the machine has
    return meets_at(host, host.memory, total, _ALONE, kib)
