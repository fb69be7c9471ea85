"""One event: what the running mechanism did, at what time, in one line of JSON.

The same schema serves every judge: a run of `simulate` writes it, a picture is drawn from it, and a trace of a real
kernel can be laid beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

TRACE_SCHEMA = "tidegate.trace/1"


class Kind(StrEnum):
    """Whose step it is: fairness binds the system, nothing binds the adversary."""

    SYSTEM = "system"  # kernel, NIC, server, delivery on the wire, timers
    ADVERSARY = "adversary"  # foreign packets, loss, reordering, readers and taps, dirtying, coins, eaters


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step. `step` is the kernel function's name, `facts` its numbers; `time_ns` is virtual."""

    time_ns: int
    step: str
    kind: Kind
    facts: dict[str, int | str] = field(default_factory=dict)
