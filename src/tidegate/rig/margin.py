"""How near each zone comes to where an ordinary atomic allocation ends, read from the guest's memory all the time.

The watermarks are read again now and then, since settings and kswapd's boost change them; the free counters at each
poll.
"""

from __future__ import annotations

import time

from tidegate.rig.ram import KernelMemory, Word, floor, zone_addresses, zones
from tidegate.trial import ZoneMargin
from tidegate.watermarks import Zone, serves_kernel

_POLL_S = 0.001
_MARKS_EACH_S = 0.5


class Margin:
    """The lowest values seen so far."""

    def __init__(self, memory: KernelMemory) -> None:
        self.memory = memory
        self.seen: tuple[Zone, ...] = zones(memory)
        self.kernel_zone = memory.layout.kernel_zone
        self.words = [self._free_word(zone) for zone in self.seen]
        self.floors = [floor(zone, self.kernel_zone) for zone in self.seen]
        self.serves = [serves_kernel(zone) for zone in self.seen]
        self.lowest = [zone.free for zone in self.seen]
        self.lowest_slack = self._slack([zone.free for zone in self.seen])
        self.marks_at = time.monotonic()

    def _free_word(self, zone: Zone) -> Word:
        names = {f"{node} {kind}": at for node, kind, at in zone_addresses(self.memory)}
        enums = self.memory.layout.enums
        wanted = next(
            at
            for key, at in names.items()
            if key.split()[0] == str(zone.node)
            and _name(enums["zone_type"], int(key.split()[1])) == zone.name
        )
        items = enums["zone_stat_item"]
        return self.memory.word(wanted + self.memory.layout.zone("vm_stat", items["NR_FREE_PAGES"]))

    def _slack(self, free: list[int]) -> int:
        return max(n - f for n, f, s in zip(free, self.floors, self.serves, strict=True) if s)

    def now(self) -> tuple[int, int]:
        """Free pages of all zones, and the slack."""
        free = [int(words[at]) for words, at in self.words]
        return sum(free), self._slack(free)

    def poll_for(self, seconds: float) -> None:
        """Looks about once a millisecond for so long."""
        until = time.monotonic() + seconds
        while True:
            free = [int(words[at]) for words, at in self.words]
            self.lowest = [min(pair) for pair in zip(self.lowest, free, strict=True)]
            self.lowest_slack = min(self.lowest_slack, self._slack(free))
            now = time.monotonic()
            if now - self.marks_at > _MARKS_EACH_S:
                self.marks_at = now
                self.seen = zones(self.memory)
                self.floors = [floor(zone, self.kernel_zone) for zone in self.seen]
            if now >= until:
                return
            time.sleep(_POLL_S)

    def zones(self) -> tuple[ZoneMargin, ...]:
        """The lowest of each zone against its floor."""
        return tuple(
            ZoneMargin(
                node=zone.node,
                zone=zone.name,
                managed_pages=zone.managed,
                min_pages=zone.min - zone.boost,
                floor_pages=limit,
                lowest_free_pages=lowest,
            )
            for zone, limit, lowest in zip(self.seen, self.floors, self.lowest, strict=True)
        )


def _name(kinds: object, number: int) -> str:
    assert isinstance(kinds, dict)
    found = next(name for name, value in kinds.items() if value == number)
    return {"ZONE_NORMAL": "Normal", "ZONE_MOVABLE": "Movable", "ZONE_DEVICE": "Device"}.get(
        found, found.removeprefix("ZONE_")
    )
