"""From what was observed of a guest to the next step, and in the end to a verdict. Pure: no clock, no guest.

Time is the guest's own: how often a program that only sleeps got to run, so that a busy or stopped host never makes
a verdict. Stands still: no step of the load. Pages swapped do not count as steps: pswpin and pswpout are counted when
a request is submitted (swap_writepage, swap_readpage), so they also grow while every request fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tidegate.trial import Verdict

STILL_MS = 15_000  # without a step: the storm is ended, to see whether it recovers by itself
AFTER_CALM_MS = 8_000  # then the first look inside
BETWEEN_LOOKS_MS = 7_000  # and the second one
# TCP's capped back-off is 120 s (TCP_RTO_MAX): a connection may be silent for so long and yet go on.
BACK_OFF_MS = 130_000
LONGEST_MS = 240_000  # of the load; a guest that still makes steps then is slow, not stuck


class Step(StrEnum):
    """What the trial does next."""

    GO_ON = "go on"
    CALM = "calm"  # end the storm
    LOOK = "look"  # SysRq, counters, capture
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of the guest at one moment."""

    guest_ms: int  # of the guest's own running, from the load's first step
    done_pages: int
    finished: bool  # every program of the load is done
    wrong_pages: int = 0
    oom_kills: int = 0
    panic: str = ""  # the console's own words


@dataclass(slots=True)
class Watch:
    """What one trial has been like so far."""

    progress: int = 0  # steps of the load
    progress_ms: int = 0
    longest_stall_ms: int = 0
    calm_ms: int | None = None
    looks: int = 0
    same_wait: bool = False  # the two looks showed the same tasks in the same circle
    verdict: Verdict | None = None
    reason: str = ""
    storming: bool = False  # there is a storm that can be ended


def step(watch: Watch, seen: Seen) -> Step:
    """Takes one observation in and says what comes next; `watch.verdict` is set when that is END."""
    if seen.panic:
        return _end(watch, Verdict.PANIC, f"the kernel gave up: {seen.panic}")
    if seen.oom_kills:
        return _end(watch, Verdict.OOM, f"the OOM killer ended {seen.oom_kills} programs")
    if seen.done_pages != watch.progress:
        watch.progress, watch.progress_ms = seen.done_pages, seen.guest_ms
        watch.looks, watch.same_wait = 0, False
    still = seen.guest_ms - watch.progress_ms
    watch.longest_stall_ms = max(watch.longest_stall_ms, still)
    if seen.finished:
        return _finished(watch, seen)
    if still >= STILL_MS and watch.calm_ms is None:
        watch.calm_ms = seen.guest_ms
        return Step.CALM
    if watch.calm_ms is not None and still >= STILL_MS:
        return _stands_still(watch, seen.guest_ms - max(watch.calm_ms, watch.progress_ms), still)
    if seen.guest_ms >= LONGEST_MS and not still:  # one that has just stopped may be stuck: the looks decide
        return _end(
            watch,
            Verdict.INCONCLUSIVE,
            f"not done after {seen.guest_ms / 1000:.0f} s of the guest's time, never still for longer than "
            f"{watch.longest_stall_ms / 1000:.1f} s: slow, not stuck",
        )
    return Step.GO_ON


def _finished(watch: Watch, seen: Seen) -> Step:
    stall = watch.longest_stall_ms / 1000
    if seen.wrong_pages:
        return _end(
            watch,
            Verdict.INCONCLUSIVE,
            f"{seen.wrong_pages} pages came back from the device with other contents",
        )
    if watch.longest_stall_ms >= STILL_MS:
        return _end(
            watch, Verdict.STALLED, f"stood still for {stall:.1f} s of the guest's time, then finished"
        )
    return _end(watch, Verdict.SURVIVED, f"all pages written and read back; longest stand {stall:.1f} s")


def _stands_still(watch: Watch, calm_for_ms: int, still_ms: int) -> Step:
    if watch.looks == 0 and calm_for_ms >= AFTER_CALM_MS:
        watch.looks = 1
        return Step.LOOK
    if watch.looks == 1 and calm_for_ms >= AFTER_CALM_MS + BETWEEN_LOOKS_MS:
        watch.looks = 2
        return Step.LOOK
    if watch.looks == 2 and watch.same_wait:
        return _end(
            watch,
            Verdict.WEDGED,
            f"no step for {still_ms / 1000:.0f} s of the guest's time, {calm_for_ms / 1000:.0f} s of it after the "
            "storm; two looks apart show the same tasks waiting in the same circle",
        )
    if calm_for_ms >= BACK_OFF_MS:
        return _end(
            watch,
            Verdict.WEDGED,
            f"no step for {still_ms / 1000:.0f} s of the guest's time, {calm_for_ms / 1000:.0f} s of it after the "
            "storm: longer than TCP's longest back-off",
        )
    return Step.GO_ON


def _end(watch: Watch, verdict: Verdict, reason: str) -> Step:
    watch.verdict, watch.reason = verdict, reason
    return Step.END
