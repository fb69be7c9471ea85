"""What is brought out of a guest that failed, without asking it to run anything: one folder, named files.

    blocked-1.txt blocked-2.txt   SysRq-w, some seconds apart      blocked.diff    what changed between them
    memory-1.txt  memory-2.txt    SysRq-m                          tasks-1.txt     SysRq-t, on request
    counters.jsonl                the guest's counters, up to the end, read from its memory
    readings.json                 the last of all counters, with the age of what the guest read of itself; limits
    zones.json                    each zone as this machine reads it, with its floor
    console.txt   server.log      all that kernel and server said
    capture.pcapng  wire.json     the wire's last frames, the decisive ones with a remark; counts, who spoke last
    trace.jsonl                   what happened when, one event a line, as every judge here writes it
    emulator.json                 QEMU's own state: running or paused, NIC and its counters
    trial.json                    verdict and all that is needed to make it again
    memory.elf                    the guest's memory, on request: what crash and drgn open

`diagnosis.py` needs nothing else to say what it was.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from tidegate.rig.capture import read_pcap, remarks, talk, write_pcapng
from tidegate.rig.counters import Counters
from tidegate.rig.happened import Mark, happened
from tidegate.rig.monitor import Monitor, Unanswered, sysrq
from tidegate.rig.ram import KernelMemory, floor, socket_pages, zones
from tidegate.rig.trial_guest import Guest
from tidegate.rig.wire import FarSide
from tidegate.trial import Second


def look(monitor: Monitor, guest: Guest, number: int, *, tasks: bool = False) -> dict[str, str]:
    """One look inside: memory state and blocked tasks, by file name."""
    try:
        found = {
            f"memory-{number}.txt": sysrq(monitor, guest, "m"),
            f"blocked-{number}.txt": sysrq(monitor, guest, "w"),
        }
        if tasks:
            found[f"tasks-{number}.txt"] = sysrq(monitor, guest, "t")
    except Unanswered as trouble:
        found = {f"blocked-{number}.txt": f"(QEMU does not answer: {trouble})\n"}
    return found


def gather(
    folder: Path,
    *,
    guest: Guest,
    monitor: Monitor,
    memory: KernelMemory,
    far: FarSide,
    looks: Mapping[str, str],
    seconds: Sequence[Second],
    counted: Counters,
    limits: Mapping[str, str] = MappingProxyType({}),
    marks: Sequence[Mark] = (),
    port: int,
    dump: bool = False,
) -> None:
    """Writes the bundle, all but the verdict. Whatever cannot be had is said in its file.

    `limits` are tcp_mem and udp_mem as the kernel writes them, `marks` what happened at which ms of the guest,
    `port` is the server's. With `dump` the guest's memory is in it, as an ELF core.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in looks.items():
        (folder / name).write_text(text)
    first, second = looks.get("blocked-1.txt"), looks.get("blocked-2.txt")
    if first is not None and second is not None:
        lines = difflib.unified_diff(
            _bare(first), _bare(second), "first look", "second look", lineterm="", n=1
        )
        (folder / "blocked.diff").write_text("\n".join(lines) + "\n")
    (folder / "counters.jsonl").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in seconds))
    (folder / "console.txt").write_text(guest.console)
    log = guest.folder / "server.log"
    (folder / "server.log").write_bytes(log.read_bytes() if log.exists() else b"")
    wire = _wire(folder, guest, far, port)
    _json(folder / "wire.json", wire)
    tcp, udp = socket_pages(memory)
    readings = {
        "of_guest": dict(counted.readings),
        "of_guest_age_ms": counted.tick_ms - counted.reader_ms,
        "from_memory": {"tcp_mem": tcp, "udp_mem": udp},
        "limits": dict(limits),
    }
    _json(folder / "readings.json", readings)
    kernel_zone = memory.layout.kernel_zone
    _json(folder / "zones.json", [asdict(one) | {"floor": floor(one, kernel_zone)} for one in zones(memory)])
    _json(folder / "emulator.json", _emulator(monitor))
    events = happened(seconds, marks, wire["stats"], guest.console, now_s=time.monotonic())
    (folder / "trace.jsonl").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in events))
    if dump:
        _dump(monitor, folder / "memory.elf")


def _wire(folder: Path, guest: Guest, far: FarSide, port: int) -> dict[str, Any]:
    """The capture with its remarks, and what it says in numbers."""
    kept = guest.folder / "capture.pcap"
    answer, looked = far.order("capture", path=kept), time.time()
    frames = read_pcap(kept)
    said = talk(frames, port)
    write_pcapng(folder / "capture.pcapng", frames, remarks(frames, said, looked))
    kept.unlink()
    return {
        "stats": answer["stats"],
        "server_state": answer["server"],
        "storm": far.said,
        "talk": asdict(said),
    }


def _dump(monitor: Monitor, path: Path) -> None:
    """QEMU writes the file itself; a relative path would be its own idea of one."""
    try:
        monitor.ask("dump-guest-memory", paging=False, protocol=f"file:{path.resolve()}")
    except Unanswered as trouble:
        path.with_suffix(".txt").write_text(f"(no dump: {trouble})\n")


def _emulator(monitor: Monitor) -> dict[str, Any]:
    try:
        return {
            "status": monitor.ask("query-status"),
            "network": monitor.human("info network").splitlines(),
            "registers": monitor.human("info registers").splitlines()[:12],
        }
    except Unanswered as trouble:
        return {"status": {"status": "unanswered"}, "why": str(trouble)}


def _bare(text: str) -> list[str]:
    """Lines without the kernel's time stamps, which always differ."""
    return [line.split("] ", 1)[-1] if line.startswith("[") else line for line in text.splitlines()]


def _json(path: Path, facts: Any) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=1) + b"\n")
