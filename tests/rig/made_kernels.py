"""Kernels that boot nowhere: what a boot image says of itself, and files as a package has them."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

RELEASE = "6.1.0-9-made"
MODULES = ("kernel/drivers/net/e1000/e1000.ko", "kernel/drivers/block/nbd.ko", "kernel/fs/nfs/nfs.ko")


def image(release: str = RELEASE) -> bytes:
    """The beginning of a bzImage: a setup header that tells the release."""
    head = bytearray(4096)
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20E, 0x600)
    text = f"{release} (made@here) #1 SMP".encode()
    head[0x800 : 0x800 + len(text)] = text
    return bytes(head)


def lay_out(root: Path, *, release: str = RELEASE, lib: str = "lib", boot: bool = True) -> Path:
    """The files of a kernel's package below `root`; its image."""
    modules = root / lib / "modules" / release
    for name in MODULES:
        path = modules / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (modules / "modules.dep").write_text("".join(f"{name}:\n" for name in MODULES))
    (modules / "modules.builtin").write_text("kernel/drivers/virtio/virtio_pci.ko\nkernel/fs/nfs/nfsv3.ko\n")
    place = root / f"boot/vmlinuz-{release}" if boot else modules / "vmlinuz"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(image(release))
    return place


def deb(folder: Path, *, modules: bool = True, boot: bool = True) -> Path:
    """A Debian package of such a kernel, made with dpkg-deb."""
    tree = folder / "tree"
    vmlinuz = lay_out(tree)
    if not boot:
        vmlinuz.unlink()
    if not modules:
        subprocess.run(["rm", "-r", tree / "lib"], check=True)
    (tree / "DEBIAN").mkdir()
    control = (
        "Package: linux-image-made\nVersion: 6.1.9-1\nArchitecture: amd64\nMaintainer: x <x@example.org>\n"
    )
    (tree / "DEBIAN/control").write_text(control + "Description: made\n")
    made = folder / "linux-image-made.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, made], check=True, capture_output=True)
    return made
