"""One trial: from a job to a verdict. Everything of it lives in one folder in memory, and is gone afterwards."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tidegate.errors import Lacking
from tidegate.rig import ablation, evidence, measures, planned, ram
from tidegate.rig.asked import asked_hash, expected_of, sysctls_of
from tidegate.rig.code import code_hash
from tidegate.rig.connecting import connect, transport_of
from tidegate.rig.course import Course
from tidegate.rig.diagnosis import diagnosed
from tidegate.rig.far_side import GUEST, PORTS, SERVER, SERVER_MAC
from tidegate.rig.gdb_stub import Garbled
from tidegate.rig.happened import Mark
from tidegate.rig.monitor import Monitor, Unanswered
from tidegate.rig.places import guest_folder, not_writable
from tidegate.rig.sampler import Sampler
from tidegate.rig.storm import begin, sent, sinks
from tidegate.rig.trial_guest import Gone, Guest, booted
from tidegate.rig.tried import Tried, far_of, memory_mib, tried_job
from tidegate.rig.watching import pressed, read
from tidegate.rig.wire import FarSide, far_side
from tidegate.trial import Job, TrialResult, Verdict

BOOT_S = 180.0  # of wall time: a guest that hangs at boot never hangs the rig
LIMITS = ("tcp_mem", "udp_mem")

Tell = Callable[[str], None]


def run_job(job: Job, folder: Path, tell: Tell = lambda _: None, *, dump: bool = False) -> TrialResult:
    """Makes the trial; a bundle goes to `folder` unless it survived. A lost trial is made once more, and counted.

    With `dump` the bundle has the guest's memory, as large as the guest is.

    Lacking, Unsupported, BadInput and Usage where it cannot be made at all.
    """
    tried = tried_job(job)
    result = _once(tried, folder, tell, dump)
    if result.verdict is Verdict.LOST:
        again = _once(tried, folder, tell, dump)
        result = replace(again, tries=2)
    return result


def _once(tried: Tried, folder: Path, tell: Tell, dump: bool) -> TrialResult:
    start = time.monotonic()
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        with guest_folder(memory_mib(tried)) as place:
            result = _in_folder(tried, place, folder, tell, dump)
    except (Gone, Unanswered, ConnectionError) as trouble:
        result = _result(tried, Course(), Verdict.LOST, str(trouble))
    except OSError as trouble:
        raise not_writable(trouble, folder) or trouble from None
    return replace(result, wall_s=round(time.monotonic() - start, 1), started=begun)


def _in_folder(tried: Tried, place: Path, folder: Path, tell: Tell, dump: bool) -> TrialResult:
    far = far_of(tried, place)
    course = Course()
    plan = planned.plan_for(tried, tell) if "plan" in tried.arm.measures else None
    with far_side(far, wait=False) as side, booted(tried.shape, place) as (guest, command):
        tell("boots")
        side.ready()
        with contextlib.closing(Monitor(guest.qmp_line)) as monitor, _memory(tried, guest) as memory:
            guest.await_ready(time.monotonic() + BOOT_S)
            tell("connects")
            without = measures.ablations(tried.arm)
            try:
                removed = ablation.apply(without, guest, tried.kernel, memory) if without else {}
                _set_up(tried, guest, side, course, plan)
                course.settings |= removed
            except measures.Refused as trouble:
                return _result(tried, course, Verdict.INCONCLUSIVE, str(trouble), command=command)
            except (Lacking, Garbled) as trouble:
                return _result(tried, course, Verdict.LOST, str(trouble), command=command)
            sampler = Sampler(memory)
            verdict, reason = pressed(tried, guest, side, monitor, memory, sampler, course, tell)
            if without:
                seen = ablation.after(
                    tried.kernel, memory, read(memory, guest).readings, sampler.lowest().slack_pages
                )
                told, contrary = ablation.effects(without, seen)
                course.settings |= told
                verdict, reason = (Verdict.INCONCLUSIVE, contrary) if contrary else (verdict, reason)
            if not side.server_runs():
                verdict, reason = Verdict.LOST, "server: its process ended during the trial"
            host_mib = _host_mib(guest, side)
            bundled = verdict is not Verdict.SURVIVED
            if bundled:
                _bundle(tried, guest, side, monitor, memory, course, folder, dump)
            side.order("calm")
            course.sent = sent(side, course.storms)
            result = _result(tried, course, verdict, reason, command=command, sampler=sampler)
            result = replace(result, host_mib=host_mib, check=plan.check if plan else None)
            if bundled:
                result = diagnosed(result, folder)
            return result


@contextlib.contextmanager
def _memory(tried: Tried, guest: Guest) -> Iterator[ram.KernelMemory]:
    files = [guest.folder / f"ram{node}" for node in range(tried.shape.nodes)]
    with ram.GuestRam(files) as seen:
        yield ram.KernelMemory(seen, ram.layout(tried.kernel))


def _set_up(tried: Tried, guest: Guest, side: FarSide, course: Course, plan: planned.Planned | None) -> None:
    trial, arm = tried.trial, tried.arm
    network(guest)
    values = plan.values if plan else {}
    transport = transport_of(trial)
    in_force = measures.before_connecting(guest, arm, trial.sysctl, values, own_socket=transport.own_socket)
    course.settings = in_force.settings
    connect(guest, trial, in_force.connect)
    if plan:
        measures.run_plan(guest, plan.script, plan.values)
        course.settings |= plan.values
    course.settings |= measures.set_last(guest, sysctls_of(tried.job.sweep))
    if not arm.quiet:
        sinks(guest, trial)
    course.limits = {
        name: " ".join(guest.obey(f"print /proc/sys/net/ipv4/{name}")[0].split()) for name in LIMITS
    }
    pages = trial.hog_mib * 256
    below = f" folder={transport.folder}" if transport.folder else ""
    guest.obey(f"hogs number={trial.hogs} pages={pages} passes={trial.passes}{below}")
    if not arm.quiet:
        for number, traffic in enumerate(trial.traffic):
            if not traffic.from_done_pages:
                begin(side, traffic, number, course)
                course.mark(0, "trouble begins")


def network(guest: Guest) -> None:
    """The NIC up, with a permanent neighbour entry for the server."""
    guest.obey(f"net address={GUEST} peer={SERVER} mac={SERVER_MAC}")


def _bundle(
    tried: Tried,
    guest: Guest,
    side: FarSide,
    monitor: Monitor,
    memory: ram.KernelMemory,
    course: Course,
    folder: Path,
    dump: bool,
) -> None:
    if guest.process.poll() is None and "blocked-1.txt" not in course.looks:
        course.looks |= evidence.look(monitor, guest, 1)
        course.looks |= evidence.look(monitor, guest, 2)
    evidence.gather(
        folder,
        guest=guest,
        monitor=monitor,
        memory=memory,
        far=side,
        port=PORTS[tried.trial.transport],
        looks=course.looks,
        seconds=course.seconds,
        counted=read(memory, guest),
        limits=course.limits,
        marks=[*course.marks, Mark(guest_ms=course.watch.progress_ms, step="last step")],
        dump=dump,
    )


def _host_mib(guest: Guest, side: FarSide) -> int:
    """Peak memory of QEMU and the far side; the guest's own memory is in it."""
    total = 0
    for pid in (guest.process.pid, side.process.pid):
        with contextlib.suppress(OSError, StopIteration):
            status = Path(f"/proc/{pid}/status").read_text().splitlines()
            total += int(next(line for line in status if line.startswith("VmHWM:")).split()[1])
    return total // 1024


def _result(
    tried: Tried,
    course: Course,
    verdict: Verdict,
    reason: str,
    *,
    command: list[str] | None = None,
    sampler: Sampler | None = None,
) -> TrialResult:
    trial, job, last = tried.trial, tried.job, course.seconds[-1] if course.seconds else None
    return TrialResult(
        case=tried.case.name,
        arm=job.arm,
        kernel=tried.kernel.release,
        kernel_name=trial.kernel,
        kernel_sha256=tried.kernel.vmlinuz_sha256,
        nic=trial.nic,
        transport=trial.transport,
        seed=job.seed,
        verdict=verdict,
        reason=reason,
        margin_pages=sampler.lowest().slack_pages if sampler else None,
        zones=sampler.margins() if sampler else (),
        expected=expected_of(tried.arm, job.sweep),
        sweep=dict(job.sweep),
        settings=course.settings,
        guest_ms=last.guest_ms if last else 0,
        longest_stall_ms=course.watch.longest_stall_ms,
        done_pages=last.done_pages if last else 0,
        wanted_pages=trial.hogs * trial.hog_mib * 256 * 2 * trial.passes,
        storm_packets=course.sent,
        peak_udp_mem_pages=course.peak.get("udp_mem", 0),
        peak_tcp_mem_pages=course.peak.get("tcp_mem", 0),
        seconds=tuple(course.seconds),
        command=shlex.join(command or []),
        code=code_hash(),
        asked=asked_hash(trial, tried.arm),
    )


def set_up_by_hand(tried: Tried, guest: Guest, side: FarSide) -> None:
    """A guest as its trial would find it before the pressure, with no storm."""
    calm = replace(tried, arm=msgspec.structs.replace(tried.arm, quiet=True))
    plan = planned.plan_for(calm, lambda _: None) if "plan" in calm.arm.measures else None
    _set_up(calm, guest, side, Course(), plan)
