"""What this machine can try and what it lacks: each part tried, not looked up, and each gap with its cure."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from tidegate.case_trial import Trial
from tidegate.errors import TidegateError
from tidegate.rig import accelerator, kernels
from tidegate.rig.nics import NICS, emulated
from tidegate.rig.tools import PACKAGES, call, missing, program
from tidegate.units import MIB

DOCTOR_SCHEMA = "tidegate.rig-doctor/1"
SHM = Path("/dev/shm")  # noqa: S108 - the guest's memory lies there, in a folder of the trial's own
SYSCTLS = Path("/proc/sys")
_QEMU = "qemu-system-x86_64"
_LEAST_QEMU = (7, 2)  # -netdev dgram over unix sockets, the trial's wire
_FIRST_CHOICE = "trixie-cloud"
# Modules that only some uses need: the extra that brings each, and what it is for.
_MODULES = {
    "qemu.qmp": ("rig", "the emulator's monitor"),
    "scapy": ("rig", "reads captures"),
    "capstone": ("rig", "finds the branch that an ablation turns"),
    "distributed": ("cluster", "a campaign on many machines"),
}
_MAKES_TAP = """\
import fcntl, os, struct
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"probe", 0x1002))  # TUNSETIFF: IFF_TAP | IFF_NO_PI
"""
_BOOTS_NOT = f"another {_QEMU}, or another kernel (tidegate kernels fetch)"
# What keeps ordinary users from user namespaces: file, the value that does, and what to set.
_USER_NAMESPACES = (
    ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)


class State(StrEnum):
    """How it stands with one part."""

    OK = "ok"
    PARTLY = "partly"  # works, less well or not for everything
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One part of the machine."""

    name: str
    state: State
    found: str  # what there is, in words
    cure: str = ""  # what to do about it
    needed: bool = False  # without it no trial with NBD runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """All parts, and what follows from them."""

    items: tuple[Item, ...]
    nbd_trials: bool  # whether a trial with NBD can run
    guests: int  # so many at a time, by memory, each of the default size
    cores: int
    schema: str = DOCTOR_SCHEMA


def examine() -> Doctor:
    """Tries each part of this machine. It starts programs, makes a namespace, and boots a guest if need be."""
    guests, memory = _memory()
    items = (
        _qemu(),
        _models(),
        *_kernel_and_accelerator(),
        _busybox(),
        _compiler(),
        _server("nbdkit", "NBD", needed=True),
        _server("qemu-nbd", "NBD by another server"),
        _server("tgtd", "iSCSI", also=("tgtadm",)),
        _tools(),
        _namespace(),
        _shm(),
        memory,
        _zstd(),
        *map(_module, _MODULES),
    )
    can = not any(item.needed and item.state is State.MISSING for item in items)
    return Doctor(items=items, nbd_trials=can, guests=guests, cores=len(os.sched_getaffinity(0)))


def _install(*names: str) -> str:
    packages = {PACKAGES.get(name, "util-linux" if name == "unshare" else name) for name in names}
    return f"install {', '.join(sorted(packages))}"


def _version(words: list[str]) -> str:
    """What a program says of its version: the number, or its first line."""
    said = (call(words, timeout_s=60).splitlines() or [""])[0]
    number = re.search(r"\d+(\.\d+)+", said)
    return number.group() if number else said


def _tried(
    name: str, work: Callable[[], str], cure: str, *, uses: Sequence[str], needed: bool = False
) -> Item:
    """OK with what `work` gives; missing when one of the programs it uses is, or with the line of its trouble."""
    absent = missing(uses)
    if absent:
        found = "not here" if absent == [name] else f"no {', '.join(absent)} here"
        return Item(name=name, state=State.MISSING, found=found, cure=_install(*absent), needed=needed)
    try:
        return Item(name=name, state=State.OK, found=work(), needed=needed)
    except TidegateError as trouble:
        return Item(name=name, state=State.MISSING, found=str(trouble), cure=cure, needed=needed)


def _qemu() -> Item:
    name = _QEMU
    item = _tried(name, accelerator.qemu_version, _install(name), uses=[name], needed=True)
    number = tuple(map(int, re.findall(r"\d+", item.found)[:2]))
    if item.state is State.OK and number < _LEAST_QEMU:
        old = f"{item.found}; a trial's wire needs 7.2 (-netdev dgram)"
        return Item(name=name, state=State.MISSING, found=old, cure="a newer QEMU", needed=True)
    return item


def _models() -> Item:
    name = "NIC models"
    item = _tried(name, lambda: " ".join(emulated()), _install(_QEMU), uses=[_QEMU], needed=True)
    if item.state is State.MISSING:
        return item
    there = item.found.split()
    absent = [nic.model for nic in NICS if nic.model not in there]
    # e100's many names are one driver; what a person misses is a driver.
    drivers = " ".join(dict.fromkeys(nic.driver for nic in NICS if nic.model in there))
    if not absent:
        return Item(name=name, state=State.OK, found=f"for {drivers}", needed=True)
    less = f"for {drivers}; not {' '.join(absent)}"
    return Item(name=name, state=State.PARTLY, found=less, cure="a newer QEMU (igb: 8.0)", needed=True)


def _kernel_and_accelerator() -> tuple[Item, Item]:
    here = kernels.cached()
    if not here:
        return _kernels_to_fetch(), Item(
            name="accelerator",
            state=State.PARTLY,
            found="not tried: that needs a kernel to boot",
            cure=f"tidegate kernels fetch {_FIRST_CHOICE}",
        )
    first = next((one for one in here if one.name == _FIRST_CHOICE), here[0])
    names = " ".join(kernel.name for kernel in here)
    return Item(name="kernels", state=State.OK, found=names, needed=True), _accelerator(first)


def _kernels_to_fetch() -> Item:
    absent = missing(["apt-get", "apt-cache", "dpkg-deb", "depmod"])
    if absent:
        return Item(
            name="kernels",
            state=State.MISSING,
            found=f"none cached, and no {', '.join(absent)} to fetch one",
            cure=f"{_install(absent[0])}, or tidegate kernels fetch PATH of one",
            needed=True,
        )
    return Item(
        name="kernels",
        state=State.PARTLY,
        found="none cached; the first trial fetches one",
        cure=f"tidegate kernels fetch {_FIRST_CHOICE}",
        needed=True,
    )


def _accelerator(kernel: kernels.Kernel) -> Item:
    uses = [_QEMU, "busybox", "setpriv"]

    def work() -> str:
        chosen = accelerator.choose(kernel)
        return f"{chosen.accel}: {chosen.reason}"

    item = _tried("accelerator", work, _BOOTS_NOT, uses=uses, needed=True)
    if item.state is State.OK and not item.found.startswith(accelerator.Accel.KVM):
        return replace(
            item, state=State.PARTLY, cure="none: it works, some ten times slower than KVM would be"
        )
    return item


def _busybox() -> Item:
    cure = _install("busybox")
    item = _tried("busybox", lambda: str(program("busybox")), cure, uses=["busybox"], needed=True)
    # PT_INTERP's text: a guest has no dynamic loader. It lies right behind the headers.
    if item.state is State.OK and b"/ld-linux" in Path(item.found).read_bytes()[:4096]:
        found = f"{item.found} is not static"
        return Item(name="busybox", state=State.MISSING, found=found, cure=cure, needed=True)
    return item


def _compiler() -> Item:
    """A compiler that makes a static program, as the guest's agent is."""

    def work() -> str:
        with tempfile.TemporaryDirectory(prefix="tidegate-doctor-") as made:
            source = Path(made) / "probe.c"
            source.write_text('#include <stdio.h>\nint main(void) { return puts("") < 0; }\n')
            call(["gcc", "-static", "-o", Path(made) / "probe", source], timeout_s=120)
        return f"{_version(['gcc', '-dumpfullversion'])}, makes static programs"

    return _tried("C compiler", work, "install gcc and libc6-dev", uses=["gcc"], needed=True)


def _server(name: str, use: str, *, also: tuple[str, ...] = (), needed: bool = False) -> Item:
    def work() -> str:
        return f"{_version([name, '--version'])}, serves {use}"

    return _tried(name, work, _install(name), uses=[name, *also], needed=needed)


def _tools() -> Item:
    names = ("ip", "setpriv", "unshare")
    return _tried(", ".join(names), lambda: "there", "", uses=names, needed=True)


def _namespace() -> Item:
    """A tap in a network namespace of its own, made as a trial makes it."""
    words = ["unshare", "-n" if os.geteuid() == 0 else "-rn"]

    def work() -> str:
        call([*words, sys.executable, "-I", "-S", "-c", _MAKES_TAP], timeout_s=30)
        return f"made with {' '.join(words)}"

    item = _tried("namespace and tap", work, "", uses=["unshare"], needed=True)
    if item.state is State.OK or missing(["unshare"]):
        return item
    return replace(item, cure=_namespace_cure(item.found))


def _namespace_cure(said: str) -> str:
    """What to do, from the last line that unshare or the probe said."""
    if "/dev/net/tun" in said or "No such device" in said:
        return "modprobe tun"
    for file, bad, cure in _USER_NAMESPACES:
        path = SYSCTLS / file
        if path.exists() and path.read_text().strip() == bad:
            return cure
    return "allow user namespaces here (a container: its seccomp profile), or run as root"


def _free_mib(folder: Path) -> int:
    return shutil.disk_usage(folder).free // MIB


def _shm() -> Item:
    guest = Trial().memory_mib
    if not SHM.is_dir():
        found = "not here; the guests' memory lies there"
        return Item(
            name=str(SHM), state=State.MISSING, found=found, cure=f"mount -t tmpfs shm {SHM}", needed=True
        )
    free = _free_mib(SHM)
    state = State.OK if free >= 4 * guest else State.PARTLY if free >= guest else State.MISSING
    cure = "" if state is State.OK else f"mount -o remount,size=50% {SHM} (a container: --shm-size)"
    found = f"{free} MiB free; a guest's memory lies there, {guest} MiB each"
    return Item(name=str(SHM), state=state, found=found, cure=cure, needed=True)


def _memory() -> tuple[int, Item]:
    """How many guests of the default size this machine has room for at a time."""
    from tidegate.rig.pool import BESIDE_MIB, SPARE_MIB, available_mib

    free, guest = available_mib(), Trial().memory_mib
    guests = max(free - SPARE_MIB, 0) // (guest + BESIDE_MIB)
    if SHM.is_dir():
        guests = min(guests, _free_mib(SHM) // guest)
    found = f"{free} MiB available: {guests} guests of {guest} MiB at a time"
    cure = "" if guests else "end other programs"
    state = State.OK if guests else State.MISSING
    return guests, Item(name="memory", state=state, found=found, cure=cure, needed=True)


def _zstd() -> Item:
    if missing(["zstd"]):
        found = (
            "no zstd: kernels that are packed with it, as Ubuntu's and Fedora's are, cannot be looked into"
        )
        return Item(name="zstd", state=State.PARTLY, found=found, cure=_install("zstd"))
    return Item(name="zstd", state=State.OK, found="there")


def _module(name: str) -> Item:
    """A Python package, by its module."""
    from importlib.metadata import PackageNotFoundError, version

    extra, use = _MODULES[name]
    needed = name == "qemu.qmp"
    there = find_module(name)
    if not there:
        cure = f"pip install 'tidegate[{extra}]'"
        return Item(name=name, state=State.MISSING, found=f"not installed: {use}", cure=cure, needed=needed)
    try:
        number = version(name)
    except PackageNotFoundError:
        number = "there"
    return Item(name=name, state=State.OK, found=number, needed=needed)


def find_module(name: str) -> bool:
    """Whether there is such a module to import, though it is not imported."""
    from importlib.util import find_spec

    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # the package above it
        return False
