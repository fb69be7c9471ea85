"""The tiny initramfs: busybox, the modules that the disks need, and an `init` that finds the disks by name.

It holds nothing that stays: `init` mounts the read-only root, moves there and frees what the initramfs took.
"""

from __future__ import annotations

import lzma
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.rig.kernels import Kernel, needed_modules
from tidegate.rig.tools import program

# Names the rig gives its disks (virtio-blk `serial`, shown in /sys/block/*/serial).
ROOT_DISK, MODULES_DISK, JOB_DISK, OUT_DISK = "tg-root", "tg-modules", "tg-job", "tg-out"
# What the root needs before the guest's own modprobe can be used; what is built in is skipped.
EARLY_MODULES = ("virtio_pci", "virtio_blk", "squashfs", "overlay")
CONSOLE_SAYS_LOST = "tidegate-rig: lost:"

_INIT = """\
#!/bin/busybox sh
# Finds the rig's disks, puts the read-only root under a thin tmpfs and goes there.
b=/bin/busybox
lost() {{ echo "{lost} $*"; echo o >/proc/sysrq-trigger; $b sleep 30; }}
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
for module in {modules}; do $b insmod /modules/$module || lost "insmod $module"; done
disk() {{
    tries=0
    while [ $tries -lt 100 ]; do
        for entry in /sys/block/vd*; do
            serial=$($b cat $entry/serial 2>/dev/null)
            if [ "$serial" = "$1" ]; then echo /dev/$($b basename $entry); return; fi
        done
        tries=$((tries + 1)); $b usleep 100000
    done
}}
root=$(disk {root}); job=$(disk {job}); modules=$(disk {modules_disk})
$b mount -t squashfs -o ro "$root" /lower || lost "root disk $root"
$b mount -t tmpfs -o size=50% over /over
$b mkdir /over/upper /over/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/over/upper,workdir=/over/work root /new || lost overlay
$b mkdir -p /new/job /new/usr/lib/modules
$b mount -t squashfs -o ro "$job" /new/job || lost "job disk $job"
$b mount -t squashfs -o ro "$modules" /new/usr/lib/modules || lost "modules disk $modules"
$b mount --move /dev /new/dev
$b mount --move /proc /new/proc
$b mount --move /sys /new/sys
exec $b switch_root /new /job/agent || lost switch_root
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a cpio archive; a directory has no data."""

    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)  # major and minor of a device node


def cpio(entries: Mapping[str, Entry]) -> bytes:
    """A cpio archive in the "newc" format that the kernel unpacks.

    Documentation/driver-api/early-userspace/buffer-format.rst. Owner root and time 0 throughout: the same
    entries give the same bytes.
    """
    out = bytearray()
    for number, (name, entry) in enumerate([*entries.items(), ("TRAILER!!!", Entry(mode=0))], start=1):
        raw = name.encode() + b"\0"
        fields = (number, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, *entry.device, len(raw), 0)
        out += b"070701" + "".join(f"{value:08x}" for value in fields).encode() + raw
        out += bytes(-len(out) % 4)
        out += entry.data
        out += bytes(-len(out) % 4)
    return bytes(out)


def init_script(modules: Sequence[str]) -> str:
    """The initramfs's first program, which loads these module files in this order."""
    return _INIT.format(
        lost=CONSOLE_SAYS_LOST,
        modules=" ".join(modules),
        root=ROOT_DISK,
        job=JOB_DISK,
        modules_disk=MODULES_DISK,
    )


def build(kernel: Kernel) -> bytes:
    """The initramfs for a kernel, uncompressed: unpacking would be the slowest part of an emulated boot."""
    paths = needed_modules((kernel.modules / "modules.dep").read_text(), EARLY_MODULES)
    directory = Entry(mode=stat.S_IFDIR | 0o755)
    entries = dict.fromkeys(("bin", "dev", "proc", "sys", "lower", "over", "new", "modules"), directory)
    # The kernel opens /dev/console before init has mounted anything.
    entries["dev/console"] = Entry(mode=stat.S_IFCHR | 0o600, device=(5, 1))
    entries["bin/busybox"] = Entry(mode=stat.S_IFREG | 0o755, data=program("busybox").read_bytes())
    names = []
    for path in paths:
        name = Path(path).name.removesuffix(".xz")
        names.append(name)
        data = module_bytes(kernel.modules / path)
        entries[f"modules/{name}"] = Entry(mode=stat.S_IFREG | 0o644, data=data)
    entries["init"] = Entry(mode=stat.S_IFREG | 0o755, data=init_script(names).encode())
    return cpio(entries)


def module_bytes(path: Path) -> bytes:
    """A module as the kernel wants it; others hold .ko.xz or .ko.zst, which it may not unpack."""
    raw = path.read_bytes()
    if path.suffix == ".zst":
        return subprocess.run([program("zstd"), "-dc", path], capture_output=True, check=True).stdout  # noqa: S603
    return lzma.decompress(raw) if path.suffix == ".xz" else raw
