"""What happened in a trial and when, as one line an event: from counters, wire and console, in the guest's time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tidegate.trace import Event, Kind
from tidegate.trial import Second

_MS = 1_000_000  # ns
# What the rig noted while it ran, as a step of the trace. The other side's doings are the adversary's.
_MARKS = {"trouble begins": Kind.ADVERSARY, "storm ends": Kind.ADVERSARY}
_OOM_WORDS = ("Out of memory: Killed process", "System is deadlocked on memory")


def happened(
    seconds: Sequence[Second], marks: Sequence[tuple[int, str]], wire: Mapping[str, float], console: str
) -> tuple[Event, ...]:
    """The few moments that matter, in order.

    Steps of the load are known to 50 ms, swap-outs to a second, and those of the wire less well: their ages are of
    this machine's clock, and the guest's may go slower.
    """
    end_ms = max([one.guest_ms for one in seconds] + [at for at, _ in marks], default=0)
    found = [_event(at, word, _MARKS.get(word, Kind.SYSTEM)) for at, word in marks]
    outs = [b for a, b in zip(seconds, seconds[1:], strict=False) if b.swapped_out_pages > a.swapped_out_pages]
    if outs:
        found.append(_event(outs[-1].guest_ms, "last swap-out", pages=outs[-1].swapped_out_pages))
    for name, step in (("last_reply_s", "last reply on the wire"), ("last_request_s", "last request on the wire")):
        age = wire.get(name, -1.0)
        if age >= 0:
            found.append(_event(max(end_ms - round(age * 1000), 0), step, ago_ms=round(age * 1000)))
    if seconds:
        last = seconds[-1]
        found.append(
            _event(
                last.guest_ms, "end", free_pages=last.free_pages, slack_pages=last.slack_pages,
                udp_mem_pages=last.udp_mem_pages, tcp_mem_pages=last.tcp_mem_pages,
            )
        )  # fmt: skip
    if line := next((line for line in console.splitlines() if any(word in line for word in _OOM_WORDS)), ""):
        found.append(_event(end_ms, "OOM", said=line.split("] ", 1)[-1].strip()[:160]))
    return tuple(sorted(found, key=lambda one: one.time_ns))


def _event(at_ms: int, step: str, kind: Kind = Kind.SYSTEM, **facts: int | str) -> Event:
    return Event(time_ns=at_ms * _MS, step=step, kind=kind, facts=facts)
