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

import msgspec

from tidegate.drivers import Refill, driver
from tidegate.rig.blocked import Blocked, in_reclaim
from tidegate.rig.bundle import Known, known_of, read_bundle
from tidegate.rig.bundle_words import (
    LEFT_PAGES,
    MAIN_WAITS,
    NEAR_PAGES,
    on_the_wire,
    pool,
    stands_still,
    wait_words,
    waits,
)
from tidegate.rig.nics import MODELS
from tidegate.trial import TrialResult

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
# Then the tasks wait as they should, and where they do it says nothing.
_FROM_OUTSIDE = ("guest paused", "server ended", "server stopped", "connection gone", "OOM")

MANY_DROPPED = 1000  # packets that a driver received and lost


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


def diagnose(folder: Path) -> Diagnosis:
    """What the bundle in this folder shows. BadInput where it is none."""
    known = known_of(read_bundle(folder))
    still = stands_still(known)
    fitting = (found for rule in CAUSES if (found := rule(known)) is not None)
    cause = next(fitting, _Cause("not known", None, "None of the known ways fits."))
    sentences = [still, cause.why]
    if cause.name not in {"guest paused", "panic"}:
        sentences += [waits(known), pool(known), on_the_wire(known)]
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


def _guest_paused(known: Known) -> _Cause | None:
    if known.status in {"", "running", "unanswered"}:
        return None
    known.bundle.prove("emulator.json", r'"status": "')
    who = "somebody stopped it by QEMU's monitor" if known.status == "paused" else "QEMU itself stopped it"
    return _Cause(
        "guest paused", None, f"The guest is {known.status}: {who}; this says nothing about the kernel."
    )


def _server_ended(known: Known) -> _Cause | None:
    if known.wire.get("server_state") != "":
        return None
    known.bundle.prove("wire.json", '"server_state"')
    return _Cause("server ended", None, "The server's process has ended: nobody is there to reply.")


def _server_stopped(known: Known) -> _Cause | None:
    if known.wire.get("server_state") not in {"T", "t"}:
        return None
    known.bundle.prove("wire.json", '"server_state"')
    why = "The server's process is stopped (SIGSTOP, state T): it does not reply, and the kernel waits, as it should."
    return _Cause("server stopped", None, why)


def _panicked(known: Known) -> _Cause | None:
    said = known.bundle.prove("console.txt", _PANIC)
    if not said:
        return None
    words = _bare(said)
    why = f"The kernel gave up: {words}."
    if "deadlocked on memory" in words:
        why += " No program was left that it could have killed: out_of_memory() found swap, and nothing it could free."
        why += _holders(known)
    return _Cause("panic", None, why)


def _killed(known: Known) -> _Cause | None:
    said = known.bundle.prove("console.txt", _OOM)
    if not said and known.trial.get("verdict") != "OOM":
        return None
    if not said:
        known.bundle.prove("trial.json", '"reason"')
    victim = re.search(r"Killed process (\d+) \(([^)]*)\)", said)
    why = f"The kernel killed {f'{victim[2]} (process {victim[1]})' if victim else 'a program'} for want of memory"
    why += "." if victim else "; the console does not say which."
    return _Cause("OOM", None, why + _report_of_oom(known) + _holders(known))


def _report_of_oom(known: Known) -> str:
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


def _holders(known: Known) -> str:
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


def _connection_cut(known: Known) -> _Cause | None:
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


def _connection_gone(known: Known) -> _Cause | None:
    """It may have been given up for want of replies (ping of iSCSI, timeout of nvme), so this comes after the ways."""
    said = known.bundle.prove("console.txt", _GONE)
    if not said:
        return None
    again = "the kernel itself tries to make it again" if "nvme" in said else "only user space makes it again"
    why = f"The block connection is gone ({_bare(said)}), and {again}"
    error = known.bundle.prove("console.txt", _IO_ERROR)
    why += "; requests failed with I/O errors." if error else "."
    return _Cause("connection gone", "D9-reconnect", why)


def _refill_reclaims(known: Known) -> _Cause | None:
    worker = next((task for task in known.tasks if task.role == "refill_work" and in_reclaim(task)), None)
    if worker is None:
        return None
    for function in ("refill_work", "try_to_free_pages", "swap_writepage", worker.wait):
        if function in worker.stack:
            known.bundle.note(known.file, worker.line_of(function))
    why = (
        "virtio_net's receive ring ran dry; the worker that should fill it again, its poll disabled, allocates with "
        f"GFP_KERNEL, reclaims, and now waits itself for {wait_words(worker)}, which only a reply can bring, "
        "and a reply needs the ring."
    )
    return _Cause("D1", "D1", why)


def _nothing_left(known: Known) -> _Cause | None:
    if not known.zones or known.free >= LEFT_PAGES or not known.reclaims:
        return None
    if _never_from_reserve(known):
        return None  # then the ring starves at the floor already: the next rule
    return _Cause(
        "nothing left", None, "The reserve itself is empty, by whom cannot be seen from here (D5 or D15)."
    )


def _ring_starves(known: Known) -> _Cause | None:
    if (
        known.slack is None
        or known.slack > NEAR_PAGES
        or not known.reclaims
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


def _heads_refused(known: Known) -> _Cause | None:
    """The ring is full, and packets are dropped for want of an sk_buff: slab_out_of_memory() says so now and then."""
    if known.slack is None or known.slack > NEAR_PAGES or not known.reclaims:
        return None
    if not known.bundle.prove(
        "console.txt", r"cache: skbuff_head_cache", after="SLUB: Unable to allocate memory"
    ):
        return _dropped_at_the_floor(known)
    known.bundle.prove("console.txt", "SLUB: Unable to allocate memory")
    why = (
        "The NIC has its buffers, but no sk_buff can be had for a packet that arrives: GFP_ATOMIC, which ends at 3/8 "
        "of min, gets no page for skbuff_head_cache, so that replies are dropped; reclaim waits for those replies."
    )
    return _Cause("D3", "D3", why)


def _dropped_at_the_floor(known: Known) -> _Cause | None:
    """The same without the allocator's word, whose lines are rationed: the driver took packets and threw them away."""
    dropped = int(known.readings.get("of_guest", {}).get("rx_dropped", 0))
    if dropped < MANY_DROPPED:
        return None
    known.bundle.prove("readings.json", '"rx_dropped"')
    why = (
        f"Packets do reach the NIC's ring and its driver drops them ({dropped} of them, rx_dropped) with every zone at "
        "the floor of GFP_ATOMIC: nothing to put them in can be had, an sk_buff most likely, though no line of the "
        "allocator says so here; reclaim waits for replies among them."
    )
    return _Cause("D3", "D3", why)


def _tcp_mem_full(known: Known) -> _Cause | None:
    used, most = known.tcp_mem
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


def _kswapd_submits(known: Known) -> _Cause | None:
    """Replies do come, and kswapd waits within its own writes: slow, by its own design."""
    kswapd = next((task for task in known.tasks if task.role == "balance_pgdat" and task.wait), None)
    stats = known.wire.get("stats", {})
    if kswapd is None or not 0 <= stats.get("last_reply_s", -1) < 5 or stats.get("waiting", 0):
        return None
    known.bundle.note(known.file, kswapd.line_of(kswapd.wait))
    known.bundle.prove("wire.json", '"last_reply_s"')
    why = f"kswapd sleeps within its own writes, for {wait_words(kswapd)}, while the server does reply."
    return _Cause("D16", "D16", why)


CAUSES: tuple[Callable[[Known], _Cause | None], ...] = (
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


def _never_from_reserve(known: Known) -> bool:
    """Is this NIC's driver known to refill with plain GFP_ATOMIC?"""
    nic = MODELS.get(known.trial.get("nic", ""))
    row = driver(nic.driver) if nic else None
    return row is not None and row.refill is Refill.NEVER


def _fingerprint(known: Known, cause: _Cause) -> str:
    """The cause, and where those wait who decide: not who happened to allocate at that moment."""
    if cause.name == "panic":
        said = next((line for line in known.bundle.proof if re.search(_PANIC, line)), "")
        return "panic: " + re.sub(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b", "N", _bare(said.split(": ", 1)[-1]))
    if cause.name in _FROM_OUTSIDE:
        return cause.name
    paths = {_path(task) for task in known.tasks if task.role in _MAIN_ROLES or task.wait in MAIN_WAITS}
    return " | ".join([cause.name, *sorted(paths)])


def _path(task: Blocked) -> str:
    names: Sequence[str] = (task.role if task.role in _MAIN_ROLES else "", "", task.wait)
    through = "swap_writepage" if "swap_writepage" in task.stack else ""
    return ">".join(name for name in (names[0], through, names[2]) if name)


def _bare(line: str) -> str:
    """A line of the console without its time stamp."""
    return re.sub(r"^.*?\[\s*\d+\.\d+\]\s*", "", line).strip()[:160]
