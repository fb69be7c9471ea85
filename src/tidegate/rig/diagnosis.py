"""From a bundle to one paragraph: what stands still, which wait, which pool, which finding, and what proves it.

The folder is all that is looked at, so that anybody can ask again later, and asks the same. The rules are tried in
the order of CAUSES, and the first that fits is the cause: first what was done to the guest from outside, then what
the kernel itself said, then what its tasks and zones show. Nothing fits: then what is known is told, and no finding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from tidegate.drivers import Refill, driver
from tidegate.rig.blocked import ROLES, WAITS, Blocked, in_reclaim
from tidegate.rig.bundle import Bundle, read_bundle
from tidegate.rig.nics import MODELS
from tidegate.trial import TrialResult
from tidegate.watermarks import ZONE_ORDER

NEAR_PAGES = 16  # above the floor: less than what one poll takes to refill a ring
LEFT_PAGES = 64  # of all zones together: nothing is left, for whomever
_SERVES = ZONE_ORDER[: ZONE_ORDER.index("Normal") + 1]
_GONE = (
    r"block nbd\d+: (Receive control failed|Dead connection|shutting down sockets|Connection timed out)|"
    r"connection\d+:\d+: detected conn error|nvme nvme\d+: (starting error recovery|Reconnecting)|"
    r"nfs: server \S+ (not responding, timed out|error)"
)
_IO_ERROR = r"I/O error, dev |Write-error on swap-device|Read-error on swap-device"
_PANIC = r"System is deadlocked on memory|Kernel panic|Unable to handle kernel|BUG: unable"
_OOM = r"Out of memory: Killed process"
_OOM_REPORT = r"invoked oom-killer"
_MAIN_ROLES = ("refill_work", "balance_pgdat")
_MAIN_WAITS = (
    "nbd_handle_cmd",
    "nbd_queue_rq",
    "sk_stream_wait_memory",
)  # who is throttled just suffers from it
# Then the tasks wait as they should, and where they do it says nothing.
_FROM_OUTSIDE = ("guest paused", "server ended", "server stopped", "connection gone", "OOM")
_SHORT_MS = 5_000  # no stand worth a word


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What it was."""

    finding: str | None  # as `tidegate explain` names them; None: no way of the kernel, or not known
    text: str  # one paragraph
    lines: tuple[str, ...] = ()  # FILE:LINE: TEXT of the bundle: each claim's proof, in their order
    fingerprint: str = ""  # cause and decisive waits: equal for equal failures


@dataclass(frozen=True, slots=True)
class _Cause:
    """The first rule that fits: its name for the fingerprint, the finding, and why, in one sentence or two."""

    name: str
    finding: str | None
    why: str


@dataclass(frozen=True, slots=True)
class _Known:
    """A bundle's facts as the rules look at them."""

    bundle: Bundle
    trial: dict[str, Any]
    zones: list[dict[str, Any]]
    wire: dict[str, Any]
    readings: dict[str, Any]
    status: str  # of the emulator: running, paused, ...
    file: str  # where the blocked tasks are
    tasks: tuple[Blocked, ...]

    @property
    def free(self) -> int:
        return sum(zone["free"] for zone in self.zones)

    @property
    def slack(self) -> int | None:
        """The largest of (free - floor): at 0 the next atomic allocation fails; None where no zone is known."""
        return max((zone["free"] - zone["floor"] for zone in self.zones), default=None)


def diagnose(folder: Path) -> Diagnosis:
    """What the bundle in this folder shows. BadInput where it is none."""
    known = _known(read_bundle(folder))
    still = _stands_still(known)
    fitting = (found for rule in CAUSES if (found := rule(known)) is not None)
    cause = next(fitting, _Cause("not known", None, "None of the known ways fits."))
    sentences = [still, cause.why]
    if cause.name not in {"guest paused", "panic"}:
        sentences += [_waits(known), _pool(known), _on_the_wire(known)]
    if cause.finding:
        sentences.append(f"This is {cause.finding} (tidegate explain {cause.finding}).")
    text = " ".join(sentence for sentence in sentences if sentence)
    return Diagnosis(
        finding=cause.finding,
        text=text,
        lines=tuple(known.bundle.proof),
        fingerprint=_fingerprint(known, cause),
    )


def diagnosed(result: TrialResult, folder: Path) -> TrialResult:
    """The result with its diagnosis, and both written into the bundle.

    trial.json is there before the diagnosis is made, which looks at nothing but the folder.
    """
    result = replace(result, evidence=folder.name)
    write_result(result, folder)
    found = diagnose(folder)
    result = replace(result, finding=found.finding, diagnosis=found.text, fingerprint=found.fingerprint)
    write_result(result, folder)
    (folder / "diagnosis.txt").write_text("\n".join([found.text, "", *found.lines]) + "\n")
    return result


def write_result(result: TrialResult, folder: Path) -> None:
    """The bundle's trial.json."""
    (folder / "trial.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


def _known(bundle: Bundle) -> _Known:
    file, tasks = bundle.blocked()
    zones = [zone for zone in bundle.facts("zones.json") or [] if zone["name"] in _SERVES]
    status = bundle.facts("emulator.json").get("status", {}).get("status", "")
    return _Known(
        bundle=bundle,
        trial=bundle.facts("trial.json"),
        zones=zones,
        wire=bundle.facts("wire.json"),
        readings=bundle.facts("readings.json"),
        status=status,
        file=file,
        tasks=tasks,
    )


def _guest_paused(known: _Known) -> _Cause | None:
    if known.status in {"", "running", "unanswered"}:
        return None
    known.bundle.prove("emulator.json", r'"status": "')
    who = "somebody stopped it by QEMU's monitor" if known.status == "paused" else "QEMU itself stopped it"
    return _Cause(
        "guest paused", None, f"The guest is {known.status}: {who}; this says nothing about the kernel."
    )


def _server_ended(known: _Known) -> _Cause | None:
    if known.wire.get("server_state") != "":
        return None
    known.bundle.prove("wire.json", '"server_state"')
    return _Cause("server ended", None, "The server's process has ended: nobody is there to reply.")


def _server_stopped(known: _Known) -> _Cause | None:
    if known.wire.get("server_state") not in {"T", "t"}:
        return None
    known.bundle.prove("wire.json", '"server_state"')
    why = "The server's process is stopped (SIGSTOP, state T): it does not reply, and the kernel waits, as it should."
    return _Cause("server stopped", None, why)


def _panicked(known: _Known) -> _Cause | None:
    said = known.bundle.prove("console.txt", _PANIC)
    if not said:
        return None
    words = _bare(said)
    why = f"The kernel gave up: {words}."
    if "deadlocked on memory" in words:
        why += " No program was left that it could have killed: out_of_memory() found swap, and nothing it could free."
        why += _holders(known)
    return _Cause("panic", None, why)


def _killed(known: _Known) -> _Cause | None:
    said = known.bundle.prove("console.txt", _OOM)
    if not said and known.trial.get("verdict") != "OOM":
        return None
    if not said:
        known.bundle.prove("trial.json", '"reason"')
    victim = re.search(r"Killed process (\d+) \(([^)]*)\)", said)
    why = f"The kernel killed {f'{victim[2]} (process {victim[1]})' if victim else 'a program'} for want of memory"
    why += "." if victim else "; the console does not say which."
    return _Cause("OOM", None, why + _report_of_oom(known) + _holders(known))


def _report_of_oom(known: _Known) -> str:
    """What the first whole report says: the request, the zone that is lowest against its min, swap.

    A quiet console shows the kill (KERN_ERR), and its report (KERN_WARNING) only once SysRq has raised the level.
    """
    asked = known.bundle.prove("console.txt", _OOM_REPORT)
    order = re.search(r"gfp_mask=[^(]*\(([^)]*)\), order=(\d+)", asked)
    if order is None:
        return ""
    told, least, inside = f" It reports a request {order[1]} of order {order[2]}", (101.0, 0, ""), False
    for number, line in enumerate(known.bundle.lines("console.txt"), 1):
        inside = inside or re.search(_OOM_REPORT, line) is not None
        zone = re.search(r"Node (\d+) (\w+) free:(\d+)kB boost:(\d+)kB min:(\d+)kB", line)
        if inside and zone:
            free, unboosted = int(zone[3]), int(zone[5]) - int(zone[4])
            name = f", zone {zone[2]} of node {zone[1]} with {free} kB free of a min of {unboosted} kB"
            least = min(least, (free / max(unboosted, 1), number, name))
        if inside and "Killed process" in line:
            break
    if least[1]:
        known.bundle.note("console.txt", least[1])
    swap = re.search(r"(\d+)kB", known.bundle.prove("console.txt", r"Free swap\s+=", after=_OOM_REPORT))
    return f"{told}{least[2]}{f', and {swap[1]} kB of swap free' if swap else ''}."


def _holders(known: _Known) -> str:
    """What the sockets of others held; the most that one could see."""
    peak = {name: int(known.trial.get(f"peak_{name}_pages", 0)) for name in ("udp_mem", "tcp_mem")}
    told = [
        f"{name} {pages} pages ({pages * 4 // 1024} MiB)"
        for name, pages in peak.items()
        if pages >= NEAR_PAGES
    ]
    for name, pages in peak.items():
        if pages >= NEAR_PAGES:
            known.bundle.prove("trial.json", f'"peak_{name}_pages"')
    return f" Sockets held up to {' and '.join(told)}." if told else ""


def _connection_cut(known: _Known) -> _Cause | None:
    """The other side ended the connection: then what waits in the guest is the consequence."""
    talk = known.wire.get("talk", {})
    name = next((name for name in ("reset_by", "closed_by") if talk.get(name) == "server"), "")
    if not name or known.bundle.prove("wire.json", f'"{name}"') == "":
        return None
    gone = _connection_gone(known)
    if gone is None:
        return None
    how = "reset" if name == "reset_by" else "closed"
    return replace(gone, why=f"The server's side {how} the connection. {gone.why}")


def _connection_gone(known: _Known) -> _Cause | None:
    """It may have been given up for want of replies (ping of iSCSI, timeout of nvme), so this comes after the ways."""
    said = known.bundle.prove("console.txt", _GONE)
    if not said:
        return None
    again = "the kernel itself tries to make it again" if "nvme" in said else "only user space makes it again"
    why = f"The block connection is gone ({_bare(said)}), and {again}"
    error = known.bundle.prove("console.txt", _IO_ERROR)
    why += "; requests failed with I/O errors." if error else "."
    return _Cause("connection gone", "D9-reconnect", why)


def _refill_reclaims(known: _Known) -> _Cause | None:
    worker = next((task for task in known.tasks if task.role == "refill_work" and in_reclaim(task)), None)
    if worker is None:
        return None
    for function in ("refill_work", "try_to_free_pages", "swap_writepage", worker.wait):
        if function in worker.stack:
            known.bundle.note(known.file, worker.line_of(function))
    why = (
        "virtio_net's receive ring ran dry; the worker that should fill it again, its poll disabled, allocates with "
        f"GFP_KERNEL, reclaims, and now waits itself for {_wait_words(worker)}, which only a reply can bring, "
        "and a reply needs the ring."
    )
    return _Cause("D1", "D1", why)


def _nothing_left(known: _Known) -> _Cause | None:
    if not known.zones or known.free >= LEFT_PAGES or not _in_reclaim(known):
        return None
    if _never_from_reserve(known):
        return None  # then the ring starves at the floor already: the next rule
    return _Cause(
        "nothing left", None, "The reserve itself is empty, by whom cannot be seen from here (D5 or D15)."
    )


def _ring_starves(known: _Known) -> _Cause | None:
    if (
        known.slack is None
        or known.slack > NEAR_PAGES
        or not _in_reclaim(known)
        or not _never_from_reserve(known)
    ):
        return None
    name = MODELS[known.trial["nic"]].driver
    known.bundle.prove("trial.json", '"nic"')
    why = (
        f"{name} takes receive buffers with plain GFP_ATOMIC, which ends at 3/8 of min: no zone has pages for it, "
        "its ring stays empty, and no reply comes in; reclaim waits for exactly those replies."
    )
    return _Cause("D2", "D2", why)


def _heads_refused(known: _Known) -> _Cause | None:
    """The ring is full, and packets are dropped for want of an sk_buff: slab_out_of_memory() says so now and then."""
    if known.slack is None or known.slack > NEAR_PAGES or not _in_reclaim(known):
        return None
    if not known.bundle.prove(
        "console.txt", r"cache: skbuff_head_cache", after="SLUB: Unable to allocate memory"
    ):
        return None
    known.bundle.prove("console.txt", "SLUB: Unable to allocate memory")
    why = (
        "The NIC has its buffers, but no sk_buff can be had for a packet that arrives: GFP_ATOMIC, which ends at 3/8 "
        "of min, gets no page for skbuff_head_cache, so that replies are dropped; reclaim waits for those replies."
    )
    return _Cause("D3", "D3", why)


def _tcp_mem_full(known: _Known) -> _Cause | None:
    used, most = _tcp_mem(known)
    if not most or used < most or known.slack is None or known.slack <= NEAR_PAGES:
        return None
    known.bundle.prove("readings.json", '"tcp_mem"', after="from_memory")
    known.bundle.prove("readings.json", '"tcp_mem"', after='"limits"')
    talk = known.wire.get("talk", {})
    why = f"TCP's sockets hold {used} pages of tcp_mem's {most}, while no zone is short of pages"
    if talk.get("guest_window") == 0:
        known.bundle.prove("wire.json", '"guest_window"')
        why += "; the guest's last segment on the block connection offers a window of 0"
    return _Cause("D13", "D13", why + ".")


def _kswapd_submits(known: _Known) -> _Cause | None:
    """Replies do come, and kswapd waits within its own writes: slow, by its own design."""
    kswapd = next((task for task in known.tasks if task.role == "balance_pgdat" and task.wait), None)
    stats = known.wire.get("stats", {})
    if kswapd is None or not 0 <= stats.get("last_reply_s", -1) < 5 or stats.get("waiting", 0):
        return None
    known.bundle.note(known.file, kswapd.line_of(kswapd.wait))
    known.bundle.prove("wire.json", '"last_reply_s"')
    why = f"kswapd sleeps within its own writes, for {_wait_words(kswapd)}, while the server does reply."
    return _Cause("D16", "D16", why)


CAUSES: tuple[Callable[[_Known], _Cause | None], ...] = (
    _guest_paused,
    _server_ended,
    _server_stopped,
    _panicked,
    _killed,
    _connection_cut,
    _refill_reclaims,
    _nothing_left,
    _ring_starves,
    _heads_refused,
    _tcp_mem_full,
    _connection_gone,
    _kswapd_submits,
)


def _stands_still(known: _Known) -> str:
    """What stands still and since when, in the guest's time."""
    trial = known.trial
    end, stall = int(trial.get("guest_ms", 0)), int(trial.get("longest_stall_ms", 0))
    if trial.get("verdict") not in {"WEDGED", "STALLED", "INCONCLUSIVE"} or stall < _SHORT_MS:
        return ""
    known.bundle.prove("trial.json", '"longest_stall_ms"')
    done = f"{trial.get('done_pages', 0)} of {trial.get('wanted_pages', 0)} steps"
    if trial["verdict"] == "WEDGED":
        since = f"{max(end - stall, 0) / 1000:.1f} s of the guest's time, for {stall / 1000:.0f} s"
        return f"The load and all swapping stand still since {since}, at {done}."
    return f"The load stood still for up to {stall / 1000:.1f} s of the guest's time; {done} done."


def _waits(known: _Known) -> str:
    """Which wait each decisive task is in; the same wait of several is told once."""
    groups: dict[tuple[str, str], list[Blocked]] = {}
    for task in known.tasks:
        if task.wait and (in_reclaim(task) or task.role or task.wait in _MAIN_WAITS):
            groups.setdefault((_who(task), _wait_words(task)), []).append(task)
    told = []
    first = list(ROLES)
    for (who, wait), tasks in sorted(
        groups.items(), key=lambda one: first.index(one[1][0].role) if one[1][0].role else len(first)
    ):
        known.bundle.note(known.file, tasks[0].line)
        known.bundle.note(known.file, tasks[0].line_of(tasks[0].wait))
        many, verb = (f"{len(tasks)} times ", "wait") if len(tasks) > 1 else ("", "waits")
        under = (
            " in its own reclaim"
            if "swap_writepage" in tasks[0].stack or "shrink_node" in tasks[0].stack
            else ""
        )
        told.append(f"{many}{who}{under} {verb} for {wait}")
    return f"Blocked: {'; '.join(told)}." if told else ""


def _who(task: Blocked) -> str:
    """`kswapd`, `init (a fault that needs a new page)`; workers without their numbers, which say nothing."""
    comm = re.sub(r"[/:]?u?\d+(:\d+H?)?$", "", task.comm)
    words = ROLES.get(task.role, "")
    return words if words and words.startswith(comm) else f"{comm} ({words})" if words else comm


def _wait_words(task: Blocked) -> str:
    return WAITS.get(task.wait, "something not told here")


def _pool(known: _Known) -> str:
    """Which pool is empty: each zone against the floor of atomic requests, and the sockets' own bound."""
    if not known.zones:
        return ""
    told = []
    for zone in known.zones:
        known.bundle.prove("zones.json", r'"free":', after=f'"name": "{zone["name"]}"')
        known.bundle.prove("zones.json", r'"floor":', after=f'"name": "{zone["name"]}"')
        told.append(f"{zone['name']} {zone['free']} pages of a floor of {zone['floor']}")
    free, slack = known.free, known.slack or 0
    if free < LEFT_PAGES:
        head = f"Nothing is left ({free} pages)"
    elif slack <= NEAR_PAGES:
        head = "Free memory is at the floor of GFP_ATOMIC (3/8 of min), where refills are refused"
    else:
        head = "Atomic requests could be served now"
    used, most = _tcp_mem(known)
    more = f"; tcp_mem is full ({used} of {most} pages)" if most and used >= most else ""
    return f"{head}: {', '.join(told)}{more}."


def _on_the_wire(known: _Known) -> str:
    """Requests that nobody answers, replies that nobody takes."""
    stats, talk = known.wire.get("stats", {}), known.wire.get("talk", {})
    reply, request = stats.get("last_reply_s", -1), stats.get("last_request_s", -1)
    if reply < 0:
        return ""
    known.bundle.prove("wire.json", '"last_reply_s"')
    told = [f"the server's last reply passed {reply:.0f} s before the end"]
    if request >= 0:
        known.bundle.prove("wire.json", '"last_request_s"')
        told[0] += f", the guest's last segment with data {request:.0f} s before"
    if stats.get("waiting"):
        known.bundle.prove("wire.json", '"waiting"')
        told.append(f"{stats['waiting']} frames wait for a NIC that takes none")
    if again := talk.get("sent_again_though_acknowledged"):
        known.bundle.prove("wire.json", '"sent_again_though_acknowledged"')
        told.append(
            f"the guest sent {again} times again what the server had acknowledged: answers came, and were not taken"
        )
    elif talk.get("replies_sent_again"):
        known.bundle.prove("wire.json", '"replies_sent_again"')
        told.append(
            f"the server sent replies {talk['replies_sent_again']} times again that the guest did not take"
        )
    for name in ("rx_dropped", "rx_missed"):
        if dropped := known.readings.get("of_guest", {}).get(name):
            known.bundle.prove("readings.json", f'"{name}"')
            told.append(f"the guest's NIC counts {dropped} packets that it lost ({name})")
    if known.bundle.prove("console.txt", "Possible stuck request"):
        told.append("nbd itself names stuck requests")
    return f"On the wire {'; '.join(told)}."


def _in_reclaim(known: _Known) -> bool:
    return any(in_reclaim(task) for task in known.tasks)


def _never_from_reserve(known: _Known) -> bool:
    """Is this NIC's driver known to refill with plain GFP_ATOMIC?"""
    nic = MODELS.get(known.trial.get("nic", ""))
    row = driver(nic.driver) if nic else None
    return row is not None and row.refill is Refill.NEVER


def _tcp_mem(known: _Known) -> tuple[int, int]:
    """Pages of all TCP sockets and their hard limit; 0 where it is not known."""
    used = int(known.readings.get("from_memory", {}).get("tcp_mem", 0))
    limit = str(known.readings.get("limits", {}).get("tcp_mem", "")).split()
    return used, int(limit[2]) if len(limit) == 3 else 0


def _fingerprint(known: _Known, cause: _Cause) -> str:
    """The cause, and where those wait who decide: not who happened to allocate at that moment."""
    if cause.name == "panic":
        said = next((line for line in known.bundle.proof if re.search(_PANIC, line)), "")
        return "panic: " + re.sub(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b", "N", _bare(said.split(": ", 1)[-1]))
    if cause.name in _FROM_OUTSIDE:
        return cause.name
    waits = {_path(task) for task in known.tasks if task.role in _MAIN_ROLES or task.wait in _MAIN_WAITS}
    return " | ".join([cause.name, *sorted(waits)])


def _path(task: Blocked) -> str:
    names: Sequence[str] = (task.role if task.role in _MAIN_ROLES else "", "", task.wait)
    through = "swap_writepage" if "swap_writepage" in task.stack else ""
    return ">".join(name for name in (names[0], through, names[2]) if name)


def _bare(line: str) -> str:
    """A line of the console without its time stamp."""
    return re.sub(r"^.*?\[\s*\d+\.\d+\]\s*", "", line).strip()[:160]
