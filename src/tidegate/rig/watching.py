"""From the first step of the load to the verdict: looks at the guest's memory, and does what `verdict` says next."""

from __future__ import annotations

import time
from collections.abc import Callable

from tidegate.rig import counters, evidence, ram
from tidegate.rig.blocked import same_wait
from tidegate.rig.course import Course
from tidegate.rig.monitor import Monitor
from tidegate.rig.sampler import Sampler
from tidegate.rig.storm import existed, troubles
from tidegate.rig.trial_guest import Gone, Guest
from tidegate.rig.tried import Tried
from tidegate.rig.verdict import Seen, Step, step
from tidegate.rig.wire import FarSide
from tidegate.trial import Second, Verdict

ASK_MS = 2_000  # without a step: is the server still there?
POLL_S = 0.05
WALL_LIMIT_S = 1500.0  # a guest whose clock stands still never hangs the rig
PANIC_WORDS = ("Kernel panic", "System is deadlocked on memory", "Unable to handle kernel", "BUG: unable")

Tell = Callable[[str], None]


def pressed(
    tried: Tried,
    guest: Guest,
    side: FarSide,
    monitor: Monitor,
    memory: ram.KernelMemory,
    sampler: Sampler,
    course: Course,
    tell: Tell,
) -> tuple[Verdict, str]:
    """Lets the load go and watches until the verdict."""
    watch = course.watch
    first = read(memory, guest)
    sampler.restart()
    guest.obey("go")
    course.mark(0, "load begins")
    until = time.monotonic() + WALL_LIMIT_S
    last_second = -1
    while time.monotonic() < until:
        sampler.look_for(POLL_S)
        now = read(memory, guest)
        guest_ms = (now.ticks - first.ticks) * counters.TICK_MS
        panic = _panic(guest)
        if guest.process.poll() is not None and not panic:
            raise Gone(f"guest: QEMU ended with status {guest.process.returncode}: {guest.last_words()}")
        if guest_ms // 1000 != last_second:
            last_second = guest_ms // 1000
            course.seconds.append(_second(guest_ms, now, sampler))
            tell(f"{guest_ms // 1000} s, {now.done_pages} pages")
            # Whoever stands still may wait for nobody; that is not asked while all goes well.
            if guest_ms - watch.progress_ms >= ASK_MS and not side.server_runs():
                return Verdict.LOST, "server: its process ended during the trial"
        for name in ("udp_mem", "tcp_mem", "frag_bytes"):
            course.peak[name] = max(course.peak.get(name, 0), now.readings[name])
        began = len(course.done)
        troubles(tried.trial, tried.arm, side, course, now.done_pages)
        if len(course.done) != began:
            course.mark(guest_ms, "trouble begins")
        if sampler.lowest().slack_pages <= 0 and all(mark.step != "below floor" for mark in course.marks):
            course.mark(guest_ms, "below floor")
        seen = Seen(
            guest_ms=guest_ms,
            done_pages=now.done_pages,
            finished=all(hog.stage is counters.Stage.DONE for hog in now.hogs),
            wrong_pages=sum(hog.wrong for hog in now.hogs),
            oom_kills=now.readings["oom_kill"] - first.readings["oom_kill"],
            panic=panic,
        )
        following = step(watch, seen)
        if following is Step.CALM:
            tell("stands still: the storm ends")
            side.order("calm")
            course.mark(guest_ms, "storm ends")
        elif following is Step.LOOK:
            course.looks |= evidence.look(monitor, guest, watch.looks)
            course.mark(guest_ms, f"look {watch.looks}")
            if watch.looks == 2:
                watch.same_wait = same_wait(course.looks["blocked-1.txt"], course.looks["blocked-2.txt"])
        elif following is Step.END:
            break
    else:
        return Verdict.INCONCLUSIVE, f"cut after {WALL_LIMIT_S:.0f} s of this machine's time"
    assert watch.verdict is not None
    return existed(tried.trial, tried.arm, course, watch.verdict, watch.reason)


def read(memory: ram.KernelMemory, guest: Guest) -> counters.Counters:
    """The counters now. Gone when their page is not where it was."""
    found = counters.parse(memory.ram.read(guest.counters_at, counters.PAGE_BYTES))
    if found is None:
        raise Gone("guest: its page of counters is not where it was")
    return found


def _second(guest_ms: int, now: counters.Counters, sampler: Sampler) -> Second:
    return Second(
        guest_ms=guest_ms,
        free_pages=sampler.free_pages(),
        slack_pages=sampler.take(),
        done_pages=now.done_pages,
        swapped_out_pages=now.readings["pswpout"],
        swapped_in_pages=now.readings["pswpin"],
        udp_mem_pages=now.readings["udp_mem"],
        tcp_mem_pages=now.readings["tcp_mem"],
    )


def _panic(guest: Guest) -> str:
    """The kernel's own words of giving up; also why QEMU ended, since a panic reboots and a reboot ends it."""
    for line in guest.console[-20_000:].splitlines():
        if any(word in line for word in PANIC_WORDS):
            return line.split("] ", 1)[-1].strip()[:200]
    return ""
