"""What happened in a trial and when, as one line an event: from counters, wire and console, in the guest's time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tidegate.trace import Event, Kind
from tidegate.trial import Second

_MS = 1_000_000  # ns
# The other side's doings are the adversary's, all else is the system's.
_MARKS = {"trouble begins": Kind.ADVERSARY, "storm ends": Kind.ADVERSARY}
_OOM_WORDS = ("Out of memory: Killed process", "System is deadlocked on memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What the rig noted while it ran."""

    guest_ms: int
    step: str
    at_s: float | None = None  # time.monotonic() of this machine; None where it was found out later


def happened(
    seconds: Sequence[Second], marks: Sequence[Mark], wire: Mapping[str, float], console: str, *, now_s: float
) -> tuple[Event, ...]:
    """The few moments that matter, in order. `wire` has the ages of the last reply and request, as of `now_s`.

    Steps of the load are known to 50 ms, swap-outs to a second. The wire's times are of this machine's clock, and
    are laid between the marks next to them, since the guest's clock may go slower.
    """
    end_ms = max([one.guest_ms for one in seconds] + [mark.guest_ms for mark in marks], default=0)
    found = [_event(mark.guest_ms, mark.step, _MARKS.get(mark.step, Kind.SYSTEM)) for mark in marks]
    clock = sorted(
        [(mark.at_s, mark.guest_ms) for mark in marks if mark.at_s is not None] + [(now_s, end_ms)]
    )
    outs = [
        after for before, after in pairwise(seconds) if after.swapped_out_pages > before.swapped_out_pages
    ]
    if outs:
        found.append(_event(outs[-1].guest_ms, "last swap-out", pages=outs[-1].swapped_out_pages))
    for name, step in (
        ("last_reply_s", "last reply on the wire"),
        ("last_request_s", "last request on the wire"),
    ):
        age = wire.get(name, -1.0)
        if age >= 0:
            found.append(_event(_guest_ms(clock, now_s - age), step, ago_ms=round(age * 1000)))
    if seconds:
        last = seconds[-1]
        found.append(
            _event(
                end_ms, "end", free_pages=last.free_pages, slack_pages=last.slack_pages,
                udp_mem_pages=last.udp_mem_pages, tcp_mem_pages=last.tcp_mem_pages,
            )
        )  # fmt: skip
    if line := next((line for line in console.splitlines() if any(word in line for word in _OOM_WORDS)), ""):
        found.append(_event(end_ms, "OOM", said=line.split("] ", 1)[-1].strip()[:160]))
    return tuple(sorted(found, key=lambda one: one.time_ns))


def _guest_ms(clock: Sequence[tuple[float, int]], at_s: float) -> int:
    """The guest's ms at a moment of this machine, between the two readings of both that are next to it."""
    if at_s <= clock[0][0]:
        return clock[0][1]
    for (before_s, before_ms), (after_s, after_ms) in pairwise(clock):
        if at_s <= after_s:
            return before_ms + round((after_ms - before_ms) * (at_s - before_s) / (after_s - before_s))
    return clock[-1][1]


def _event(at_ms: int, step: str, kind: Kind = Kind.SYSTEM, **facts: int | str) -> Event:
    return Event(time_ns=at_ms * _MS, step=step, kind=kind, facts=facts)
