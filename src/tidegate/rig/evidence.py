"""What is brought out of a guest that failed, without asking it to run anything: one folder, named files.

    blocked-1.txt blocked-2.txt   SysRq-w, some seconds apart      blocked.diff    what changed between them
    memory-1.txt  memory-2.txt    SysRq-m                          tasks-1.txt     SysRq-t, on request
    counters.jsonl                the guest's counters, up to the end, read from its memory
    zones.json                    each zone as this machine reads it, with its floor
    console.txt   server.log      all that kernel and server said
    capture.pcap  wire.json       the wire's last frames; counts, and how long ago the last reply passed
    emulator.json                 QEMU's own state: running or paused, NIC and its counters
    trial.json                    verdict and all that is needed to make it again
    memory.elf                    the guest's memory, on request: what crash and drgn open
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from tidegate.rig.monitor import Monitor, Unanswered, sysrq
from tidegate.rig.ram import KernelMemory, floor, zones
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
    readings: Mapping[str, int],
    dump: bool = False,
) -> dict[str, Any]:
    """Writes the bundle; the facts that a diagnosis looks at. Whatever cannot be had is said in its file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in looks.items():
        (folder / name).write_text(text)
    first, second = looks.get("blocked-1.txt"), looks.get("blocked-2.txt")
    if first is not None and second is not None:
        lines = difflib.unified_diff(_bare(first), _bare(second), "first look", "second look", lineterm="", n=1)
        (folder / "blocked.diff").write_text("\n".join(lines) + "\n")
    (folder / "counters.jsonl").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in seconds))
    (folder / "console.txt").write_text(guest.console)
    log = guest.folder / "server.log"
    (folder / "server.log").write_bytes(log.read_bytes() if log.exists() else b"")
    answer = far.order("capture", path=folder / "capture.pcap")
    wire = {"stats": answer["stats"], "server_state": answer["server"], "storm": far.said}
    _json(folder / "wire.json", wire)
    seen = zones(memory)
    kernel_zone = memory.layout.kernel_zone
    _json(folder / "readings.json", dict(readings))
    _json(folder / "zones.json", [asdict(one) | {"floor": floor(one, kernel_zone)} for one in seen])
    emulator = _emulator(monitor)
    _json(folder / "emulator.json", emulator)
    if dump:
        monitor.ask("dump-guest-memory", paging=False, protocol=f"file:{folder}/memory.elf")
    return {"wire": wire, "emulator": emulator, "zones": seen, "readings": dict(readings)}


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
