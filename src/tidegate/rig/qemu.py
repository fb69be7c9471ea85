"""QEMU's command line for a scenario. Pure: nothing is looked up, opened or started here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tidegate.rig.initramfs import JOB_DISK, MODULES_DISK, OUT_DISK, ROOT_DISK
from tidegate.rig.scenario import Scenario

# User-mode network: the guest, and the address at which it finds this machine's loopback.
USER_GUEST, USER_HOST = "10.0.2.15", "10.0.2.2"
# A wire between two guests.
WIRE_GUEST, WIRE_PEER = "10.99.0.1", "10.99.0.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The files of one guest."""

    vmlinuz: Path
    initramfs: Path
    root: Path
    modules: Path
    job: Path
    out: Path
    console: Path
    disks: tuple[tuple[str, Path], ...] = ()  # name and file of each local disk
    wire: Path | None = None  # socket of the wire to the other guest
    wire_listens: bool = False


def command_line(scenario: Scenario, paths: Paths, *, memory_mib: int) -> list[str]:
    """The words that start the guest, without the program's name.

    Always TCG: an existing /dev/kvm proves nothing, and a record needs no speed. One thread for all CPUs
    keeps the load on this machine at one core.
    """
    words = ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"]
    words += ["-machine", "pc,usb=off", "-accel", "tcg,thread=single", "-cpu", scenario.cpu]
    words += [*_memory(scenario, memory_mib), "-smp", str(scenario.cpus)]
    words += ["-kernel", str(paths.vmlinuz), "-initrd", str(paths.initramfs)]
    words += ["-append", kernel_words(scenario)]
    words += ["-chardev", f"file,id=console,path={_quoted(paths.console)}", "-serial", "chardev:console"]
    named = [(ROOT_DISK, paths.root), (MODULES_DISK, paths.modules), (JOB_DISK, paths.job)]
    for name, path in named:
        words += _disk(name, path, read_only=True)
    for name, path in [(OUT_DISK, paths.out), *paths.disks]:
        words += _disk(name, path, read_only=False)
    words += ["-netdev", _netdev(paths), "-device", f"{scenario.nic},netdev=wire,mac={_mac(paths)},romfile="]
    return words


def kernel_words(scenario: Scenario) -> str:
    """The kernel's command line. rootfstype=ramfs: an initramfs on tmpfs could itself be swapped out."""
    fixed = "console=ttyS0 panic=-1 rootfstype=ramfs printk.devkmsg=on quiet"
    return f"{fixed} {scenario.append}".strip()


def _memory(scenario: Scenario, memory_mib: int) -> list[str]:
    words = ["-m", f"{memory_mib}M"]
    if scenario.numa_nodes > 1:
        share, cpus = memory_mib // scenario.numa_nodes, scenario.cpus // scenario.numa_nodes
        for node in range(scenario.numa_nodes):
            last = node == scenario.numa_nodes - 1
            size = memory_mib - share * node if last else share
            upto = scenario.cpus - 1 if last else (node + 1) * cpus - 1
            words += ["-object", f"memory-backend-ram,id=ram{node},size={size}M"]
            words += ["-numa", f"node,nodeid={node},memdev=ram{node},cpus={node * cpus}-{upto}"]
    return words


def _disk(name: str, path: Path, *, read_only: bool) -> list[str]:
    mode = "on" if read_only else "off"
    drive = f"if=none,id={name},format=raw,readonly={mode},file={_quoted(path)}"
    # The boot ROM's disk driver would only cost seconds.
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={name},serial={name}"]


def _netdev(paths: Paths) -> str:
    if paths.wire is None:
        return "user,id=wire"
    server = "on" if paths.wire_listens else "off"
    return f"stream,id=wire,server={server},addr.type=unix,addr.path={_quoted(paths.wire)}"


def _mac(paths: Paths) -> str:
    return "52:54:00:12:34:57" if paths.wire_listens else "52:54:00:12:34:56"


def _quoted(path: Path) -> str:
    """A path inside an option of QEMU's, where a comma is doubled."""
    return str(path).replace(",", ",,")
