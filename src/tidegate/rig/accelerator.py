"""What runs a guest's instructions here, KVM or the emulator's own translator, decided by a boot race.

That /dev/kvm exists proves nothing: inside another virtual machine it opens, makes machines, and their processors
stand still or stop the emulator. So both boot the same real kernel that powers off at once, side by side. KVM is
chosen when it is first, and then first again. The answer is kept for this kernel, this emulator and this host's
kernel.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from tidegate.errors import BadInput, Lacking
from tidegate.rig.initramfs import Entry, cpio
from tidegate.rig.kernels import Kernel
from tidegate.rig.servers import child
from tidegate.rig.tools import cache_directory, call, locked, program

VARIABLE = "TIDEGATE_ACCEL"
DEVICE = Path("/dev/kvm")
DEADLINE_S = 120.0  # of the race: a busy machine emulates slowly
_AGAIN_S = 10.0  # the least that the second boot gets
_STEP_S = 0.02
_UP = "tidegate-rig: up"
_INIT = f"#!/bin/busybox sh\n/bin/busybox echo '{_UP}'\n/bin/busybox poweroff -f\n"
_MEMORY_MIB = 128


class Accel(StrEnum):
    """Who runs the guest's instructions."""

    KVM = "kvm"  # the processor
    TCG = "tcg"  # the emulator


# -cx16: QEMU 7.2 under TCG faults on cmpxchg16b now and then. One thread keeps the load at one core.
_WORDS = {
    Accel.KVM: ("-accel", "kvm", "-cpu", "host"),
    Accel.TCG: ("-accel", "tcg,thread=single", "-cpu", "qemu64,-cx16,+rdrand"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What was chosen and why, in words."""

    accel: Accel
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """How one arm of the race went."""

    seconds: float | None  # wall time to power-off; None: it did not get there
    said: str  # why not, in words


def machine_words(accel: Accel) -> list[str]:
    """QEMU's words for machine, accelerator and processor.

    Always `pc`: `microvm` saves nothing that matters here, and under TCG most of its boots stand still.
    """
    return ["-machine", "pc,usb=off", *_WORDS[accel]]


def choose(kernel: Kernel, *, deadline_s: float = DEADLINE_S) -> Chosen:
    """The accelerator for this machine: TIDEGATE_ACCEL, what is remembered, or the winner of a race.

    BadInput: TIDEGATE_ACCEL is neither. Lacking: no program, or neither boots.
    """
    given = os.environ.get(VARIABLE, "")
    if given:
        if given not in set(Accel):
            raise BadInput(VARIABLE, "", repr(given), f"{Accel.KVM} or {Accel.TCG}")
        return Chosen(accel=Accel(given), reason=f"{VARIABLE} says so")
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        why = "may not be opened" if DEVICE.exists() else "is not there"
        return Chosen(accel=Accel.TCG, reason=f"{DEVICE} {why}")
    key = f"{kernel.vmlinuz_sha256} {qemu_version()} {os.uname().release}"
    with locked(cache_directory()) as folder:
        notes = _read(folder / "accelerator.json")
        if key not in notes:
            notes[key] = _race_here(kernel, deadline_s)
            unfinished = folder / "accelerator.json.part"
            unfinished.write_bytes(
                msgspec.json.format(msgspec.json.encode({k: asdict(v) for k, v in notes.items()}))
            )
            unfinished.replace(folder / "accelerator.json")
        return notes[key]


def _read(path: Path) -> dict[str, Chosen]:
    """What is remembered; nothing, when the file is of another version."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Chosen])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def qemu_version() -> str:
    """The version of this machine's emulator, as it says it."""
    said = call(["qemu-system-x86_64", "--version"], timeout_s=60).splitlines()
    return said[0].removeprefix("QEMU emulator version ") if said else ""


def initramfs() -> bytes:
    """Says that it is there, and powers off."""
    directory, run = Entry(mode=stat.S_IFDIR | 0o755), stat.S_IFREG | 0o755
    return cpio(
        {
            "bin": directory,
            "dev": directory,
            # The kernel opens /dev/console before init runs.
            "dev/console": Entry(mode=stat.S_IFCHR | 0o600, device=(5, 1)),
            "bin/busybox": Entry(mode=run, data=program("busybox").read_bytes()),
            "init": Entry(mode=run, data=_INIT.encode()),
        }
    )


def boot_words(accel: Accel, vmlinuz: Path, initrd: Path) -> list[str]:
    """One arm's command line, with the console on standard output."""
    return [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        *machine_words(accel), "-m", f"{_MEMORY_MIB}M", "-smp", "1", "-serial", "stdio", "-monitor", "none",
        "-kernel", str(vmlinuz), "-initrd", str(initrd), "-append", "console=ttyS0 panic=-1 quiet",
    ]  # fmt: skip


def _race_here(kernel: Kernel, deadline_s: float) -> Chosen:
    with tempfile.TemporaryDirectory(prefix="tidegate-race-") as made:
        folder = Path(made)
        (folder / "initramfs").write_bytes(initramfs())
        arms = {accel: boot_words(accel, kernel.vmlinuz, folder / "initramfs") for accel in Accel}
        boots = race(arms, folder, deadline_s)
        first_s = boots[Accel.KVM].seconds
        if first_s is None:
            return decide(boots)
        again = race({Accel.KVM: arms[Accel.KVM]}, folder, max(_AGAIN_S, 3 * first_s))
        if again[Accel.KVM].seconds is not None:
            return decide(boots)
        # It got there once, and that stopped the other arm, which now boots alone.
        alone = race({Accel.TCG: arms[Accel.TCG]}, folder, deadline_s)
        failed = Boot(seconds=None, said=f"{again[Accel.KVM].said} when it booted a second time")
        return decide({Accel.KVM: failed, **alone})


def race(arms: Mapping[Accel, Sequence[str]], folder: Path, deadline_s: float) -> dict[Accel, Boot]:
    """Starts all arms at once; the first that powers off in order ends the race, as does the deadline."""
    boots: dict[Accel, Boot] = {}
    with ExitStack() as running:
        start = time.monotonic()
        logs = {accel: folder / f"{accel}.console" for accel in arms}
        ours = {accel: running.enter_context(child(words, log=logs[accel])) for accel, words in arms.items()}
        won = False
        while not won and len(boots) < len(arms) and time.monotonic() < start + deadline_s:
            time.sleep(_STEP_S)
            for accel in arms.keys() - boots.keys():
                if ours[accel].poll() is not None:
                    boots[accel] = _boot(ours[accel].returncode, logs[accel], time.monotonic() - start)
                    won = won or boots[accel].seconds is not None
        taken = time.monotonic() - start
    late = f"was not up after {taken:.1f} s" + (", when the other had powered off" if won else "")
    return boots | {accel: Boot(seconds=None, said=late) for accel in arms.keys() - boots.keys()}


def _boot(status: int, log: Path, seconds: float) -> Boot:
    console = log.read_bytes().decode("utf-8", "replace")
    if status == 0 and _UP in console:
        return Boot(seconds=round(seconds, 2), said="")
    last = next((line.strip() for line in reversed(console.splitlines()) if line.strip()), "(nothing)")
    ended = f"was ended by signal {-status}" if status < 0 else f"ended with exit {status}"
    return Boot(seconds=None, said=f"{ended} and did not boot; its last words: {last[:120]}")


def decide(boots: Mapping[Accel, Boot]) -> Chosen:
    """The accelerator that powered off in order, the processor's own before the emulator. Lacking: none did."""
    kvm, tcg = boots[Accel.KVM], boots[Accel.TCG]
    if kvm.seconds is not None:
        return Chosen(accel=Accel.KVM, reason=f"kvm booted the kernel in {kvm.seconds:.1f} s, before tcg did")
    if tcg.seconds is not None:
        return Chosen(accel=Accel.TCG, reason=f"tcg booted the kernel in {tcg.seconds:.1f} s; kvm {kvm.said}")
    raise Lacking(f"no guest boots here: tcg {tcg.said}; kvm {kvm.said}")
