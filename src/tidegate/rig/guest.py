"""One guest from power-on to power-off: run a script in it, take out the files that it left."""

from __future__ import annotations

import io
import shlex
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tidegate.errors import Exit, TidegateError
from tidegate.rig import disks, initramfs, kernels, qemu, servers
from tidegate.rig.scenario import Scenario
from tidegate.rig.tools import program
from tidegate.units import MIB

PROGRAMS = ("qemu-system-x86_64", "busybox", "mksquashfs", "sqfstar", "mmdebstrap", "depmod", "setpriv")
_OUT_MIB = 64
_SERVING = "tidegate-rig: serving"
_STATUS = ".status"

_AGENT = f"""\
#!/bin/sh
# The guest's first program after the initramfs: sets up, runs the script, hands /out over, powers off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb
export PYTHONPATH=/job/src:{disks.LIBRARIES_PATH} PYTHONDONTWRITEBYTECODE=1
exec </dev/null >/dev/console 2>&1
mount -t tmpfs run /run
mkdir -p /dev/pts /dev/shm /run/lock /out
ln -sf /proc/self/fd /dev/fd
mount -t devpts devpts /dev/pts
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t configfs configfs /sys/kernel/config 2>/dev/null || true
mount -t tmpfs -o size={_OUT_MIB}m out /out
. /job/env
hostname "$HOSTNAME"; echo "$HOSTNAME" >/etc/hostname
disk() {{ for entry in /sys/block/vd*; do
    if [ "$(cat $entry/serial)" = "$1" ]; then echo /dev/$(basename $entry); return; fi
done; }}
ip link set lo up
/usr/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=add --type=subsystems
udevadm trigger --action=add --type=devices
udevadm settle --timeout=60
mkdir -p /dev/disk/rig
for name in $DISKS; do ln -s "$(disk $name)" /dev/disk/rig/$name; done
NIC=$(ls -d /sys/class/net/*/device | head -n 1)
NIC=$(basename "${{NIC%/device}}")
export NIC
ip address add "$ADDRESS/24" dev "$NIC"
ip link set "$NIC" up
tries=0  # a NIC that negotiates has no carrier yet
while [ "$(cat "/sys/class/net/$NIC/carrier")" != 1 ] && [ $tries -lt 100 ]; do
    tries=$((tries + 1)); sleep 0.1
done
ip route add default via "$SERVER"
sh -eux /job/setup; status=$?
[ $status -eq 0 ] && {{ cd /out; sh -eux /job/script; status=$?; cd /; }}
udevadm control --exit
echo $status >/out/{_STATUS}
tar -C /out -cf "$(disk {initramfs.OUT_DISK})" .
sync
echo o >/proc/sysrq-trigger
while :; do :; done  # from here on the disks are gone: no program can be started
"""


class Lost(TidegateError):
    """The guest ended, or its deadline came, before it handed anything over. `console` is all it said."""

    exit = Exit.CANNOT_TELL

    def __init__(self, message: str, console: str) -> None:
        self.console = console
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestRun:
    """What came out of a guest."""

    status: int  # of the setup, or of the script when the setup was fine
    files: Mapping[str, bytes]  # what lay in /out
    console: str
    kernel: kernels.Kernel
    seconds: float  # wall time from power-on; not evidence of anything


def run_in_guest(
    scenario: Scenario,
    script: str,
    *,
    files: Mapping[str, bytes] | None = None,
    deadline_s: float | None = None,
) -> GuestRun:
    """Boots the scenario, runs `script` (shell, with -eux, in /out) and gives the files that it left there.

    `files` appear as /job/NAME inside; tidegate itself is there as `python3 -m tidegate`. A script that fails
    is not an error here: its exit code is the run's `status`. Lost when the guest ends without handing over,
    or when `deadline_s` (default: the scenario's) passes; Lacking when this machine cannot run it.
    """
    for name in PROGRAMS:
        program(name)
    kernel = kernels.fetch(scenario.debian, scenario.flavour)
    limit = deadline_s or scenario.deadline_s
    with tempfile.TemporaryDirectory(prefix="tidegate-") as made, ExitStack() as running:
        folder = Path(made)
        start = time.monotonic()
        words = running.enter_context(servers.served(scenario.servers, folder))
        wire = None
        if scenario.peer is not None:
            wire = folder / "wire"
            running.enter_context(_peer(scenario, kernel, folder / "peer", wire, start + limit))
        guest = _prepare(scenario, kernel, folder / "guest", script, {**(files or {})}, words, wire)
        process = running.enter_context(_started(scenario, guest, scenario.memory_mib))
        _await_end(process, guest.console, start + limit)
        return _handed_over(guest, kernel, time.monotonic() - start)


def _prepare(
    scenario: Scenario,
    kernel: kernels.Kernel,
    folder: Path,
    script: str,
    files: Mapping[str, bytes],
    words: Mapping[str, str],
    wire: Path | None,
    *,
    peer: bool = False,
) -> qemu.Paths:
    """Lays out a guest's files in a new folder."""
    (folder / "job").mkdir(parents=True)
    setup = scenario.peer.setup if peer and scenario.peer else scenario.setup
    env = _environment(scenario, words, wired=wire is not None, peer=peer)
    texts = {"agent": _AGENT, "env": env, "setup": setup, "script": script}
    job = {**files, **{name: text.encode() for name, text in texts.items()}}
    with (folder / "initramfs").open("wb") as file:
        file.write(initramfs.build(kernel))
    blank = [("out", _OUT_MIB), *((disk.name, disk.size_mib) for disk in ([] if peer else scenario.disks))]
    for name, size_mib in blank:
        with (folder / f"{name}.disk").open("wb") as file:
            file.truncate(size_mib * MIB)
    return qemu.Paths(
        vmlinuz=kernel.vmlinuz,
        initramfs=folder / "initramfs",
        root=disks.root_image(scenario.debian),
        modules=disks.modules_image(kernel),
        job=disks.job_image(folder / "job", job, folder / "job.squashfs"),
        out=folder / "out.disk",
        console=folder / "console",
        disks=tuple((name, folder / f"{name}.disk") for name, _ in blank[1:]),
        wire=wire,
        wire_listens=peer,
    )


def _environment(scenario: Scenario, words: Mapping[str, str], *, wired: bool, peer: bool) -> str:
    """The job's words as shell: where the guest is, and where it finds its servers."""
    here, there = (qemu.WIRE_GUEST, qemu.WIRE_PEER) if wired else (qemu.USER_GUEST, qemu.USER_HOST)
    if peer:
        here, there = there, here
    told = {
        "HOSTNAME": "server" if peer else scenario.hostname,
        "ADDRESS": here,
        "SERVER": there,
        "PEER": there,
        "DISKS": "" if peer else " ".join(disk.name for disk in scenario.disks),
        **words,
    }
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in told.items())


@contextmanager
def _started(scenario: Scenario, paths: qemu.Paths, memory_mib: int) -> Iterator[subprocess.Popen[bytes]]:
    words = qemu.command_line(scenario, paths, memory_mib=memory_mib)
    log = paths.console.with_suffix(".qemu")
    with servers.child(["qemu-system-x86_64", *words], log=log) as process:
        yield process


@contextmanager
def _peer(
    scenario: Scenario, kernel: kernels.Kernel, folder: Path, wire: Path, until: float
) -> Iterator[None]:
    """The other guest, from the moment that its setup is done to the end of the block."""
    assert scenario.peer is not None
    script = f"echo '{_SERVING}' >/dev/console; while :; do sleep 60; done"
    paths = _prepare(scenario, kernel, folder, script, {}, {}, wire, peer=True)
    with _started(scenario, paths, scenario.peer.memory_mib) as process:
        while _SERVING not in _text(paths.console).splitlines():
            if process.poll() is not None or time.monotonic() > until:
                raise Lost(f"peer: {_last_words(paths.console)}", _text(paths.console))
            time.sleep(0.2)
        yield


def _await_end(process: subprocess.Popen[bytes], console: Path, until: float) -> None:
    try:
        process.wait(timeout=max(until - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        raise Lost(f"guest: not done at its deadline: {_last_words(console)}", _text(console)) from None


def _handed_over(paths: qemu.Paths, kernel: kernels.Kernel, seconds: float) -> GuestRun:
    """Reads the tar that the agent wrote to the raw output disk."""
    console = _text(paths.console)
    files: dict[str, bytes] = {}
    try:
        with paths.out.open("rb") as disk, tarfile.open(fileobj=io.BufferedReader(disk), mode="r:") as tar:
            for member in tar:
                held = tar.extractfile(member) if member.isfile() else None
                if held is not None:
                    files[member.name.removeprefix("./")] = held.read()
    except tarfile.TarError as trouble:
        said = _text(paths.console.with_suffix(".qemu")).strip()
        raise Lost(f"guest: handed nothing over: {said or _last_words(paths.console)}", console) from trouble
    status = files.pop(_STATUS, b"").decode().strip()
    if not status.isdigit():
        raise Lost(f"guest: handed no status over: {_last_words(paths.console)}", console)
    return GuestRun(status=int(status), files=files, console=console, kernel=kernel, seconds=seconds)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace") if path.exists() else ""


def _last_words(console: Path) -> str:
    lines = [line.strip() for line in _text(console).splitlines() if line.strip()]
    return lines[-1] if lines else "(the console stayed silent)"
