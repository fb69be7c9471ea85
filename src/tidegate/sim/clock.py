"""The virtual clock: integer nanoseconds and a heap of entries, taken in order of time, then of entry.

An entry is a function and its argument. Time never runs backwards, nothing reads the machine's own clock, and two
runs with one seed take the same entries.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

US = 1_000
MS = 1_000_000
SECOND = 1_000_000_000

Entry = tuple[int, int, Callable[[Any], None], Any]


class Clock:
    """What is due, and when. `now` is the time of the entry being taken; `events` counts the entries taken."""

    __slots__ = ("_heap", "_number", "events", "now")

    def __init__(self) -> None:
        self.now = 0
        self.events = 0
        self._heap: list[Entry] = []
        self._number = 0

    def at(self, time_ns: int, function: Callable[[Any], None], argument: Any) -> None:
        """Enters `function(argument)` at a time that is not past."""
        assert time_ns >= self.now, (time_ns, self.now)
        self._number = number = self._number + 1
        heappush(self._heap, (time_ns, number, function, argument))

    def after(self, delay_ns: int, function: Callable[[Any], None], argument: Any) -> None:
        """Enters `function(argument)` so much later than now."""
        assert delay_ns >= 0, delay_ns
        self._number = number = self._number + 1
        heappush(self._heap, (self.now + delay_ns, number, function, argument))

    def run(self, until_ns: int) -> None:
        """Takes every entry up to and including `until_ns`; then it is that time."""
        heap = self._heap
        taken = 0
        while heap and heap[0][0] <= until_ns:
            entry = heappop(heap)
            self.now = entry[0]
            taken += 1
            entry[2](entry[3])
        self.events += taken
        self.now = max(self.now, until_ns)

    def next_ns(self) -> int | None:
        """When the next entry is due; None where there is none."""
        return self._heap[0][0] if self._heap else None
