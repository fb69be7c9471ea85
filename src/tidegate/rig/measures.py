"""What an arm of a trial puts in force in the guest: a plan, caps, advice from the books, single settings.

Each measure has a name that a case can use; `MEASURES` says what each is. A measure is told twice: as settings that
are written (and stored with the result), and as words for the connection.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tidegate.case_trial import TrialArm
from tidegate.errors import BadInput, Exit, Lacking, TidegateError, Unsupported
from tidegate.rig import ablation
from tidegate.rig.trial_guest import Guest
from tidegate.rules_of_thumb import ADVICE, Advice, Facts

CAP_BYTES = 131_072  # SO_SNDBUF and SO_RCVBUF as asked for; the kernel doubles them
RESERVE_BYTES = 524_288  # 2 * SNDBUF + 2 * RCVBUF
# The same where the kernel makes the socket itself: no socket then grows beyond what the kernel made of the caps.
CAPS_OF_ALL = {
    "net.ipv4.tcp_rmem": f"4096 {CAP_BYTES} {2 * CAP_BYTES}",
    "net.ipv4.tcp_wmem": f"4096 16384 {2 * CAP_BYTES}",
}
MEASURES: Mapping[str, str] = {
    "plan": "what tidegate plan says for this guest, by its own script (--as script)",
    "caps": "SO_SNDBUF and SO_RCVBUF on the block connection before the hand-over; where the kernel makes its "
    "socket, tcp_rmem and tcp_wmem",
    "reserve_mem": "SO_RESERVE_MEM on the block connection, made in a memory cgroup of its own",
    "tenfold": "ten times the default min_free_kbytes",
    "node_share": "min_free_kbytes of 0.4 % of memory for each node",
    "mib512": "min_free_kbytes of 512 MiB, or as much as the kernel takes",
}
_RULES = {"tenfold": "ten times", "node_share": "0.4 %", "mib512": "512"}
ABLATION = ablation.SETTING
MIN_FREE = "vm.min_free_kbytes"


class Refused(TidegateError):
    """The guest does not take what the arm wants to put in force: the arm cannot be tried, and nothing was lost."""

    exit = Exit.CANNOT_TELL


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """What an arm did: the words for the connection, and every value written, for the record."""

    connect: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)


def check_measures(arm: TrialArm, file: str, place: str) -> None:
    """BadInput for a measure that is none."""
    for name in arm.measures:
        if name not in MEASURES and not name.startswith(ABLATION):
            known = f"one of {', '.join(MEASURES)}, or {ABLATION}NAME"
            raise BadInput(file, f"{place}.measures", repr(name), known)
    ablation.check_names(ablations(arm), file, f"{place}.measures")


def ablations(arm: TrialArm) -> tuple[str, ...]:
    """The names of what is taken out of the kernel's text."""
    return tuple(name.removeprefix(ABLATION) for name in arm.measures if name.startswith(ABLATION))


def check_socket(arm: TrialArm, transport: str, *, own_socket: bool) -> None:
    """Unsupported for a measure that needs a socket made by hand, where the kernel makes it."""
    if "reserve_mem" in arm.measures and not own_socket:
        raise Unsupported(
            f"arm {arm.name}: reserve_mem: the kernel makes the socket of transport {transport} itself"
        )


def before_connecting(
    guest: Guest,
    arm: TrialArm,
    always: Mapping[str, str],
    plan: Mapping[str, str],
    *,
    own_socket: bool = True,
) -> InForce:
    """Writes what must be there before the connection is made: connections keep the buffers they began with.

    `always` is what every arm of the case sets; `plan` what the plan sets by path, of which only the bounds of TCP's
    buffers are written here. `own_socket`: the agent makes the block connection's socket, so that words for it hold.
    """
    set_always(guest, always)
    settings = dict(always)
    if "plan" in arm.measures:
        for path, value in plan.items():
            if path.endswith(("/tcp_rmem", "/tcp_wmem")):
                guest.obey(f"write {path} {value}")
    for name, part in _RULES.items():
        if name in arm.measures:
            settings[MIN_FREE] = _rule(guest, part)
    if "caps" in arm.measures and not own_socket:
        set_always(guest, CAPS_OF_ALL)
        settings |= CAPS_OF_ALL
    for name, value in arm.sysctl.items():
        _sysctl(guest, name, value)
        settings[name] = value
    if not own_socket:
        return InForce(settings=settings)
    return InForce(connect=_connection(arm), settings=settings | _told(arm))


def set_always(guest: Guest, settings: Mapping[str, str]) -> None:
    """Writes what every arm of a case sets, and the guest of a record too."""
    for name, value in settings.items():
        _sysctl(guest, name, value)


def set_last(guest: Guest, settings: Mapping[str, str]) -> dict[str, str]:
    """Writes what a job sweeps, over whatever the arm and the plan wrote; the values that the kernel then has.

    Lacking where the guest refuses one: another value in its place would be another trial.
    """
    told = {}
    for name, value in settings.items():
        _sysctl(guest, name, value)
        told[name] = " ".join(" ".join(guest.obey(f"print {_path(name)}")).split())
        if told[name] != value:
            raise Lacking(f"{name} = {value}: the guest has {told[name]}")
    return told


def run_plan(guest: Guest, script: str, values: Mapping[str, str]) -> None:
    """The plan's own script, run by busybox's shell, as an administrator would; then what it set is read back.

    Refused when it says no, with its own words, or when a value is not in force afterwards.
    """
    data = script.encode()
    guest.obey("run /bin/mkdir -p /run")  # where it keeps its notes
    guest.obey(f"file /tmp/plan.sh {len(data)}", data=data)
    try:
        guest.obey("run /bin/sh /tmp/plan.sh", timeout_s=120)
    except Lacking as trouble:
        time.sleep(0.5)  # the console is another line than the agent's
        said = [line for line in guest.console.splitlines() if line.startswith("tidegate: ")]
        raise Refused(f"plan.sh: {'; '.join(said[:3]) or trouble}") from None
    for path, value in values.items():
        now = " ".join(" ".join(guest.obey(f"print {path}")).split())
        if now != value:
            raise Refused(f"plan.sh: {path} is {now}, expected {value}")


def _connection(arm: TrialArm) -> tuple[str, ...]:
    words: list[str] = []
    if "caps" in arm.measures:
        words += [f"sndbuf={CAP_BYTES}", f"rcvbuf={CAP_BYTES}"]
    if "reserve_mem" in arm.measures:
        words += [f"reserve={RESERVE_BYTES}", "cgroup=1"]
    return tuple(words)


def _told(arm: TrialArm) -> dict[str, str]:
    told = {}
    if "caps" in arm.measures:
        told["caps"] = f"SO_SNDBUF={CAP_BYTES} SO_RCVBUF={CAP_BYTES}"
    if "reserve_mem" in arm.measures:
        told["reserve_mem"] = f"SO_RESERVE_MEM={RESERVE_BYTES}"
    return told


def _rule(guest: Guest, part: str) -> str:
    """Writes min_free_kbytes by a rule of thumb; the value that the kernel then has."""
    advice = _advice(part)
    lines = guest.obey("print /proc/meminfo")
    total = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal:"))
    default = int(guest.obey("print /proc/sys/vm/min_free_kbytes")[0])
    nodes = 1
    value = advice.min_free_kib(Facts(ram_kib=total, default_kib=default, nodes=nodes))
    try:
        _sysctl(guest, MIN_FREE, str(value))
    except Lacking as trouble:
        raise Refused(f"{MIN_FREE} = {value}, by {advice.name!r}: the guest refuses ({trouble})") from None
    return guest.obey("print /proc/sys/vm/min_free_kbytes")[0]


def _advice(part: str) -> Advice:
    found: Sequence[Advice] = [advice for advice in ADVICE if part in advice.name or part in advice.formula]
    assert found, part
    return found[0]


def _sysctl(guest: Guest, name: str, value: str) -> None:
    guest.obey(f"write {_path(name)} {value}")


def _path(name: str) -> str:
    return name if name.startswith("/") else f"/proc/sys/{name.replace('.', '/')}"
