"""The agent's page of counters as the host reads it, straight from the guest's memory (`agent/agent.h`)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

PAGE_BYTES = 4096
MAGIC = 0x31544E554F434754
TICK_MS = 50
HOGS_MAX = 32
READINGS = (
    "pswpin", "pswpout", "oom_kill", "nr_writeback", "nr_dirty", "allocstall", "throttled", "udp_mem", "tcp_mem",
    "frag_bytes", "pfmemalloc_drop", "tcp_rcvq_drop", "tcp_memory_pressures", "retransmits", "rx_packets",
    "rx_dropped", "rx_missed", "tx_packets", "tcp_backlog_drop", "tcp_abort_on_memory",
)  # fmt: skip
_HEAD = struct.Struct("<6Q")
_READINGS = struct.Struct(f"<{len(READINGS)}Q")
_HOG = struct.Struct("<4Q")


class Stage(IntEnum):
    """What one program of the load does."""

    WAITING = 0
    WRITING = 1
    READING_BACK = 2
    DONE = 3
    BROKEN = 4


@dataclass(frozen=True, slots=True)
class Hog:
    """One program of the load."""

    written: int
    read: int
    wrong: int  # pages that came back different
    stage: Stage


@dataclass(frozen=True, slots=True)
class Counters:
    """The page at one moment."""

    ticks: int  # of a program that only sleeps 50 ms: how long the guest really ran
    tick_ms: int
    reader_ms: int  # when /proc was last read whole
    go_ms: int
    readings: dict[str, int]
    hogs: tuple[Hog, ...]
    second_reads: int

    @property
    def done_pages(self) -> int:
        """Steps of the load: pages written, and pages read back."""
        return sum(hog.written + hog.read for hog in self.hogs)


def parse(page: bytes) -> Counters | None:
    """The counters; None while the page is not the agent's."""
    magic, ticks, tick_ms, reader_ms, go_ms, hogs = _HEAD.unpack_from(page)
    if magic != MAGIC or hogs > HOGS_MAX:
        return None
    values = _READINGS.unpack_from(page, _HEAD.size)
    at = _HEAD.size + _READINGS.size
    found = []
    for number in range(hogs):
        written, read, wrong, stage = _HOG.unpack_from(page, at + number * _HOG.size)
        found.append(Hog(written, read, wrong, Stage(stage)))
    (second,) = struct.unpack_from("<Q", page, at + HOGS_MAX * _HOG.size)
    return Counters(
        ticks, tick_ms, reader_ms, go_ms, dict(zip(READINGS, values, strict=True)), tuple(found), second
    )
