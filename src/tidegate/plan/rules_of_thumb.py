"""Published numbers for vm.min_free_kbytes on one host: would settings alone hold with them?"""

from __future__ import annotations

from tidegate import watermarks
from tidegate.host.facts import Host
from tidegate.host.load import reserve_of
from tidegate.plan.bounds import Goal, meets_at, ram_kib
from tidegate.result import Reserve, RuleOfThumb
from tidegate.rules_of_thumb import Facts, published

_ALONE = Goal(condition="settings_alone", sized=False)


def rules_of_thumb(now: Host, planned: Host) -> tuple[RuleOfThumb, ...]:
    """Each with its value for this machine, tried on the host as it is and with the plan's other settings."""
    memory, ram = now.memory, ram_kib(now)
    if memory is None or not memory.zones or ram is None:
        return ()
    default = watermarks.calculate_min_free_kbytes(memory.zones, now.page_bytes)
    facts = Facts(ram_kib=ram, default_kib=default, nodes=max(memory.nodes, 1))
    sums = reserve_of(now), reserve_of(planned)
    return tuple(
        RuleOfThumb(
            name=advice.name,
            source=advice.source,
            min_free_kib=kib,
            holds_now=_enough(now, sums[0], kib),
            holds_planned=_enough(planned, sums[1], kib),
        )
        for advice, kib in published(facts)
    )


def _enough(host: Host, total: Reserve, kib: int) -> bool | None:
    """Would this value make settings alone hold; None where the sum cannot be told."""
    if host.memory is None or total.need_pages is None or total.pin_pages is None:
        return None
    managed = sum(zone.managed for zone in host.memory.zones)
    if kib * 1024 // host.page_bytes >= managed:
        return False  # more than the machine has
    return meets_at(host, host.memory, total, _ALONE, kib)
