"""A guest's kernel read from outside: on made memory, and against what the guest says itself."""

from __future__ import annotations

import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tidegate.errors import BadInput, Unsupported
from tidegate.host.procfs import zoneinfo
from tidegate.rig import kernels, ram
from tidegate.rig.initramfs import Entry, cpio
from tidegate.rig.kernels import Debian, Flavour
from tidegate.rig.tools import missing, program
from tidegate.rig.vmlinux import uncompressed
from tidegate.units import GIB, MIB
from tidegate.watermarks import Zone

_INIT = """\
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b cat /proc/zoneinfo >/dev/ttyS1; $b cat /proc/stat >/dev/ttyS1; echo the end >/dev/ttyS1
$b sleep 1000
"""


def initramfs() -> bytes:
    return cpio({
        "bin": Entry(mode=stat.S_IFDIR | 0o755),
        "dev": Entry(mode=stat.S_IFDIR | 0o755),
        "proc": Entry(mode=stat.S_IFDIR | 0o755),
        "dev/console": Entry(mode=stat.S_IFCHR | 0o600, device=(5, 1)),
        "dev/ttyS1": Entry(mode=stat.S_IFCHR | 0o600, device=(4, 65)),
        "bin/busybox": Entry(mode=stat.S_IFREG | 0o755, data=program("busybox").read_bytes()),
        "init": Entry(mode=stat.S_IFREG | 0o755, data=_INIT.encode()),
    })  # fmt: skip


def ram_words(folder: Path, mib: Sequence[int], cpus: int) -> list[str]:
    words = ["-m", f"{sum(mib)}M", "-smp", str(cpus)]
    for node, size in enumerate(mib):
        words += ["-object", f"memory-backend-file,id=ram{node},size={size}M,mem-path={folder}/ram{node},share=on"]
        if len(mib) > 1:
            words += ["-numa", f"node,nodeid={node},memdev=ram{node},cpus={node}"]
    return [*words, "-machine", "pc,usb=off" + (",memory-backend=ram0" if len(mib) == 1 else "")]


@contextmanager
def running(folder: Path, kernel: kernels.Kernel, mib: Sequence[int], cpus: int) -> Iterator[str]:
    """A guest that has said what /proc/zoneinfo holds, and then only sleeps."""
    (folder / "initramfs").write_bytes(initramfs())
    words = ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"]
    words += ["-accel", "tcg,thread=single", *ram_words(folder, mib, cpus)]
    words += ["-kernel", str(uncompressed(kernel.vmlinuz)), "-initrd", str(folder / "initramfs")]
    words += ["-append", "console=ttyS0 panic=-1 nokaslr quiet"]
    words += ["-serial", f"file:{folder}/console", "-serial", f"file:{folder}/said"]
    guest = subprocess.Popen([str(program("qemu-system-x86_64")), *words])
    try:
        limit = time.monotonic() + 120
        while "the end" not in (said := read(folder / "said")):
            assert guest.poll() is None, read(folder / "console")
            assert time.monotonic() < limit, read(folder / "console")
            time.sleep(0.1)
        yield said
    finally:
        guest.kill()
        guest.wait()


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def told_zones(said: str) -> list[Zone]:
    text = said.replace("\r", "").partition("\ncpu")[0]
    return [zone for zone in zoneinfo(text + "\n") if zone.managed]
