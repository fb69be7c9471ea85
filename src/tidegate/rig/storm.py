"""What troubles a trial's guest: storms of packets and what they arrive at, a server that stalls, a reset."""

from __future__ import annotations

import contextlib
import time

from tidegate.case_trial import Trial, TrialArm, TrialStorm, TrialTraffic
from tidegate.errors import Lacking
from tidegate.rig.connecting import transport_of
from tidegate.rig.course import Course
from tidegate.rig.far_side import GUEST
from tidegate.rig.trial_guest import Guest
from tidegate.rig.wire import FarSide
from tidegate.trial import Verdict


def sinks(guest: Guest, trial: Trial) -> None:
    """What the troubles of a trial arrive at."""
    for number, traffic in enumerate(trial.traffic):
        _sink(guest, traffic, number, transport_of(trial).device)


def _sink(guest: Guest, traffic: TrialTraffic, number: int, device: str) -> None:
    port = 4000 + 100 * number
    if traffic.kind in (TrialStorm.UDP, TrialStorm.TCP, TrialStorm.TAP):
        guest.obey(
            f"sink {traffic.kind} port={port} sockets={traffic.sockets} rcvbuf={min(traffic.rcvbuf_bytes, 1 << 30)}"
        )
    elif traffic.kind is TrialStorm.READER:
        guest.obey(f"second device={device}")


def begin(side: FarSide, traffic: TrialTraffic, number: int, course: Course) -> None:
    """One trouble begins; a storm must have its connections, or it would silently not exist."""
    course.done.add(number)
    if traffic.kind in (TrialStorm.UDP, TrialStorm.TCP, TrialStorm.FRAGMENT):
        words = (
            str(traffic.kind), f"address={GUEST}", f"port={4000 + 100 * number}", f"rate={traffic.packets_per_s}",
            f"burst={traffic.burst}", f"length={traffic.length_bytes}", f"sockets={traffic.sockets}", "seconds=900",
        )  # fmt: skip
        side.order("flood", *words)
        said = side.await_event("flood")["said"]
        if said != f"connected {1 if traffic.kind is TrialStorm.FRAGMENT else traffic.sockets}":
            raise Lacking(f"storm {traffic.kind}: {said}")
        course.storms += 1
        course.watch.storming = True
    elif traffic.kind is TrialStorm.STALL:
        side.order("stop_server")
        course.stalled_server = time.monotonic()
    elif traffic.kind is TrialStorm.RESET:
        side.order("reset")


def troubles(trial: Trial, arm: TrialArm, side: FarSide, course: Course, done_pages: int) -> None:
    """Begins and ends what is due when the load has made so many steps."""
    if arm.quiet:
        return
    for number, traffic in enumerate(trial.traffic):
        if number not in course.done and done_pages >= traffic.from_done_pages:
            begin(side, traffic, number, course)
        ends = traffic.kind is TrialStorm.STALL and course.stalled_server
        if ends and time.monotonic() - course.stalled_server > traffic.stall_s:
            side.order("go_on_server")
            course.stalled_server = 0.0


def sent(side: FarSide, storms: int) -> int:
    """Packets of all storms; each sender says so as its last word, a little after it was ended."""
    total = 0
    for _ in range(storms):
        with contextlib.suppress(Lacking):
            total += side.sent()
    return total


def existed(
    trial: Trial, arm: TrialArm, course: Course, verdict: Verdict, reason: str
) -> tuple[Verdict, str]:
    """A storm that never arrived proves nothing about a guest that survived it."""
    if arm.quiet or verdict is not Verdict.SURVIVED:
        return verdict, reason
    kinds = {traffic.kind for traffic in trial.traffic}
    for kind, name in (
        (TrialStorm.UDP, "udp_mem"),
        (TrialStorm.TCP, "tcp_mem"),
        (TrialStorm.FRAGMENT, "frag_bytes"),
    ):
        if kind in kinds and not course.peak.get(name):
            return (
                Verdict.INCONCLUSIVE,
                f"no {kind} packet was ever held in the guest: the storm did not exist",
            )
    return verdict, reason
