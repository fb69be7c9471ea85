"""Who held the reserve, and for how long: book-keeping beside the mechanism, which no design can see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.sim.clock import Clock
from tidegate.simulation import Holding

if TYPE_CHECKING:
    from tidegate.sim.skbuff import Skb

PAGE_BYTES = 4096


class _Sum:
    __slots__ = ("byte_ns", "bytes", "longest_ns", "packets")

    def __init__(self) -> None:
        self.byte_ns = self.longest_ns = self.packets = self.bytes = 0


class Held:
    """Packets whose memory came from the reserve, by the place that they are in."""

    __slots__ = ("_clock", "_sums")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sums: dict[str, _Sum] = {}

    def moved(self, skb: Skb, holder: str) -> None:
        """It is there from now on."""
        self._left(skb)
        skb.holder = holder
        skb.moved_ns = self._clock.now
        entered = self._sums.get(holder)
        if entered is None:
            entered = self._sums[holder] = _Sum()
        entered.packets += 1
        entered.bytes += skb.truesize

    def ended(self, skb: Skb) -> None:
        """It is freed."""
        self._left(skb)
        skb.moved_ns = self._clock.now

    def _left(self, skb: Skb) -> None:
        known = self._sums.get(skb.holder)
        if known is None:
            return  # straight out of the driver's hands
        stayed = self._clock.now - skb.moved_ns
        known.byte_ns += stayed * skb.truesize
        known.bytes -= skb.truesize
        known.longest_ns = max(known.longest_ns, stayed)

    def result(self, still: list[Skb]) -> tuple[Holding, ...]:
        """One row a holder, the largest first; `still` are the packets that are there at the end."""
        end = self._clock.now
        extra: dict[str, tuple[int, int]] = {}
        for skb in still:
            area, longest = extra.get(skb.holder, (0, 0))
            stayed = end - skb.moved_ns
            extra[skb.holder] = (area + stayed * skb.truesize, max(longest, stayed))
        rows = []
        for name, one in self._sums.items():
            area, longest = extra.get(name, (0, 0))
            rows.append(
                Holding(
                    holder=name,
                    page_ns=(one.byte_ns + area) // PAGE_BYTES,
                    longest_ns=max(one.longest_ns, longest),
                    packets=one.packets,
                    at_end_pages=-(-one.bytes // PAGE_BYTES),
                )
            )
        return tuple(sorted(rows, key=lambda row: (-row.page_ns, row.holder)))
