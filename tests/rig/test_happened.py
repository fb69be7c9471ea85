"""The few moments of a trial that matter, in the guest's own time."""

from __future__ import annotations

import msgspec
import pytest

from tidegate.rig.happened import Mark, happened
from tidegate.trace import Event, Kind
from tidegate.trial import Second

NEVER = {"last_reply_s": -1.0, "last_request_s": -1.0}


def second(ms: int, *, out: int = 0, free: int = 100) -> Second:
    return Second(
        guest_ms=ms,
        free_pages=free,
        slack_pages=-3,
        done_pages=0,
        swapped_out_pages=out,
        swapped_in_pages=0,
        udp_mem_pages=7,
        tcp_mem_pages=0,
    )


def test_everything_comes_in_the_order_of_time() -> None:
    seconds = [second(0), second(1000, out=65), second(2000, out=65), second(40_000, out=65)]
    marks = [
        Mark(guest_ms=0, step="load begins", at_s=500.0),
        Mark(guest_ms=0, step="trouble begins", at_s=500.0),
        Mark(guest_ms=15_700, step="storm ends", at_s=515.7),
        Mark(guest_ms=550, step="below floor", at_s=500.55),
        Mark(guest_ms=700, step="last step"),
    ]
    found = happened(seconds, marks, {"last_reply_s": 39.4, "last_request_s": 6.0}, "", now_s=540.0)
    assert [(event.time_ns // 1_000_000, event.step) for event in found] == [
        (0, "load begins"),
        (0, "trouble begins"),
        (550, "below floor"),
        (600, "last reply on the wire"),
        (700, "last step"),
        (1000, "last swap-out"),
        (15_700, "storm ends"),
        (34_000, "last request on the wire"),
        (40_000, "end"),
    ]
    assert [event.kind for event in found if event.step in {"trouble begins", "storm ends"}] == [
        Kind.ADVERSARY
    ] * 2
    assert found[-1].facts == {"free_pages": 100, "slack_pages": -3, "udp_mem_pages": 7, "tcp_mem_pages": 0}


@pytest.mark.parametrize(
    ("age_s", "guest_ms"), [(150.0, 0), (100.0, 0), (90.0, 1000), (85.0, 1500), (40.0, 6000), (0.0, 10_000)]
)
def test_the_wires_clock_is_laid_between_the_marks(age_s: float, guest_ms: int) -> None:
    """The guest ran at a tenth of this machine's speed; before the load there is no guest time."""
    marks = [
        Mark(guest_ms=0, step="load begins", at_s=900.0),
        Mark(guest_ms=1000, step="below floor", at_s=910.0),
    ]
    found = happened([second(10_000)], marks, NEVER | {"last_reply_s": age_s}, "", now_s=1000.0)
    (reply,) = (event for event in found if event.step == "last reply on the wire")
    assert reply.time_ns == guest_ms * 1_000_000


def test_what_never_was_is_no_event() -> None:
    assert happened([], [], NEVER, "", now_s=0.0) == ()
    assert [event.step for event in happened([second(0)], [], NEVER, "", now_s=0.0)] == ["end"]


def test_the_kernels_words_of_killing() -> None:
    console = "[    1.0] hello\n[   12.5] Out of memory: Killed process 137 (init) total-vm:25804kB\n"
    found = happened([second(3000)], [], NEVER, console, now_s=1.0)
    assert [event.facts["said"] for event in found if event.step == "OOM"] == [
        "Out of memory: Killed process 137 (init) total-vm:25804kB"
    ]


def test_a_line_is_the_schema_of_every_judge() -> None:
    (event,) = happened([], [Mark(guest_ms=5, step="look 1", at_s=1.0)], NEVER, "", now_s=1.0)
    assert msgspec.json.decode(msgspec.json.encode(event), type=Event) == event
