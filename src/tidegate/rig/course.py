"""What happened so far in a running trial."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tidegate.rig.happened import Mark
from tidegate.rig.verdict import Watch
from tidegate.trial import Second


@dataclass(slots=True)
class Course:
    """Grows while the trial is watched; the result and the bundle are made from it."""

    watch: Watch = field(default_factory=Watch)
    seconds: list[Second] = field(default_factory=list)
    looks: dict[str, str] = field(default_factory=dict)
    storms: int = 0
    sent: int = 0
    stalled_server: float = 0.0  # when the server was stopped
    peak: dict[str, int] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)  # troubles that have begun
    settings: dict[str, str] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)  # tcp_mem, udp_mem as they are when the load begins
    marks: list[Mark] = field(default_factory=list)  # for the bundle's trace

    def mark(self, guest_ms: int, step: str) -> None:
        """Notes a moment for the trace."""
        self.marks.append(Mark(guest_ms=guest_ms, step=step, at_s=time.monotonic()))
