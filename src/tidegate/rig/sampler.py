"""How near a guest's zones came to their floors: its RAM looked at a thousand times a second, from outside."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from tidegate.errors import Unsupported
from tidegate.rig.ram import KernelMemory, Word, zone_addresses, zones
from tidegate.trial import ZoneMargin
from tidegate.watermarks import atomic_share

EVERY_S = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowest:
    """The least slack seen, and when; see Second in tidegate.trial."""

    slack_pages: int
    jiffies: int  # the guest's jiffies_64 at that look
    at_s: float  # time.monotonic() of this machine
    looks: int  # how many there were
    longest_gap_s: float  # between two looks: what was shorter may have been missed


@dataclass(slots=True)
class _Place:
    """One zone: where its numbers stand in the RAM's words, and the lowest that was seen."""

    node: int
    name: str
    managed: int
    free: Word
    wmark_min: Word
    reserve: Word
    lowest_free: int
    min_then: int = 0
    floor_then: int = 0


class Sampler:
    """Looks at a booted guest again and again; all places are worked out once, at the start.

    Watermarks are read at every look, since a trial may set them. Between two looks a zone may have been
    lower: the lows are upper bounds. One thread may take() while others read lowest() and margins().
    """

    def __init__(self, memory: KernelMemory) -> None:
        """Raises Unsupported for a guest that has not set up its memory; see KernelMemory.booted()."""
        self._places = _places(memory)
        if not self._places:
            raise Unsupported("guest RAM: found no zone with memory, expected a kernel that has booted")
        self._jiffies = memory.word(memory.layout.symbols["jiffies_64"])
        self.restart()

    def restart(self) -> None:
        """Forgets all lows and looks once: what was before, such as the boot, does not count."""
        for place in self._places:
            place.lowest_free = 1 << 62
        self._least, self._least_jiffies, self._least_at = 1 << 62, 0, 0.0
        self._looks, self._gap, self._last = 0, 0.0, time.monotonic()
        self.take()

    def take(self) -> int:
        """One look: the slack now, in pages."""
        best = -(1 << 62)
        for place in self._places:
            words, index = place.free
            free = words[index]
            words, index = place.wmark_min
            wmark_min = words[index]
            words, index = place.reserve
            floor = atomic_share(wmark_min) + words[index]
            best = max(best, free - floor)
            if free < place.lowest_free:
                place.lowest_free, place.min_then, place.floor_then = free, wmark_min, floor
        now = time.monotonic()
        self._looks += 1
        self._gap, self._last = max(self._gap, now - self._last), now
        if best < self._least:
            words, index = self._jiffies
            self._least, self._least_jiffies, self._least_at = best, words[index], now
        return best

    def run(self, stop: threading.Event, every_s: float = EVERY_S) -> None:
        """Takes a look every `every_s` seconds until `stop` is set: the body of a thread or a process."""
        while not stop.is_set():
            self.take()
            time.sleep(every_s)  # Event.wait() with a timeout costs several times as much

    def look_for(self, seconds: float, every_s: float = EVERY_S) -> None:
        """Looks again and again for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.take()
            time.sleep(every_s)

    def free_pages(self) -> int:
        """Free pages of all the zones, now."""
        return sum(place.free[0][place.free[1]] for place in self._places)

    def lowest(self) -> Lowest:
        """The least slack since the start."""
        return Lowest(
            slack_pages=self._least,
            jiffies=self._least_jiffies,
            at_s=self._least_at,
            looks=self._looks,
            longest_gap_s=self._gap,
        )

    def margins(self) -> tuple[ZoneMargin, ...]:
        """Each zone at its own lowest, with the min and floor it had then."""
        return tuple(
            ZoneMargin(
                node=place.node,
                zone=place.name,
                managed_pages=place.managed,
                min_pages=place.min_then,
                floor_pages=place.floor_then,
                lowest_free_pages=place.lowest_free,
            )
            for place in self._places
        )


def _places(memory: KernelMemory) -> tuple[_Place, ...]:
    where = memory.layout
    zone_stat, marks = where.enums["zone_stat_item"], where.enums["zone_watermarks"]
    addresses = {(node, kind): at for node, kind, at in zone_addresses(memory)}
    kinds = where.zone_names
    found = []
    for zone in zones(memory):
        kind = kinds.index(zone.name)
        if kind <= where.kernel_zone:  # of the others no GFP_ATOMIC request is served
            at = addresses[zone.node, kind]
            found.append(
                _Place(
                    node=zone.node,
                    name=zone.name,
                    managed=zone.managed,
                    free=memory.word(at + where.zone("vm_stat", zone_stat["NR_FREE_PAGES"])),
                    wmark_min=memory.word(at + where.zone("_watermark", marks["WMARK_MIN"])),
                    reserve=memory.word(at + where.zone("lowmem_reserve", where.kernel_zone)),
                    lowest_free=zone.free,
                )
            )
    return tuple(found)
