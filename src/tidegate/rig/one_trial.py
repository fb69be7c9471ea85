"""One trial: from a job to a verdict. Everything of it lives in one folder in memory, and is gone afterwards."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tidegate.case import Case
from tidegate.case_trial import Trial, TrialArm, TrialStorm, TrialTraffic
from tidegate.errors import Lacking
from tidegate.rig import ablation, counters, evidence, measures, planned, ram
from tidegate.rig.accelerator import choose
from tidegate.rig.agent_program import agent_program
from tidegate.rig.asked import arm_of, asked_hash, expected_of, sysctls_of, trial_of
from tidegate.rig.blocked import same_wait
from tidegate.rig.code import code_hash
from tidegate.rig.connecting import check_transport, connect, transport_of
from tidegate.rig.diagnosis import diagnosed
from tidegate.rig.far_side import GUEST, IN_A_GUEST, PORTS, SERVER, SERVER_MAC, Far
from tidegate.rig.gdb_stub import Garbled
from tidegate.rig.happened import Mark
from tidegate.rig.kernels import Kernel, resolve
from tidegate.rig.monitor import Monitor, Unanswered
from tidegate.rig.nics import check_nic
from tidegate.rig.places import check_programs, check_room, guest_folder, not_writable
from tidegate.rig.relay import Wire
from tidegate.rig.sampler import Sampler
from tidegate.rig.storage_guest import storage_mib
from tidegate.rig.trial_guest import Gone, Guest, Shape, booted
from tidegate.rig.verdict import Seen, Step, Watch, step
from tidegate.rig.vmlinux import uncompressed
from tidegate.rig.wire import FarSide, far_side
from tidegate.trial import Job, Second, TrialResult, Verdict

BOOT_S = 180.0  # of wall time: a guest that hangs at boot never hangs the rig
POLL_S = 0.05
WALL_LIMIT_S = 1500.0  # nor does one whose clock stands still
PANIC_WORDS = ("Kernel panic", "System is deadlocked on memory", "Unable to handle kernel", "BUG: unable")
LIMITS = ("tcp_mem", "udp_mem")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A job with all that its names stand for."""

    job: Job
    case: Case
    trial: Trial
    arm: TrialArm
    kernel: Kernel
    shape: Shape


@dataclass(slots=True)
class _Course:
    """What happened so far in a running trial."""

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
        self.marks.append(Mark(guest_ms=guest_ms, step=step, at_s=time.monotonic()))


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


def tried_job(job: Job) -> Tried:
    """Looks up case, arm, kernel and NIC; raises where one of them is not to be had."""
    from tidegate.bundled_cases import case_path
    from tidegate.case import read_case

    case = read_case(case_path(job.case))
    trial = trial_of(case, job)
    arm = arm_of(case, trial, job.arm)
    measures.check_measures(arm, job.case, f"trial.arm {arm.name!r}")
    measures.check_socket(arm, trial.transport, own_socket=transport_of(trial).own_socket)
    kernel = resolve(trial.kernel)
    check_transport(kernel, trial)
    nic = check_nic(kernel, trial.nic)
    shape = Shape(
        kernel=kernel,
        image=uncompressed(kernel.vmlinuz),
        nic=trial.nic,
        nic_modules=nic.modules,
        transport=trial.transport,
        memory_mib=trial.memory_mib,
        cpus=trial.cpus,
        nodes=trial.nodes,
        accelerator=choose(kernel).accel.value,
        gdb=bool(measures.ablations(arm)),
    )
    return Tried(job=job, case=case, trial=trial, arm=arm, kernel=kernel, shape=shape)


def _once(tried: Tried, folder: Path, tell: Tell, dump: bool) -> TrialResult:
    start = time.monotonic()
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        with guest_folder(memory_mib(tried)) as place:
            result = _in_folder(tried, place, folder, tell, dump)
    except (Gone, Unanswered, ConnectionError) as trouble:
        result = _result(tried, _Course(), Verdict.LOST, str(trouble))
    except OSError as trouble:
        raise not_writable(trouble, folder) or trouble from None
    return replace(result, wall_s=round(time.monotonic() - start, 1), started=begun)


def far_of(tried: Tried, place: Path) -> Far:
    """The far side that a trial wants."""
    trial = tried.trial
    return Far(
        folder=str(place),
        transport=trial.transport,
        size_mib=trial.swap_mib,
        agent=str(agent_program()),
        seed=tried.job.seed,
        wire=Wire(
            delay_us=trial.delay_us,
            jitter_us=trial.jitter_us,
            loss_ppm=trial.loss_ppm,
            reorder_ppm=trial.reorder_ppm,
            rate_kbit=trial.rate_kbit,
        ),
    )


def _in_folder(tried: Tried, place: Path, folder: Path, tell: Tell, dump: bool) -> TrialResult:
    far = far_of(tried, place)
    course = _Course()
    plan = planned.plan_for(tried, tell) if "plan" in tried.arm.measures else None
    with far_side(far) as side, booted(tried.shape, place) as (guest, command):
        tell("boots")
        guest.await_ready(time.monotonic() + BOOT_S)
        with contextlib.closing(Monitor(guest.qmp_line)) as monitor, _memory(tried, guest) as memory:
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
            verdict, reason = _pressed(tried, guest, side, monitor, memory, sampler, course, tell)
            if without:
                seen = ablation.after(tried.kernel, memory, _read(memory, guest).readings, sampler.lowest().slack_pages)
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
            course.sent = _sent(side, course.storms)
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


def _set_up(tried: Tried, guest: Guest, side: FarSide, course: _Course, plan: planned.Planned | None) -> None:
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
    course.limits = {name: " ".join(guest.obey(f"print /proc/sys/net/ipv4/{name}")[0].split()) for name in LIMITS}
    pages = trial.hog_mib * 256
    below = f" folder={transport.folder}" if transport.folder else ""
    guest.obey(f"hogs number={trial.hogs} pages={pages} passes={trial.passes}{below}")
    if not arm.quiet:
        for number, traffic in enumerate(trial.traffic):
            if not traffic.from_done_pages:
                _begin(side, traffic, number, course)
                course.mark(0, "trouble begins")


def network(guest: Guest) -> None:
    """The NIC up, with a permanent neighbour entry for the server."""
    guest.obey(f"net address={GUEST} peer={SERVER} mac={SERVER_MAC}")


def sinks(guest: Guest, trial: Trial) -> None:
    """What the troubles of a trial arrive at."""
    for number, traffic in enumerate(trial.traffic):
        _sink(guest, traffic, number, transport_of(trial).device)


def _sink(guest: Guest, traffic: TrialTraffic, number: int, device: str) -> None:
    port = 4000 + 100 * number
    if traffic.kind in (TrialStorm.UDP, TrialStorm.TCP, TrialStorm.TAP):
        guest.obey(f"sink {traffic.kind} port={port} sockets={traffic.sockets} rcvbuf={min(traffic.rcvbuf_bytes, 1 << 30)}")
    elif traffic.kind is TrialStorm.READER:
        guest.obey(f"second device={device}")


def _begin(side: FarSide, traffic: TrialTraffic, number: int, course: _Course) -> None:
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


def _pressed(
    tried: Tried,
    guest: Guest,
    side: FarSide,
    monitor: Monitor,
    memory: ram.KernelMemory,
    sampler: Sampler,
    course: _Course,
    tell: Tell,
) -> tuple[Verdict, str]:
    """Lets the load go and watches until the verdict."""
    watch, trial = course.watch, tried.trial
    first = _read(memory, guest)
    sampler.restart()
    guest.obey("go")
    course.mark(0, "load begins")
    until = time.monotonic() + WALL_LIMIT_S
    last_second = -1
    while time.monotonic() < until:
        sampler.look_for(POLL_S)
        now = _read(memory, guest)
        guest_ms = (now.ticks - first.ticks) * counters.TICK_MS
        panic = _panic(guest)
        if guest.process.poll() is not None and not panic:
            raise Gone(f"guest: QEMU ended with status {guest.process.returncode}: {guest.last_words()}")
        if guest_ms // 1000 != last_second:
            last_second = guest_ms // 1000
            course.seconds.append(_second(guest_ms, now, sampler))
            tell(f"{guest_ms // 1000} s, {now.done_pages} pages")
        for name in ("udp_mem", "tcp_mem", "frag_bytes"):
            course.peak[name] = max(course.peak.get(name, 0), now.readings[name])
        began = len(course.done)
        _troubles(tried, side, course, now.done_pages)
        if len(course.done) != began:
            course.mark(guest_ms, "trouble begins")
        if sampler.lowest().slack_pages <= 0 and all(mark.step != "below floor" for mark in course.marks):
            course.mark(guest_ms, "below floor")
        seen = Seen(
            guest_ms=guest_ms,
            done_pages=now.done_pages,
            swapped_pages=now.readings["pswpin"] + now.readings["pswpout"],
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
    return _checked(tried, course, watch.verdict, watch.reason, trial)


def _checked(tried: Tried, course: _Course, verdict: Verdict, reason: str, trial: Trial) -> tuple[Verdict, str]:
    """A storm that never arrived proves nothing about a guest that survived it."""
    if tried.arm.quiet or verdict is not Verdict.SURVIVED:
        return verdict, reason
    kinds = {traffic.kind for traffic in trial.traffic}
    for kind, name in ((TrialStorm.UDP, "udp_mem"), (TrialStorm.TCP, "tcp_mem"), (TrialStorm.FRAGMENT, "frag_bytes")):
        if kind in kinds and not course.peak.get(name):
            return Verdict.INCONCLUSIVE, f"no {kind} packet was ever held in the guest: the storm did not exist"
    return verdict, reason


def _troubles(tried: Tried, side: FarSide, course: _Course, done_pages: int) -> None:
    if tried.arm.quiet:
        return
    for number, traffic in enumerate(tried.trial.traffic):
        if number not in course.done and done_pages >= traffic.from_done_pages:
            _begin(side, traffic, number, course)
        ends = traffic.kind is TrialStorm.STALL and course.stalled_server
        if ends and time.monotonic() - course.stalled_server > traffic.stall_s:
            side.order("go_on_server")
            course.stalled_server = 0.0


def _read(memory: ram.KernelMemory, guest: Guest) -> counters.Counters:
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


def _bundle(
    tried: Tried,
    guest: Guest,
    side: FarSide,
    monitor: Monitor,
    memory: ram.KernelMemory,
    course: _Course,
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
        counted=_read(memory, guest),
        limits=course.limits,
        marks=[*course.marks, Mark(guest_ms=course.watch.progress_ms, step="last step")],
        dump=dump,
    )


def _sent(side: FarSide, storms: int) -> int:
    """Packets of all storms; each sender says so as its last word, a little after it was ended."""
    total = 0
    for _ in range(storms):
        with contextlib.suppress(Lacking):
            total += side.sent()
    return total


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
    course: _Course,
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
    _set_up(calm, guest, side, _Course(), plan)


def memory_mib(tried: Tried) -> int:
    """Of the trial's guests together."""
    served = storage_mib(tried.trial.swap_mib) if tried.trial.transport in IN_A_GUEST else 0
    return tried.shape.memory_mib + served


def check_job(job: Job) -> None:
    """Raises what run_job would raise before it starts anything."""
    tried = tried_job(job)
    check_programs(tried.trial.transport)
    check_room(memory_mib(tried))
    agent_program()
